//! Statistics of an update: norms of gradient, parameter and change, taken in the same pass.
//!
//! Sums follow the logical order, as in the read pass, so their bits do not depend on threads,
//! strides or CPU level. Squares of parameter and change are first summed in the parameter's own
//! type over runs of 16 rows, which halves the work and is precise enough for statistics.

use std::hint::black_box;

use crate::array::pointer::BUFFER;
use crate::number::element::Element;
use crate::number::sums::{self, Blocks, Found, LANES, Lanes, RUN_LEN};

/// Elements of a slice between two updates of the sums. For `f32` this is less than the kernel's
/// prefetch distance (384 elements), so memory stays busy during the sums.
pub(crate) const SPAN: usize = 256;
const _: () = assert!(SPAN.is_multiple_of(RUN_LEN) && BUFFER.is_multiple_of(SPAN));

/// Whether the compiler must be kept from worse code than that of full vectors. Elsewhere it makes
/// these of itself, and is slower if it is kept from them.
const BARRIERS: bool = cfg!(target_arch = "aarch64");

/// Euclidean norms over one tensor in one update, `f64` for every element type.
///
/// Infinite if squares overflow, NaN if an element is NaN. Squares of parameter and change have the
/// parameter's type; magnitudes whose square would not be normal there count as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Of the given gradient, `‖g‖`; 0 if not requested.
    pub grad: f64,
    /// Of the parameter before the update, `‖p‖`.
    pub parameter: f64,
    /// Of the change, `‖p' - p‖`, with each difference rounded to the parameter's type.
    pub change: f64,
}

impl Norms {
    pub(crate) fn of(index: usize, blocks: &Blocks<3>) -> Self {
        let found = blocks.of(index).iter().map(Found::get);
        let sums = found.fold([0.0; 3], |sums, block| std::array::from_fn(|k| sums[k] + block[k]));
        let [grad, parameter, change] = sums.map(f64::sqrt);
        Norms { grad, parameter, change }
    }

    /// The norms of two tensors together.
    pub fn with(self, other: Norms) -> Norms {
        let both = |one: f64, other: f64| (one * one + other * other).sqrt();
        Norms {
            grad: both(self.grad, other.grad),
            parameter: both(self.parameter, other.parameter),
            change: both(self.change, other.change),
        }
    }
}

/// Statistics taken beside an update, some elements at a time.
pub(crate) trait Statistics<E> {
    /// Whether any statistics are taken.
    const TAKEN: bool;

    /// Takes the parameter before some elements are updated. Implementations are
    /// `#[inline(always)]`.
    fn before(&mut self, p: &[E]);
    /// Takes the gradient and the parameter after the update of these elements.
    fn after(&mut self, g: &[E], p: &[E]);
}

/// No statistics; compiles to nothing.
impl<E> Statistics<E> for () {
    const TAKEN: bool = false;

    #[inline(always)]
    fn before(&mut self, _p: &[E]) {}

    #[inline(always)]
    fn after(&mut self, _g: &[E], _p: &[E]) {}
}

/// The running sums of a block, and a copy of the old parameter.
///
/// The sums are taken outside the kernel, on elements that are in the first-level cache by then,
/// because inside it the update and the sums need more registers than there are. Measured with
/// AdamW in cache and AVX-512, the statistics cost per element: 0.8 ns with `f64` sums in the
/// kernel, 0.4 ns with `f64` sums here, 0.3 ns with sums by runs.
pub(crate) struct Squares<E> {
    grad: Lanes,
    parameter: Lanes,
    change: Lanes,
    old: [E; BUFFER],
    /// Whether the gradient's squares are summed.
    grads: bool,
}

impl<E: Element> Squares<E> {
    #[inline(always)]
    pub(crate) fn new(grads: bool) -> Self {
        let none = [0.0; LANES];
        Squares { grad: none, parameter: none, change: none, old: [E::ZERO; BUFFER], grads }
    }

    /// Returns the sums of the block and resets them for the next block.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> [f64; 3] {
        let lanes = [&mut self.grad, &mut self.parameter, &mut self.change];
        lanes.map(|lanes| sums::halved(std::mem::replace(lanes, [0.0; LANES])))
    }
}

impl<E: Element> Statistics<E> for Squares<E> {
    const TAKEN: bool = true;

    #[inline(always)]
    fn before(&mut self, p: &[E]) {
        self.old[..p.len()].copy_from_slice(p);
    }

    #[inline(always)]
    fn after(&mut self, g: &[E], p: &[E]) {
        if self.grads {
            sums::add_squares(&mut self.grad, g);
        }
        for (new, old) in p.chunks(RUN_LEN).zip(self.old.chunks(RUN_LEN)) {
            let (rows, rest) = new.as_chunks();
            let (olds, _) = old.as_chunks();
            let mut own = [[E::ZERO; LANES]; 2];
            for (old, new) in olds.iter().zip(rows) {
                own = with_change(own, old, new);
                // Else four rows at a time are taken, and their numbers added singly.
                if BARRIERS {
                    black_box(());
                }
            }
            if !rest.is_empty() {
                let at = LANES * rows.len();
                own =
                    with_change(own, &sums::padded(&old[at..at + rest.len()]), &sums::padded(rest));
            }
            // Else vectors have as few numbers as those of `f64` below.
            let own = if BARRIERS { black_box(own) } else { own };
            for (sums, own) in [&mut self.parameter, &mut self.change].into_iter().zip(own) {
                *sums = std::array::from_fn(|i| sums[i] + own[i].to_f64());
            }
        }
    }
}

/// Adds the squares of a row of the old parameter, and of its change, to the sums of a run. Squares
/// that overflow the type are infinite; those below its normal range are zero.
///
/// Not a closure, because a closure may be compiled separately, for no CPU level. A single loop,
/// because the compiler then uses full vectors.
#[inline(always)]
fn with_change<E: Element>(
    [old_sums, change_sums]: [[E; LANES]; 2],
    old: &[E; LANES],
    new: &[E; LANES],
) -> [[E; LANES]; 2] {
    let (mut olds, mut changes) = ([E::ZERO; LANES], [E::ZERO; LANES]);
    for i in 0..LANES {
        let x = old[i].flush(E::FLOORS.square);
        let change = (new[i] - old[i]).flush(E::FLOORS.square);
        olds[i] = old_sums[i] + x * x;
        changes[i] = change_sums[i] + change * change;
    }
    [olds, changes]
}
