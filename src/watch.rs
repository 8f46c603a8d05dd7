//! What an update did, in numbers: norms of gradient, parameter and change, in the same pass.
//!
//! They are summed as the norm of the read pass is, in logical order, so they have the same bits for
//! any threads, strides and CPU level.

use crate::element::Element;
use crate::kernel::{CHUNK, Watch};
use crate::sums::{self, Blocks, Found, LANES, Lanes};

const _: () = assert!(CHUNK == LANES, "a chunk is a row of the sums");

/// Euclidean norms over one tensor in one update, `f64` for every element type.
///
/// Infinite where the sum of squares overflows, NaN where a number is NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Of the gradient as it was given, `‖g‖`.
    pub grad: f64,
    /// Of the parameter before the update, `‖p‖`.
    pub parameter: f64,
    /// Of what the update added to it, `‖p' - p‖`, each difference rounded to the parameter's type.
    pub change: f64,
}

impl Norms {
    pub(crate) fn of(index: usize, blocks: &Blocks<3>) -> Self {
        let found = blocks.of(index).iter().map(Found::get);
        let sums = found.fold([0.0; 3], |sums, block| std::array::from_fn(|k| sums[k] + block[k]));
        let [grad, parameter, change] = sums.map(f64::sqrt);
        Norms { grad, parameter, change }
    }
}

/// The running sums of a block.
#[derive(Clone, Copy)]
pub(crate) struct Squares {
    grad: Lanes,
    parameter: Lanes,
    change: Lanes,
}

impl Squares {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Squares { grad: [0.0; LANES], parameter: [0.0; LANES], change: [0.0; LANES] }
    }

    #[inline(always)]
    pub(crate) fn totals(self) -> [f64; 3] {
        [self.grad, self.parameter, self.change].map(sums::halved)
    }
}

impl<E: Element> Watch<E> for Squares {
    #[inline(always)]
    fn see(&mut self, g: &[E; CHUNK], old: &[E; CHUNK], new: &[E; CHUNK]) {
        let change: [E; CHUNK] = std::array::from_fn(|i| new[i] - old[i]);
        self.grad = sums::with_squares(self.grad, g, |x| x);
        self.parameter = sums::with_squares(self.parameter, old, |x| x);
        self.change = sums::with_squares(self.change, &change, |x| x);
    }
}
