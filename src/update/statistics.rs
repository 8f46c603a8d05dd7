//! Statistics of an update: norms of gradient, parameter and change, in the same pass.
//!
//! They are summed as the norm of the read pass is, in logical order, so they have the same bits for
//! any threads, strides and CPU level. Those of parameter and change are summed in the parameter's own
//! type over runs of 16 rows first, which is half the work and exact enough for statistics.

use crate::array::pointer::BUFFER;
use crate::number::element::Element;
use crate::number::sums::{self, Blocks, Found, LANES, Lanes, RUN_LEN};

/// Elements after which sums are taken, of arrays that are slices. Fewer than the kernel asks for
/// ahead, so that memory goes on working meanwhile.
pub(crate) const SPAN: usize = 256;
const _: () = assert!(SPAN.is_multiple_of(RUN_LEN) && BUFFER.is_multiple_of(SPAN));

/// Euclidean norms over one tensor in one update, `f64` for every element type.
///
/// Infinite where squares overflow, NaN where a number is NaN. Of parameter and change the squares are
/// of their own type, and magnitudes that have no normal square there count as zero.
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

/// What is summed up beside an update, some elements at a time.
pub(crate) trait Statistics<E> {
    /// Whether anything is.
    const TAKEN: bool;

    /// The parameter before the update of some elements. Implementations are `#[inline(always)]`.
    fn before(&mut self, p: &[E]);
    /// Gradient and parameter after it.
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

/// The running sums of a block, and the parameter as it was.
///
/// Apart from the kernel, on elements that are in the first-level cache by then: sums beside the
/// update want more registers than there are. Measured with AdamW in cache, what statistics add to an
/// element of a step with AVX-512: 0.8 ns with `f64` sums in the kernel, 0.4 with `f64` sums here, 0.3
/// with sums by runs.
pub(crate) struct Squares<E> {
    grad: Lanes,
    parameter: Lanes,
    change: Lanes,
    old: [E; BUFFER],
    /// Whether the gradient is summed too.
    grads: bool,
}

impl<E: Element> Squares<E> {
    #[inline(always)]
    pub(crate) fn new(grads: bool) -> Self {
        let none = [0.0; LANES];
        Squares { grad: none, parameter: none, change: none, old: [E::ZERO; BUFFER], grads }
    }

    /// The sums of a block; then another begins.
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
            }
            if !rest.is_empty() {
                let at = LANES * rows.len();
                own =
                    with_change(own, &sums::padded(&old[at..at + rest.len()]), &sums::padded(rest));
            }
            for (sums, own) in [&mut self.parameter, &mut self.change].into_iter().zip(own) {
                *sums = std::array::from_fn(|i| sums[i] + own[i].to_f64());
            }
        }
    }
}

/// The sums of a run with the squares of a row before an update added, and those of its change. Squares
/// that the type cannot hold are infinite, or zero.
///
/// No closure, which might be compiled apart, for no CPU level; and one loop, of which the compiler makes
/// full vectors.
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
