//! A gradient that lies across: its memory order differs from its parameter's, as with `dW.T`.
//!
//! Read along the parameter's fastest axis, each element of such a gradient lies on another cache
//! line. The two axes are therefore cut into tiles of [`ROWS`] by [`COLUMNS`]: each cache line of
//! the gradient is read once, completely, and its elements are copied into the rows of the tile.

#![allow(unsafe_code)] // reads the arrays of a tensor

use crate::array::layout::{Axis, Layout};
use crate::array::pointer::{ARRAYS, GRADIENT, Pointer, cast};
use crate::array::prefetch;
use crate::array::storage::dither::Dither;
use crate::array::storage::{Decoding, Encoding, match_narrow, match_whole};
use crate::number::element::Element;

/// Elements per tile along the axis on which the gradient is dense: one cache line of `f32`.
pub(crate) const ROWS: usize = 16;

/// Elements per tile along the axis on which the parameter is dense.
pub(crate) const COLUMNS: usize = 256;

/// Capacity of a tile in elements.
pub(crate) const AREA: usize = ROWS * COLUMNS;

/// Prefetch distance in columns.
const AHEAD: isize = 16;

/// A row of a gathered tile. The padding keeps the rows of a panel from competing for the same
/// cache sets.
type Row<E> = [E; COLUMNS + PADDING];
const PADDING: usize = 16;

/// The gathered gradient of a tile, row by row.
pub(crate) type Panel<E> = [Row<E>; ROWS];

/// A traversal cut into tiles along two axes, repeated for each index of the other axes.
#[derive(Clone, Debug)]
pub(crate) struct Tiling {
    outer: Vec<Axis<ARRAYS>>,
    /// The axis on which the gradient has its smallest stride.
    rows: Axis<ARRAYS>,
    /// The axis on which the parameter has its smallest stride.
    columns: Axis<ARRAYS>,
    /// Rows missing from the first tile, so that tiles start where cache lines of the gradient do.
    skew: usize,
}

/// The position and extent of one tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    /// Bytes from each array's address to its first element in the tile.
    offsets: [isize; ARRAYS],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Tiling {
    /// The tiles of a traversal in the order of the parameter's memory, or `None` if reading the
    /// gradient in that order is as good.
    pub(crate) fn of(layout: &Layout<ARRAYS>, gradient: Pointer) -> Option<Self> {
        let reach = |axis: &Axis<ARRAYS>| axis.strides[GRADIENT].unsigned_abs();
        let (columns, others) = layout.axes().split_last()?;
        let (at, rows) = others.iter().enumerate().min_by_key(|(_, axis)| reach(axis))?;
        if !crosses(rows, columns, GRADIENT) {
            return None;
        }
        let size = gradient.storage.size();
        let line = ROWS * size;
        let skew = match rows.strides[GRADIENT] == size as isize {
            true => gradient.address.addr() % line / size,
            false => 0,
        };
        let mut outer = others.to_vec();
        let rows = outer.remove(at);
        Some(Tiling { outer, rows, columns: *columns, skew })
    }

    fn row_tiles(&self) -> usize {
        (self.skew + self.rows.len).div_ceil(ROWS)
    }

    fn column_tiles(&self) -> usize {
        self.columns.len.div_ceil(COLUMNS)
    }

    /// The number of tiles.
    pub(crate) fn count(&self) -> usize {
        let outer: usize = self.outer.iter().map(|axis| axis.len).product();
        outer * self.row_tiles() * self.column_tiles()
    }

    /// The tile numbered `index`.
    pub(crate) fn tile(&self, index: usize) -> Tile {
        let (index, column) = (index / self.column_tiles(), index % self.column_tiles());
        let (mut index, row) = (index / self.row_tiles(), index % self.row_tiles());
        let (first, first_column) = ((row * ROWS).saturating_sub(self.skew), column * COLUMNS);
        let last = ((row + 1) * ROWS - self.skew).min(self.rows.len);
        let mut offsets = [0; ARRAYS];
        let mut go = |axis: &Axis<ARRAYS>, by: usize| {
            for (offset, stride) in offsets.iter_mut().zip(axis.strides) {
                *offset += by as isize * stride;
            }
        };
        go(&self.rows, first);
        go(&self.columns, first_column);
        for axis in self.outer.iter().rev() {
            go(axis, index % axis.len);
            index /= axis.len;
        }
        let columns = (self.columns.len - first_column).min(COLUMNS);
        Tile { offsets, rows: last - first, columns }
    }

    /// Row `row` of array `k` in a tile.
    #[inline(always)]
    pub(crate) fn row(&self, pointer: Pointer, k: usize, tile: Tile, row: usize) -> Line {
        let offset = tile.offsets[k] + row as isize * self.rows.strides[k];
        let address = pointer.address.wrapping_offset(offset);
        Line { pointer: Pointer { address, ..pointer }, stride: self.columns.strides[k] }
    }

    /// The gradient of a tile.
    #[inline(always)]
    pub(crate) fn patch(&self, gradient: Pointer, tile: Tile) -> Patch {
        let address = gradient.address.wrapping_offset(tile.offsets[GRADIENT]);
        Patch {
            corner: Pointer { address, ..gradient },
            down: self.rows.strides[GRADIENT],
            right: self.columns.strides[GRADIENT],
            rows: tile.rows,
            columns: tile.columns,
        }
    }
}

/// A part of an array, up to [`ROWS`] by [`COLUMNS`] elements, that lies across.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    /// Pointer to the first element.
    pub(crate) corner: Pointer,
    /// Bytes from one row to the next.
    pub(crate) down: isize,
    /// Bytes from one column to the next.
    pub(crate) right: isize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Patch {
    /// Copies the patch into `panel`, cast to `E`.
    ///
    /// # Safety
    ///
    /// The patch lies in an array that is valid and not written during the call.
    #[inline(always)]
    pub(crate) unsafe fn gather<E: Element>(self, panel: &mut Panel<E>) {
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_whole!(self.corner.storage, S => self.gather_from::<S, E>(panel));
            if self.corner.storage.is_narrow() {
                self.gather_apart(panel);
            }
        }
    }

    /// [`Patch::gather`] of narrow storages, once for all callers and CPU levels.
    ///
    /// # Safety
    ///
    /// As [`Patch::gather`].
    #[inline(never)]
    unsafe fn gather_apart<E: Element>(self, panel: &mut Panel<E>) {
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe { match_narrow!(self.corner.storage, S => self.gather_from::<S, E>(panel)) }
    }

    /// # Safety
    ///
    /// As [`Patch::gather`], with elements of type `S`.
    #[inline(always)]
    unsafe fn gather_from<S: Decoding, E: Element>(self, panel: &mut Panel<E>) {
        let Patch { corner: Pointer { address, .. }, down, right, rows, columns } = self;
        let whole = rows == ROWS && down == size_of::<S>() as isize;
        for column in 0..columns {
            let top = address.wrapping_offset(column as isize * right);
            if whole {
                let line = top.cast::<[S; ROWS]>();
                prefetch::at(line.wrapping_byte_offset(AHEAD * right));
                // SAFETY: the patch lies in the array, and its columns are dense.
                let line = unsafe { line.read_unaligned() };
                for (row, value) in panel.iter_mut().zip(line) {
                    row[column] = cast(value.decode());
                }
            } else {
                for (i, row) in panel[..rows].iter_mut().enumerate() {
                    let at = top.wrapping_offset(i as isize * down).cast::<S>();
                    // SAFETY: the patch lies in the array.
                    row[column] = cast(unsafe { at.read_unaligned() }.decode());
                }
            }
        }
    }
}

/// A panel of zeros.
pub(crate) fn panel<E: Element>() -> Panel<E> {
    [[E::ZERO; COLUMNS + PADDING]; ROWS]
}

/// Elements of a whole array that is written, at a constant stride.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pointer: Pointer,
    /// In bytes.
    stride: isize,
}

impl Line {
    /// The first element.
    pub(crate) fn pointer(self) -> Pointer {
        self.pointer
    }

    /// Whether the elements are used where they lie.
    pub(crate) fn is_slice(self) -> bool {
        self.pointer.storage.is_plain() && self.stride == self.pointer.storage.size() as isize
    }

    /// The elements: in place if they are a slice, else copied to `buffer`, which has their length.
    ///
    /// # Safety
    ///
    /// The elements are valid, have the element type `E`, and nothing else reads or writes them
    /// during the call. Plain elements are aligned.
    #[inline(always)]
    pub(crate) unsafe fn open<E: Element>(self, buffer: &mut [E]) -> &mut [E] {
        if self.is_slice() {
            // SAFETY: the caller's promise.
            return unsafe { self.pointer.slice_mut(0, buffer.len()) };
        }
        match_whole!(self.pointer.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
            for (i, to) in buffer.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *to = cast(unsafe { self.element::<S>(i).read_unaligned() }.decode());
            }
        });
        buffer
    }

    /// Writes the elements back from the buffer to which [`Line::open`] copied them.
    ///
    /// # Safety
    ///
    /// As [`Line::open`].
    #[inline(always)]
    pub(crate) unsafe fn close<E: Element>(self, buffer: &[E]) {
        if self.is_slice() {
            return;
        }
        let dither = Dither::default();
        match_whole!(self.pointer.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
            for (i, from) in buffer.iter().enumerate() {
                let stored = S::encode(S::prepared(cast(*from)), &dither);
                // SAFETY: the caller's promise.
                unsafe { self.element::<S>(i).write_unaligned(stored) }
            }
        });
    }

    fn element<S: Encoding>(self, i: usize) -> *mut S {
        self.pointer.address.wrapping_offset(i as isize * self.stride).cast()
    }
}

/// Whether neighbours in memory lie on different rows of the array's logical order.
pub(crate) fn lies_across(layout: &Layout<1>) -> bool {
    let [.., rows, columns] = layout.axes() else { return false };
    !layout.has_rows(0) && crosses(rows, columns, 0)
}

/// Whether array `k` has a smaller stride along the rows' axis than along the columns', and both
/// axes are long enough for tiles.
fn crosses<const K: usize>(rows: &Axis<K>, columns: &Axis<K>, k: usize) -> bool {
    let reach = |axis: &Axis<K>| axis.strides[k].unsigned_abs();
    reach(rows) < reach(columns) && rows.len.min(columns.len) >= ROWS / 2
}

/// Copies elements `start..` of an array in logical order, cast to `E`. If the array lies across,
/// whole rows are copied patch by patch.
///
/// # Safety
///
/// The array lies at `pointer` in memory that is valid and not written during the call, and the
/// layout has `start + to.len()` elements.
#[inline(always)]
pub(crate) unsafe fn read<E: Element>(
    pointer: Pointer,
    layout: &Layout<1>,
    start: usize,
    to: &mut [E],
) {
    // SAFETY: the caller's promise, here and below.
    let line = |start: usize, to: &mut [E]| unsafe { pointer.read(layout, 0, start, to) };
    let [.., rows, columns] = layout.axes() else { return line(start, to) };
    if !lies_across(layout) {
        return line(start, to);
    }
    let width = columns.len;
    let head = (start.next_multiple_of(width) - start).min(to.len());
    let (first, rest) = to.split_at_mut(head);
    line(start, first);
    let whole = rest.len() / width;
    let (body, last) = rest.split_at_mut(whole * width);
    line(start + head + whole * width, last);

    let mut panel = panel::<E>();
    let mut done = 0;
    while done < whole {
        let row = (start + head) / width + done;
        let count = ROWS.min(rows.len - row % rows.len).min(whole - done);
        let offset = layout.offset(0, row * width);
        for column in (0..width).step_by(COLUMNS) {
            let offset = offset + column as isize * columns.strides[0];
            let patch = Patch {
                corner: Pointer { address: pointer.address.wrapping_offset(offset), ..pointer },
                down: rows.strides[0],
                right: columns.strides[0],
                rows: count,
                columns: COLUMNS.min(width - column),
            };
            // SAFETY: the rows of the patch lie in the array.
            unsafe { patch.gather(&mut panel) };
            for (i, row) in panel[..count].iter().enumerate() {
                let at = (done + i) * width + column;
                body[at..at + patch.columns].copy_from_slice(&row[..patch.columns]);
            }
        }
        done += count;
    }
}
