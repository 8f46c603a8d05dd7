//! The ways through a tensor: slices, arrays that pass through buffers, a gradient that lies across.

#![allow(unsafe_code)] // slices of the arrays a tensor holds, one block at a time

use std::marker::PhantomData;
use std::ops::Range;

use crate::array::across::{self, Planes};
use crate::array::layout::Layout;
use crate::array::pointer::TILE;
use crate::machine::levels::Work;
use crate::number::element::Element;
use crate::number::sums::{BLOCK, Found};
use crate::rule::Rule;
use crate::update::kernel;
use crate::update::statistics::{SPAN, Squares, Watch};
use crate::update::tensor::{ARRAYS, GRADIENT, PARAMETER, STATE, Tensor, is_slice};

/// A way that takes elements in the order of the tensor's traversal.
pub(crate) trait Way<E> {
    /// Updates elements `start..start + len` of the traversal; `#[inline(always)]`.
    ///
    /// # Safety
    ///
    /// As [`Tensor::update_block`].
    unsafe fn update<W: Watch<E>>(&self, start: usize, len: usize, watch: &mut W);
}

/// Elements `start..start + len`, that nobody watches.
pub(crate) struct Unwatched<'b, E, W> {
    way: &'b W,
    start: usize,
    len: usize,
    element: PhantomData<E>,
}

impl<'b, E: Element, W: Way<E>> Unwatched<'b, E, W> {
    /// # Safety
    ///
    /// As [`Tensor::update_block`].
    pub(crate) unsafe fn new(way: &'b W, start: usize, len: usize) -> Self {
        Unwatched { way, start, len, element: PhantomData }
    }
}

impl<E: Element, W: Way<E>> Work for Unwatched<'_, E, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // SAFETY: the promise of `new`.
        unsafe { self.way.update(self.start, self.len, &mut ()) }
    }
}

/// Elements `start..start + len`, blocks but the last; what is seen in each is stored.
pub(crate) struct Watched<'b, E, W> {
    way: &'b W,
    start: usize,
    len: usize,
    /// One for each block.
    found: &'b [Found<3>],
    /// Whether the gradient is summed too.
    grads: bool,
    element: PhantomData<E>,
}

impl<'b, E: Element, W: Way<E>> Watched<'b, E, W> {
    /// # Safety
    ///
    /// As [`Tensor::update_block`].
    pub(crate) unsafe fn new(
        way: &'b W,
        start: usize,
        len: usize,
        (found, grads): (&'b [Found<3>], bool),
    ) -> Self {
        Watched { way, start, len, found, grads, element: PhantomData }
    }
}

impl<E: Element, W: Way<E>> Work for Watched<'_, E, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let end = self.start + self.len;
        let mut squares = Squares::new(self.grads);
        for (start, found) in (self.start..end).step_by(BLOCK).zip(self.found) {
            // SAFETY: the promise of `new`.
            unsafe { self.way.update(start, BLOCK.min(end - start), &mut squares) };
            found.set(squares.take());
        }
    }
}

/// All arrays are slices.
pub(crate) struct Slices<'b, 'a, E, R, const N: usize> {
    rule: &'b R,
    tensor: &'b Tensor<'a>,
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, R: Rule<E, N>, const N: usize> Slices<'b, 'a, E, R, N> {
    pub(crate) fn new(rule: &'b R, tensor: &'b Tensor<'a>) -> Self {
        Slices { rule, tensor, element: PhantomData }
    }
}

impl<E: Element, R: Rule<E, N>, const N: usize> Way<E> for Slices<'_, '_, E, R, N> {
    #[inline(always)]
    unsafe fn update<W: Watch<E>>(&self, start: usize, len: usize, watch: &mut W) {
        let pointers = self.tensor.pointers();
        let end = start + len;
        let tile = if W::WATCHES { SPAN } else { len.max(1) };
        for start in (start..end).step_by(tile) {
            let len = tile.min(end - start);
            // SAFETY: without a course all arrays are dense and of this type; ranges are kept apart
            // by the caller.
            let (p, g, state) = unsafe {
                (
                    pointers[PARAMETER].slice_mut(start, len),
                    pointers[GRADIENT].slice(start, len),
                    std::array::from_fn(|k| pointers[STATE + k].slice_mut(start, len)),
                )
            };
            watch.before(p);
            kernel::update(self.rule, p, g, state);
            watch.after(g, p);
        }
    }
}

/// Some arrays pass through buffers, a tile at a time.
pub(crate) struct Tiles<'b, 'a, E, R, const N: usize> {
    rule: &'b R,
    tensor: &'b Tensor<'a>,
    layout: &'b Layout<ARRAYS>,
    in_place: [bool; ARRAYS],
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, R: Rule<E, N>, const N: usize> Tiles<'b, 'a, E, R, N> {
    pub(crate) fn new(rule: &'b R, tensor: &'b Tensor<'a>, layout: &'b Layout<ARRAYS>) -> Self {
        let in_place = std::array::from_fn(|k| {
            let pointer = tensor.pointers()[k];
            pointer.kind == tensor.kind() && is_slice(layout, k, pointer)
        });
        Tiles { rule, tensor, layout, in_place, element: PhantomData }
    }

    /// Array `k` in the tile from `start`, to be written: in place, or copied to `buffer`.
    ///
    /// # Safety
    ///
    /// As [`Tensor::update_block`]; `k` is the parameter or a state array.
    #[inline(always)]
    unsafe fn open<'s>(&self, k: usize, start: usize, tile: &'s mut [E]) -> &'s mut [E] {
        let pointer = self.tensor.pointers()[k];
        // SAFETY: the caller's promise.
        unsafe {
            if self.in_place[k] {
                return pointer.slice_mut(start, tile.len());
            }
            pointer.read_own(self.layout, k, start, tile);
        }
        tile
    }
}

impl<E: Element, R: Rule<E, N>, const N: usize> Way<E> for Tiles<'_, '_, E, R, N> {
    #[inline(always)]
    unsafe fn update<W: Watch<E>>(&self, start: usize, len: usize, watch: &mut W) {
        let (tiles, in_place) = (self, self.in_place);
        let pointers = tiles.tensor.pointers();
        let mut p_buffer = [E::ZERO; TILE];
        let mut g_buffer = [E::ZERO; TILE];
        let mut state_buffers = [[E::ZERO; TILE]; N];

        let end = start + len;
        for start in (start..end).step_by(TILE) {
            let len = TILE.min(end - start);
            // SAFETY: the promise of `Tensor::update_block`; each array is opened once a tile.
            unsafe {
                let g = if in_place[GRADIENT] {
                    pointers[GRADIENT].slice(start, len)
                } else {
                    pointers[GRADIENT].read(tiles.layout, GRADIENT, start, &mut g_buffer[..len]);
                    &g_buffer[..len]
                };
                let p = tiles.open(PARAMETER, start, &mut p_buffer[..len]);
                let mut k = STATE;
                let state = state_buffers.each_mut().map(|buffer| {
                    let s = tiles.open(k, start, &mut buffer[..len]);
                    k += 1;
                    s
                });

                watch.before(p);
                kernel::update(tiles.rule, p, g, state);
                watch.after(g, p);

                if !in_place[PARAMETER] {
                    pointers[PARAMETER].write(tiles.layout, PARAMETER, start, &p_buffer[..len]);
                }
                for (k, buffer) in (STATE..).zip(&state_buffers) {
                    if !in_place[k] {
                        pointers[k].write(tiles.layout, k, start, &buffer[..len]);
                    }
                }
            }
        }
    }
}

/// Tiles of a tensor whose gradient lies across.
pub(crate) struct Across<'b, 'a, E, R, const N: usize> {
    rule: &'b R,
    tensor: &'b Tensor<'a>,
    planes: &'b Planes,
    tiles: Range<usize>,
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, R: Rule<E, N>, const N: usize> Across<'b, 'a, E, R, N> {
    /// # Safety
    ///
    /// As [`Tensor::update_block`], for the elements of these tiles.
    pub(crate) unsafe fn new(
        rule: &'b R,
        tensor: &'b Tensor<'a>,
        planes: &'b Planes,
        tiles: Range<usize>,
    ) -> Self {
        Across { rule, tensor, planes, tiles, element: PhantomData }
    }
}

impl<E: Element, R: Rule<E, N>, const N: usize> Work for Across<'_, '_, E, R, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (pointers, planes) = (self.tensor.pointers(), self.planes);
        let gradient = pointers[GRADIENT];
        let mut panel = across::panel::<E>();
        let mut p_buffer = [E::ZERO; across::COLUMNS];
        let mut state_buffers = [[E::ZERO; across::COLUMNS]; N];
        for index in self.tiles {
            let tile = planes.tile(index);
            // SAFETY: the promise of `new`; tiles have no element in common, nor
            // have the rows of a tile, and each array is opened once a row.
            unsafe {
                planes.patch(gradient, tile).gather(&mut panel);
                for (row, g) in panel[..tile.rows].iter().enumerate() {
                    let line = |k: usize| planes.row(pointers[k], k, tile, row);
                    let p = line(PARAMETER).open(&mut p_buffer[..tile.columns]);
                    let mut k = STATE;
                    let state = state_buffers.each_mut().map(|buffer| {
                        let s = line(k).open(&mut buffer[..tile.columns]);
                        k += 1;
                        s
                    });
                    kernel::update(self.rule, p, &g[..tile.columns], state);
                    line(PARAMETER).close(&p_buffer[..tile.columns]);
                    for (k, buffer) in (STATE..).zip(&state_buffers) {
                        line(k).close(&buffer[..tile.columns]);
                    }
                }
            }
        }
    }
}
