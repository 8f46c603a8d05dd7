//! What an update did, in numbers: norms of gradient, parameter and change, in the same pass.
//!
//! They are summed as the norm of the read pass is, in logical order, so they have the same bits for
//! any threads, strides and CPU level.

use crate::element::Element;
use crate::gather::TILE;
use crate::sums::{self, Blocks, Found, LANES, Lanes};

/// Elements after which sums are taken, of arrays that are slices. Fewer than the kernel asks for
/// ahead, so that memory goes on working meanwhile.
pub(crate) const SPAN: usize = 256;
const _: () = assert!(SPAN.is_multiple_of(LANES) && TILE.is_multiple_of(SPAN));

/// Euclidean norms over one tensor in one update, `f64` for every element type.
///
/// Infinite where the sum of squares overflows, NaN where a number is NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Of the gradient as it was given, `‖g‖`; 0 where it was not asked for.
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

/// Sees an update go by, a tile at a time.
pub(crate) trait Watch<E> {
    /// Whether there is anybody.
    const WATCHES: bool;

    /// The parameter before the update of a tile. Implementations are `#[inline(always)]`.
    fn before(&mut self, p: &[E]);
    /// Gradient and parameter after it.
    fn after(&mut self, g: &[E], p: &[E]);
}

/// Nobody watches.
impl<E> Watch<E> for () {
    const WATCHES: bool = false;

    #[inline(always)]
    fn before(&mut self, _p: &[E]) {}

    #[inline(always)]
    fn after(&mut self, _g: &[E], _p: &[E]) {}
}

/// The running sums of a block, and the parameter as it was.
///
/// Apart from the kernel, on tiles that are in the first-level cache by then: sums of three arrays
/// beside the update want more registers than there are. Measured with AVX-512 and AdamW in cache,
/// what three sums add to an element: 0.8 ns in the kernel, 0.5 here.
pub(crate) struct Squares<E> {
    grad: Lanes,
    parameter: Lanes,
    change: Lanes,
    old: [E; TILE],
    /// Whether the gradient is summed too.
    grads: bool,
}

impl<E: Element> Squares<E> {
    #[inline(always)]
    pub(crate) fn new(grads: bool) -> Self {
        let none = [0.0; LANES];
        Squares { grad: none, parameter: none, change: none, old: [E::ZERO; TILE], grads }
    }

    /// The sums of a block; then another begins.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> [f64; 3] {
        let lanes = [&mut self.grad, &mut self.parameter, &mut self.change];
        lanes.map(|lanes| sums::halved(std::mem::replace(lanes, [0.0; LANES])))
    }
}

impl<E: Element> Watch<E> for Squares<E> {
    const WATCHES: bool = true;

    #[inline(always)]
    fn before(&mut self, p: &[E]) {
        self.old[..p.len()].copy_from_slice(p);
    }

    #[inline(always)]
    fn after(&mut self, g: &[E], p: &[E]) {
        if self.grads {
            sums::add_squares(&mut self.grad, g);
        }
        sums::add_squares(&mut self.parameter, &self.old[..p.len()]);
        // What was there becomes what was added to it. In a loop of its own and of a fixed length,
        // because otherwise the compiler takes half a vector at a time, or gathers single numbers.
        let (olds, _) = self.old.as_chunks_mut::<SPAN>();
        for (old, new) in olds.iter_mut().zip(p.chunks(SPAN)) {
            let mut padded = [E::ZERO; SPAN];
            let new = new.first_chunk().unwrap_or_else(|| {
                padded[..new.len()].copy_from_slice(new);
                &padded
            });
            for (x, new) in old.iter_mut().zip(new) {
                *x = *new - *x;
            }
        }
        sums::add_squares(&mut self.change, &self.old[..p.len()]);
    }
}
