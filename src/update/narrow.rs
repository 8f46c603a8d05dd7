//! Updates of tensors whose narrow arrays are all dense, in the storages that training uses most:
//! tile by tile, without buffers. Every other tensor and rule is left to [`apply`].

#![allow(unsafe_code)] // takes slices of a tensor's arrays

use crate::array::pointer::{GRADIENT, LOW, PARAMETER, Pointer, STATE};
use crate::array::storage::dither::Dither;
use crate::array::storage::{LowOfBF16, Storage, e5m3, encodings};
use crate::array::tiles::{Array, Blocks, Place, Split, TILE};
use crate::machine::levels::{Level, Work};
use crate::rule::{Coefficients, Formula, Job};
use crate::update::lines::Lines;
use crate::update::tensor::{Course, Tensor};
use crate::update::{apply, fused};

/// Elements whose blocks are examined before they are updated.
const SPAN: usize = 16_384;

/// As [`apply::update`].
///
/// # Safety
///
/// As [`apply::update`].
pub(crate) unsafe fn update(
    tensor: &Tensor<'_>,
    coefficients: &Coefficients<f32>,
    level: Level,
    start: usize,
    len: usize,
) {
    let end = start + len;
    let mut start = start;
    if let Some(Course::Lines(lines)) = tensor.course()
        && lines.are_dense()
        && tensor.states() == 2
    {
        while end - start >= TILE {
            let len = SPAN.min(end - start) / TILE * TILE;
            let mut done = false;
            let span = Span { tensor, lines, level, start, len, done: &mut done };
            coefficients.formula(2, span);
            if !done {
                break;
            }
            start += len;
        }
    }
    if start < end {
        // SAFETY: the caller's promise.
        unsafe { apply::update(tensor, coefficients, level, start, end - start) }
    }
}

/// Whole tiles of a tensor with dense arrays.
struct Span<'b, 'a> {
    tensor: &'b Tensor<'a>,
    lines: &'b Lines,
    level: Level,
    start: usize,
    len: usize,
    done: &'b mut bool,
}

impl Job<f32> for Span<'_, '_> {
    fn run<F: Formula<f32, N>, const N: usize>(self, formula: &F) {
        if const { fused::takes::<F, N>() } {
            // SAFETY: the promise of `update`; `are_dense` and the number of state arrays are
            // checked there.
            *self.done = unsafe { self.by_storage(formula) };
        }
    }
}

impl Span<'_, '_> {
    /// Updates the tiles if the storages are among the usual ones; returns whether it did.
    ///
    /// # Safety
    ///
    /// As [`update`], for a tensor whose arrays are dense, and two state arrays.
    unsafe fn by_storage<F: Formula<f32, N>, const N: usize>(&self, formula: &F) -> bool {
        let [p, g] = [PARAMETER, GRADIENT].map(|k| self.tensor.pointers()[k].storage);
        // SAFETY: the caller's promise; `storage` names the type of the elements.
        unsafe {
            match (p, self.lines.low_of(), g) {
                (Storage::F32, None, Storage::F32) => {
                    self.by_state(formula, self.array::<f32>(PARAMETER), self.gradient::<f32>())
                }
                (Storage::BF16, Some(PARAMETER), Storage::F32) => {
                    self.of_split(formula, self.gradient::<f32>())
                }
                (Storage::BF16, Some(PARAMETER), Storage::BF16) => {
                    self.of_split(formula, self.gradient::<encodings::BF16>())
                }
                _ => false,
            }
        }
    }

    /// A parameter in bfloat16, whose state may have every digit.
    ///
    /// # Safety
    ///
    /// As [`Span::by_storage`], for a parameter in bfloat16.
    unsafe fn of_split<F: Formula<f32, N>, const N: usize>(
        &self,
        formula: &F,
        g: impl Array,
    ) -> bool {
        // SAFETY: the caller's promise; `storage` names the type of the elements.
        unsafe {
            if (STATE..STATE + 2).all(|k| self.tensor.pointers()[k].storage == Storage::F32) {
                let dither = self.lines.dither();
                let state = (self.array::<f32>(STATE), self.array::<f32>(STATE + 1));
                self.level.run(Fused { formula, dither, p: self.split(), g, state });
                return true;
            }
            self.by_state(formula, self.split(), g)
        }
    }

    /// # Safety
    ///
    /// As [`Span::by_storage`].
    unsafe fn by_state<F: Formula<f32, N>, const N: usize>(
        &self,
        formula: &F,
        p: impl Array<Tile: Place>,
        g: impl Array,
    ) -> bool {
        let dither = self.lines.dither();
        let [first, second] = [0, 1].map(|k| self.tensor.pointers()[STATE + k]);
        // SAFETY: the caller's promise; `storage` names the type of the elements.
        unsafe {
            match (first.storage, second.storage) {
                (Storage::Dithered, Storage::Dithered) => {
                    let state = (
                        self.array::<encodings::Dithered>(STATE),
                        self.array::<encodings::Dithered>(STATE + 1),
                    );
                    self.level.run(Fused { formula, dither, p, g, state });
                }
                (Storage::Dithered, Storage::E5M3) => {
                    let (codes, bases) = self.lines.blocks(second, (self.start, self.len));
                    if !e5m3::are_made(codes, bases) {
                        return false;
                    }
                    let state = (self.array::<encodings::Dithered>(STATE), Blocks { codes, bases });
                    self.level.run(Fused { formula, dither, p, g, state });
                }
                _ => return false,
            }
        }
        true
    }

    /// The span of an array that is written.
    ///
    /// # Safety
    ///
    /// As [`Span::by_storage`]; the array's elements have type `S`, and the span is taken once.
    unsafe fn array<'s, S>(&self, k: usize) -> &'s mut [S] {
        let Pointer { address, storage } = self.tensor.pointers()[k];
        debug_assert_eq!(storage.size(), size_of::<S>());
        // SAFETY: the caller's promise; the array is dense and aligned.
        unsafe { std::slice::from_raw_parts_mut(address.cast::<S>().add(self.start), self.len) }
    }

    /// The span of the gradient.
    ///
    /// # Safety
    ///
    /// As [`Span::by_storage`]; the gradient's elements have type `S`.
    unsafe fn gradient<'s, S>(&self) -> &'s [S] {
        let Pointer { address, storage } = self.tensor.pointers()[GRADIENT];
        debug_assert_eq!(storage.size(), size_of::<S>());
        // SAFETY: the caller's promise; the array is dense and aligned.
        unsafe { std::slice::from_raw_parts(address.cast::<S>().add(self.start), self.len) }
    }

    /// The span of a parameter in bfloat16.
    ///
    /// # Safety
    ///
    /// As [`Span::by_storage`]; the parameter has the storage `BF16` and a companion.
    unsafe fn split<'s>(&self) -> Split<&'s mut [encodings::BF16], &'s mut [LowOfBF16]> {
        // SAFETY: the caller's promise.
        unsafe { Split { live: self.array(PARAMETER), low: self.array(LOW) } }
    }
}

struct Fused<'b, F, P, G, M, V, const N: usize> {
    formula: &'b F,
    dither: &'b Dither,
    p: P,
    g: G,
    state: (M, V),
}

impl<F, P, G, M, V, const N: usize> Work for Fused<'_, F, P, G, M, V, N>
where
    F: Formula<f32, N>,
    P: Array<Tile: Place>,
    G: Array,
    M: Array<Tile: Place>,
    V: Array<Tile: Place>,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        fused::update(self.formula, self.dither, self.p, self.g, self.state);
    }
}
