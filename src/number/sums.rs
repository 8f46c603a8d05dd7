//! Sums of squares whose bits do not depend on threads, strides or CPU level.
//!
//! The sum of an array is `f64` and follows the logical order of its elements. An array is cut into
//! blocks; a block has several running sums (lanes), which are added in halves; the sums of blocks
//! are added in order. Threads store the sum of each block, and the caller adds them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::number::element::Element;

/// Elements per block.
pub const BLOCK: usize = 16_384;

/// Running sums per block: element `i` of the block is added to sum `i % LANES`.
pub(crate) const LANES: usize = 16;
const _: () = assert!(BLOCK.is_multiple_of(LANES));

/// The running sums of one block.
pub(crate) type Lanes = [f64; LANES];

/// `sums` plus the squares of a row; `scaled` is applied to each element before it is squared.
#[inline(always)]
pub(crate) fn with_squares<E: Element>(
    sums: Lanes,
    row: &[E; LANES],
    scaled: impl Fn(f64) -> f64,
) -> Lanes {
    let mut wide = [0.0; LANES];
    for i in 0..LANES {
        wide[i] = scaled(row[i].flush(E::FLOORS.norm).to_f64());
    }
    std::array::from_fn(|i| sums[i] + wide[i] * wide[i])
}

/// Adds the squares of `elements`, the first of which lies at a multiple of [`LANES`] in its block.
#[inline(always)]
pub(crate) fn add_squares<E: Element>(sums: &mut Lanes, elements: &[E]) {
    let (rows, rest) = elements.as_chunks();
    let mut lanes = *sums;
    for row in rows {
        lanes = with_squares(lanes, row, |x| x);
    }
    if !rest.is_empty() {
        lanes = with_squares(lanes, &padded(rest), |x| x);
    }
    *sums = lanes;
}

/// Rows per run. Squares of a run are summed in the element's own type, then added to the `f64`
/// sum; for `f32` the relative error is at most about 1e-6.
const RUN: usize = 16;

/// Elements per run; runs are counted from the start of a block.
pub(crate) const RUN_LEN: usize = RUN * LANES;

/// The last, incomplete row of an array, padded with zeros.
#[inline(always)]
pub(crate) fn padded<E: Element>(rest: &[E]) -> [E; LANES] {
    let mut row = [E::ZERO; LANES];
    row[..rest.len()].copy_from_slice(rest);
    row
}

/// The sum of the lanes, added in halves: 8 to 8, 4 to 4, 2 to 2, 1 to 1.
#[inline(always)]
pub(crate) fn halved(mut sums: Lanes) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `N` numbers for each block of several arrays: threads store them, the caller reads them. The
/// allocation is kept between passes.
#[derive(Debug, Default)]
pub(crate) struct Blocks<const N: usize> {
    /// For each array, the number of blocks in it and in all arrays before it.
    ends: Vec<usize>,
    found: Vec<Found<N>>,
}

/// The numbers of one block, as bits.
#[derive(Debug)]
pub(crate) struct Found<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Found<N> {
    fn default() -> Self {
        Found(std::array::from_fn(|_| AtomicU64::default()))
    }
}

impl<const N: usize> Found<N> {
    pub(crate) fn set(&self, numbers: [f64; N]) {
        for (place, number) in self.0.iter().zip(numbers) {
            place.store(number.to_bits(), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> [f64; N] {
        self.0.each_ref().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl<const N: usize> From<Vec<Vec<[f64; N]>>> for Blocks<N> {
    fn from(arrays: Vec<Vec<[f64; N]>>) -> Self {
        let mut blocks = Blocks::default();
        for array in arrays {
            blocks.found.extend(array.into_iter().map(|numbers| {
                let found = Found::default();
                found.set(numbers);
                found
            }));
            blocks.ends.push(blocks.found.len());
        }
        blocks
    }
}

impl<const N: usize> Blocks<N> {
    /// The number of arrays.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Makes room for arrays of the given lengths.
    pub(crate) fn set(&mut self, lens: impl Iterator<Item = usize>) {
        self.ends.clear();
        self.ends.extend(lens.scan(0, |end, len| {
            *end += len.div_ceil(BLOCK);
            Some(*end)
        }));
        let count = self.ends.last().copied().unwrap_or(0);
        if self.found.len() < count {
            self.found.resize_with(count, Found::default);
        }
    }

    /// The blocks of the array at `index`.
    pub(crate) fn of(&self, index: usize) -> &[Found<N>] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.found[start..self.ends[index]]
    }
}
