//! Applies a rule with a pass: the update of a range of a tensor, at a CPU level.

#![allow(unsafe_code)] // passes on its caller's promises

use crate::array::across::{self, Tiling};
use crate::array::pointer::{ARRAYS, BUFFER, GRADIENT, PARAMETER, Pointer, STATE};
use crate::machine::levels::Level;
use crate::number::element::Element;
use crate::number::sums::{BLOCK, Found};
use crate::rule::{Coefficients, Formula, Job};
use crate::update::kernel::{Aligned, Following, Next};
use crate::update::lines::{Buffers, Lines};
use crate::update::passes::{Gather, Row, Slices};
use crate::update::statistics::{Squares, Statistics};
use crate::update::tensor::{Course, Tensor};

/// Updates positions `start..start + len` of a tensor. The range starts at a multiple of
/// [`GRAIN`](super::tensor::GRAIN) and ends at one or at the end of the tensor.
///
/// # Safety
///
/// The coefficients fit the tensor's type and number of state arrays, the range is inside the
/// tensor, and no other call for an overlapping range runs at the same time.
pub(crate) unsafe fn update<E: Element>(
    tensor: &Tensor<'_>,
    coefficients: &Coefficients<E>,
    level: Level,
    start: usize,
    len: usize,
) {
    let update = |rows: &[Row], range| {
        let job = SlicesJob { rows, level, range, statistics: &mut (), next: Following };
        coefficients.formula(tensor.states(), job);
    };
    if cfg!(feature = "rows")
        && let Some(Course::Lines(lines)) = tensor.course()
        && let Some(width) = lines.width()
    {
        // SAFETY: the caller's promise.
        return unsafe { in_rows(tensor, (lines, width), coefficients, level, (start, len)) };
    }
    // SAFETY: the caller's promise.
    unsafe { in_slices::<E>(tensor, level, (start, len), update) }
}

/// As [`update`], for arrays that are taken by rows of this width, which are slices.
///
/// # Safety
///
/// As [`update`].
#[inline(never)]
unsafe fn in_rows<E: Element>(
    tensor: &Tensor<'_>,
    (lines, width): (&Lines, usize),
    coefficients: &Coefficients<E>,
    level: Level,
    range: (usize, usize),
) {
    let arrays = (tensor.pointers(), tensor.states());
    lines.in_rows(arrays, width, range, |row, range, next| {
        let rows = std::slice::from_ref(&row);
        let job = SlicesJob { rows, level, range, statistics: &mut (), next };
        coefficients.formula(arrays.1, job);
    });
}

/// As [`update`], and stores the sums of squares of each block in `found`; those of the gradient
/// only if `grads`. The range starts at a multiple of [`BLOCK`](crate::number::sums::BLOCK) and
/// ends at one or at the end of the tensor. The tensor is in logical order, and the rule trains.
///
/// # Safety
///
/// As [`update`].
pub(crate) unsafe fn update_measured<E: Element>(
    tensor: &Tensor<'_>,
    coefficients: &Coefficients<E>,
    level: Level,
    (start, len): (usize, usize),
    (found, grads): (&[Found<3>], bool),
) {
    let mut squares = Squares::new(grads);
    let end = start + len;
    for (start, found) in (start..end).step_by(BLOCK).zip(found) {
        let update = |rows: &[Row], range| {
            let statistics = &mut squares;
            let job = SlicesJob { rows, level, range, statistics, next: Following };
            coefficients.training_formula(tensor.states(), job);
        };
        let block = (start, BLOCK.min(end - start));
        // SAFETY: the caller's promise. A tensor in logical order has no tiles, whose positions are
        // more than its elements.
        unsafe { in_slices::<E>(tensor, level, block, update) }
        found.set(squares.take());
    }
}

/// Runs `work` on a range of rows of slices, as often as it takes for this range of `tensor`.
///
/// # Safety
///
/// As [`update`].
#[inline]
unsafe fn in_slices<E: Element>(
    tensor: &Tensor<'_>,
    level: Level,
    range: (usize, usize),
    mut work: impl FnMut(&[Row], (usize, usize)),
) {
    debug_assert_eq!(tensor.kind(), E::KIND);
    match tensor.course() {
        // SAFETY: the caller's promise.
        Some(Course::Lines(lines)) => unsafe { in_buffers::<E>(tensor, lines, level, range, work) },
        // SAFETY: the caller's promise.
        Some(Course::Tiles(tiling)) => unsafe { in_tiles::<E>(tensor, tiling, level, range, work) },
        None => work(std::slice::from_ref(tensor.pointers()), range),
    }
}

/// As [`in_slices`], for a tensor whose arrays are not all slices. It has a frame of its own: on
/// entry, a function touches every page of its frame.
///
/// # Safety
///
/// As [`update`].
#[inline(never)]
unsafe fn in_buffers<E: Element>(
    tensor: &Tensor<'_>,
    lines: &Lines,
    level: Level,
    (start, len): (usize, usize),
    mut work: impl FnMut(&[Row], (usize, usize)),
) {
    let mut buffers = Buffers::new();
    let arrays = (tensor.pointers(), tensor.states());
    let end = start + len;
    if lines.have_rows() {
        lines.request(arrays.0, arrays.1, (start, BUFFER));
    }
    for start in (start..end).step_by(BUFFER) {
        let len = BUFFER.min(end - start);
        if lines.have_rows() {
            lines.request(arrays.0, arrays.1, (start + len, BUFFER));
        }
        // SAFETY: the caller's promise.
        unsafe {
            lines.with::<E>(arrays, level, (start, len), &mut buffers, |slices| {
                work(&[slices], (0, len));
            });
        }
    }
}

/// As [`in_buffers`], for a tensor whose gradient lies across: tile by tile, the rows of which are
/// updated together if they are slices.
///
/// # Safety
///
/// As [`update`].
#[inline(never)]
unsafe fn in_tiles<E: Element>(
    tensor: &Tensor<'_>,
    tiling: &Tiling,
    level: Level,
    (start, len): (usize, usize),
    mut work: impl FnMut(&[Row], (usize, usize)),
) {
    let (pointers, states) = (tensor.pointers(), tensor.states());
    let written = || std::iter::once(PARAMETER).chain(STATE..STATE + states);
    let mut panel = Aligned(across::panel::<E>());
    let mut buffers = Aligned([[E::ZERO; across::COLUMNS]; ARRAYS]);
    let mut rows = [*pointers; across::ROWS];
    for index in start / across::AREA..(start + len) / across::AREA {
        let tile = tiling.tile(index);
        let line = |k: usize, row: usize| tiling.row(pointers[k], k, tile, row);
        // SAFETY: the caller's promise; tiles are disjoint, and so are the rows of a tile; each array
        // is opened once per row.
        unsafe {
            level.run(Gather::new(tiling.patch(pointers[GRADIENT], tile), &mut panel.0));
            let rows = &mut rows[..tile.rows];
            for (row, (slices, g)) in rows.iter_mut().zip(&mut panel.0).enumerate() {
                written().for_each(|k| slices[k] = line(k, row).pointer());
                slices[GRADIENT] = Pointer::of(g.as_mut_ptr());
            }
            if written().all(|k| line(k, 0).is_slice()) {
                work(rows, (0, tile.columns));
                continue;
            }
            for (row, slices) in rows.iter_mut().enumerate() {
                for k in written() {
                    let slice = line(k, row).open(&mut buffers.0[k][..tile.columns]);
                    slices[k] = Pointer::of(slice.as_mut_ptr());
                }
                work(std::slice::from_ref(slices), (0, tile.columns));
                for k in written() {
                    line(k, row).close(&buffers.0[k][..tile.columns]);
                }
            }
        }
    }
}

/// A range of rows of slices.
struct SlicesJob<'b, S, X> {
    rows: &'b [Row],
    level: Level,
    range: (usize, usize),
    statistics: &'b mut S,
    next: X,
}

impl<E: Element, S: Statistics<E>, X: Next> Job<E> for SlicesJob<'_, S, X> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let SlicesJob { rows, level, range, statistics, next } = self;
        // SAFETY: the promise of `update`.
        unsafe { level.run(Slices::new(formula, rows, range, statistics, next)) }
    }
}
