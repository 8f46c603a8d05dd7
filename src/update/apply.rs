//! Applies a rule with a pass: the update of a range of a tensor, at a CPU level.

#![allow(unsafe_code)] // passes on its caller's promises

use crate::array::across::{self, Tiling};
use crate::array::pointer::BUFFER;
use crate::machine::levels::Level;
use crate::number::element::Element;
use crate::number::sums::{BLOCK, Found};
use crate::rule::{Coefficients, Formula, Job};
use crate::update::lines::{Buffers, Lines};
use crate::update::passes::{Across, Slices};
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
    if let Some(Course::Tiles(tiling)) = tensor.course() {
        return coefficients
            .formula(tensor.states(), AcrossJob { tensor, tiling, level, start, len });
    }
    let update = |tensor: &Tensor<'_>, range| {
        let job = SlicesJob { tensor, level, range, statistics: &mut () };
        coefficients.formula(tensor.states(), job);
    };
    // SAFETY: the caller's promise.
    unsafe { in_slices::<E>(tensor, level, (start, len), update) }
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
        let update = |tensor: &Tensor<'_>, range| {
            let job = SlicesJob { tensor, level, range, statistics: &mut squares };
            coefficients.training_formula(tensor.states(), job);
        };
        let block = (start, BLOCK.min(end - start));
        // SAFETY: the caller's promise. A tensor with tiles is never in logical order.
        unsafe { in_slices::<E>(tensor, level, block, update) }
        found.set(squares.take());
    }
}

/// Runs `work` on ranges of tensors of slices that together are this range of `tensor`, which has
/// no tiles.
///
/// # Safety
///
/// As [`update`].
#[inline]
unsafe fn in_slices<E: Element>(
    tensor: &Tensor<'_>,
    level: Level,
    range: (usize, usize),
    mut work: impl FnMut(&Tensor<'_>, (usize, usize)),
) {
    debug_assert_eq!(tensor.kind(), E::KIND);
    match tensor.course() {
        // SAFETY: the caller's promise.
        Some(Course::Lines(lines)) => unsafe { in_buffers::<E>(tensor, lines, level, range, work) },
        _ => work(tensor, range),
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
    mut work: impl FnMut(&Tensor<'_>, (usize, usize)),
) {
    let mut buffers = Buffers::new();
    let arrays = (tensor.pointers(), tensor.states());
    let end = start + len;
    for start in (start..end).step_by(BUFFER) {
        let len = BUFFER.min(end - start);
        // SAFETY: the caller's promise.
        unsafe {
            lines.with::<E>(arrays, level, (start, len), &mut buffers, |slices| {
                work(&Tensor::dense(len, slices, tensor.states(), tensor.order()), (0, len));
            });
        }
    }
}

/// A range of a tensor of slices.
struct SlicesJob<'b, 'a, S> {
    tensor: &'b Tensor<'a>,
    level: Level,
    range: (usize, usize),
    statistics: &'b mut S,
}

impl<E: Element, S: Statistics<E>> Job<E> for SlicesJob<'_, '_, S> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let SlicesJob { tensor, level, range, statistics } = self;
        // SAFETY: the promise of `update`.
        unsafe { level.run(Slices::new(formula, tensor, range, statistics)) }
    }
}

struct AcrossJob<'b, 'a> {
    tensor: &'b Tensor<'a>,
    tiling: &'b Tiling,
    level: Level,
    start: usize,
    len: usize,
}

impl<E: Element> Job<E> for AcrossJob<'_, '_> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let AcrossJob { tensor, tiling, level, start, len } = self;
        let tiles = start / across::AREA..(start + len) / across::AREA;
        // SAFETY: the promise of `update`.
        unsafe { level.run(Across::new(formula, tensor, tiling, tiles)) }
    }
}
