//! Applies a rule with a pass: the update of a range of a tensor, at a CPU level.

#![allow(unsafe_code)] // passes on its caller's promises

use crate::array::across;
use crate::machine::levels::Level;
use crate::number::element::Element;
use crate::number::sums::Found;
use crate::rule::{Coefficients, Formula, Job};
use crate::update::passes::{Across, Block, Buffered, MeasuredBlock, Slices};
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
    debug_assert_eq!(tensor.kind(), E::KIND);
    coefficients.formula(tensor.states(), UpdateJob { tensor, level, start, len });
}

struct UpdateJob<'b, 'a> {
    tensor: &'b Tensor<'a>,
    level: Level,
    start: usize,
    len: usize,
}

impl<E: Element> Job<E> for UpdateJob<'_, '_> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let UpdateJob { tensor, level, start, len } = self;
        // SAFETY: the promise of `update`.
        unsafe {
            match tensor.course() {
                None => level.run(Block::new(&Slices::new(formula, tensor), start, len)),
                Some(Course::Lines(layout)) => {
                    level.run(Block::new(&Buffered::new(formula, tensor, layout), start, len));
                }
                Some(Course::Tiles(tiling)) => {
                    let tiles = start / across::AREA..(start + len) / across::AREA;
                    level.run(Across::new(formula, tensor, tiling, tiles));
                }
            }
        }
    }
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
    debug_assert_eq!(tensor.kind(), E::KIND);
    let job = MeasuredJob { tensor, level, start, len, found, grads };
    coefficients.training_formula(tensor.states(), job);
}

struct MeasuredJob<'b, 'a> {
    tensor: &'b Tensor<'a>,
    level: Level,
    start: usize,
    len: usize,
    found: &'b [Found<3>],
    grads: bool,
}

impl<E: Element> Job<E> for MeasuredJob<'_, '_> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let MeasuredJob { tensor, level, start, len, found, grads } = self;
        let block = (start, len);
        // SAFETY: the promise of `update_measured`.
        unsafe {
            match tensor.course() {
                Some(Course::Lines(layout)) => {
                    let pass = Buffered::new(formula, tensor, layout);
                    level.run(MeasuredBlock::new(&pass, block, found, grads));
                }
                // A tensor with tiles is never in logical order, so it does not get here.
                None | Some(Course::Tiles(_)) => {
                    let pass = Slices::new(formula, tensor);
                    level.run(MeasuredBlock::new(&pass, block, found, grads));
                }
            }
        }
    }
}
