//! The read pass over gradients: sum of squares and largest magnitude, in one reading.
//!
//! The sum is float64, in logical order whatever the strides, over blocks and lanes of fixed size;
//! leaves are added in the order they are given. So the norm has the same bits for any number of
//! threads, any strides and any CPU level.

#![allow(unsafe_code)] // slices of the arrays a leaf holds

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{ArrayView, Dimension};

use crate::dispatch::{Level, Work};
use crate::element::{Element, Kind};
use crate::gather::{Pointer, TILE};
use crate::layout::{Layout, Order};
use crate::plan::{BLOCK, Blocks, Update};
use crate::pool;

/// Running sums in a block: element `i` of the block goes to sum `i % LANES`.
const LANES: usize = 16;
const _: () = assert!(TILE.is_multiple_of(LANES) && BLOCK.is_multiple_of(TILE));

/// Gradients are divided by this where the sum of their squares overflows: 2^600.
const UNIT: f64 = f64::from_bits((600 + 1023) << 52);

/// A gradient to read, as numbers of type `kind`.
#[derive(Debug)]
pub struct Leaf<'a> {
    pointer: Pointer,
    kind: Kind,
    len: usize,
    /// `None` where the elements are a slice of `kind` in logical order.
    layout: Option<Box<Layout<1>>>,
    borrow: PhantomData<&'a u8>,
}

// SAFETY: a Leaf is a shared borrow of plain numbers.
unsafe impl Send for Leaf<'_> {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Leaf<'_> {}

impl<'a> Leaf<'a> {
    /// An array of any strides.
    pub fn from_view<E: Element, D: Dimension>(view: ArrayView<'a, E, D>) -> Self {
        let strides: Vec<isize> =
            view.strides().iter().map(|stride| stride * E::KIND.size() as isize).collect();
        let pointer = Pointer { address: view.as_ptr().cast_mut().cast(), kind: E::KIND };
        // SAFETY: a view is valid for 'a and not written.
        unsafe { Leaf::new(view.shape(), pointer, &strides, E::KIND) }
    }

    /// An array by address, its numbers cast to `kind`.
    ///
    /// # Safety
    ///
    /// For `'a`, it is valid memory of this shape, strides (in bytes) and type, and nobody writes
    /// it.
    pub unsafe fn new(shape: &[usize], pointer: Pointer, strides: &[isize], kind: Kind) -> Self {
        let layout = Layout::new(shape, [strides], Order::Logical);
        let plain = pointer.kind == kind
            && layout.is_dense(0, kind.size())
            && pointer.address.addr().is_multiple_of(kind.size());
        Leaf {
            pointer,
            kind,
            len: shape.iter().product(),
            layout: (!plain).then(|| Box::new(layout)),
            borrow: PhantomData,
        }
    }

    /// As [`Leaf::new`] for a slice of `kind` in logical order: nothing is allocated.
    ///
    /// # Safety
    ///
    /// As [`Leaf::new`], and the array is aligned and without gaps.
    pub unsafe fn dense(len: usize, pointer: Pointer) -> Self {
        Leaf { pointer, kind: pointer.kind, len, layout: None, borrow: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many elements an update cannot take.
    pub fn count_refused(&self, update: &Update) -> u64 {
        match update {
            Update::F32(coefficients) => self.count(|x: f32| !coefficients.admits(x.abs())),
            Update::F64(coefficients) => self.count(|x: f64| !coefficients.admits(x.abs())),
        }
    }

    /// Reads block number `block`, every number divided by `unit`.
    fn read(&self, level: Level, block: usize, unit: f64) -> Reading {
        let start = block * BLOCK;
        let len = BLOCK.min(self.len - start);
        match self.kind {
            Kind::F32 => {
                level.run(ReadBlock::<f32> { leaf: self, start, len, unit, element: PhantomData })
            }
            Kind::F64 => {
                level.run(ReadBlock::<f64> { leaf: self, start, len, unit, element: PhantomData })
            }
        }
    }

    /// Calls `visit` with all elements in logical order, a tile at a time.
    #[inline(always)]
    fn tiles<E: Element>(&self, start: usize, len: usize, mut visit: impl FnMut(&[E])) {
        debug_assert_eq!(self.kind, E::KIND);
        let mut buffer = [E::ZERO; TILE];
        for at in (start..start + len).step_by(TILE) {
            let count = TILE.min(start + len - at);
            // SAFETY: the promise of `new`; without a layout the array is a slice of this type.
            unsafe {
                match self.layout.as_deref() {
                    None => visit(self.pointer.slice(at, count)),
                    Some(layout) => {
                        self.pointer.read(layout, 0, at, &mut buffer[..count]);
                        visit(&buffer[..count]);
                    }
                }
            }
        }
    }

    fn count<E: Element>(&self, counts: impl Fn(E) -> bool) -> u64 {
        let mut count = 0;
        self.tiles(0, self.len, |tile: &[E]| {
            count += tile.iter().filter(|x| counts(**x)).count() as u64;
        });
        count
    }
}

/// What one reading of some gradients found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Sum of squares of the numbers divided by the unit; NaN if one of them is NaN.
    pub sum: f64,
    /// Largest magnitude among those that are not NaN.
    pub largest: f64,
}

impl Reading {
    fn join(self, next: Reading) -> Reading {
        Reading { sum: self.sum + next.sum, largest: self.largest.max(next.largest) }
    }
}

struct ReadBlock<'b, 'a, E> {
    leaf: &'b Leaf<'a>,
    start: usize,
    len: usize,
    unit: f64,
    element: PhantomData<E>,
}

impl<E: Element> Work for ReadBlock<'_, '_, E> {
    type Output = Reading;

    #[inline(always)]
    fn run(self) -> Reading {
        let mut lanes = Lanes::<E> { sums: [0.0; LANES], largest: [E::ZERO; LANES] };
        let factor = 1.0 / self.unit;
        self.leaf.tiles(self.start, self.len, |tile: &[E]| {
            let (rows, rest) = tile.as_chunks::<LANES>();
            for row in rows {
                lanes.add(row, factor);
            }
            if !rest.is_empty() {
                let mut row = [E::ZERO; LANES];
                row[..rest.len()].copy_from_slice(rest);
                lanes.add(&row, factor);
            }
        });
        lanes.reading()
    }
}

struct Lanes<E> {
    sums: [f64; LANES],
    largest: [E; LANES],
}

impl<E: Element> Lanes<E> {
    #[inline(always)]
    fn add(&mut self, row: &[E; LANES], factor: f64) {
        for ((element, sum), largest) in row.iter().zip(&mut self.sums).zip(&mut self.largest) {
            let x = element.flush(E::FLOORS.norm).to_f64() * factor;
            *sum += x * x;
            let magnitude = element.abs();
            // False for NaN, which the sum reports.
            *largest = if magnitude > *largest { magnitude } else { *largest };
        }
    }

    /// Lanes are added in halves: 8 to 8, 4 to 4, 2 to 2, 1 to 1.
    #[inline(always)]
    fn reading(mut self) -> Reading {
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                self.sums[i] += self.sums[i + half];
            }
            half /= 2;
        }
        let largest = self.largest.iter().fold(0.0, |a: f64, b| a.max(b.to_f64()));
        Reading { sum: self.sums[0], largest }
    }
}

/// The Euclidean norm of several gradients, as `root·unit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    root: f64,
    unit: f64,
}

impl Norm {
    /// False if a gradient is NaN or infinite; true also where only the norm overflows.
    pub fn is_finite(&self) -> bool {
        self.root.is_finite()
    }

    /// The norm of gradients multiplied by `scale`.
    pub fn of_scaled(&self, scale: f64) -> f64 {
        scale * self.root * self.unit
    }

    /// `min(1, max_norm / norm)` for gradients multiplied by `scale`; NaN if the norm is NaN.
    ///
    /// Right also where the norm itself overflows.
    pub fn clip(&self, max_norm: f64, scale: f64) -> f64 {
        let norm = self.of_scaled(scale);
        if norm <= max_norm {
            1.0
        } else if self.unit == 1.0 {
            max_norm / norm
        } else {
            max_norm / self.unit / (scale * self.root)
        }
    }
}

/// Reads gradients; keeps its room between readings.
#[derive(Debug, Default)]
pub struct ReadPass {
    blocks: Blocks,
    partial: Vec<Partial>,
    readings: Vec<Reading>,
}

/// What a block's reading found, as bits: threads store, the caller adds up in order.
#[derive(Debug, Default)]
struct Partial {
    sum: AtomicU64,
    largest: AtomicU64,
}

impl ReadPass {
    /// Reads all leaves once (twice where the squares overflow) and returns their norm, the leaves
    /// added in the given order.
    pub fn read(&mut self, leaves: &[Leaf<'_>], level: Level, threads: usize) -> Norm {
        self.blocks.set(leaves.iter().map(|leaf| leaf.len));
        let count = self.blocks.count();
        if self.partial.len() < count {
            self.partial.resize_with(count, Partial::default);
        }
        let total = self.read_with(leaves, level, threads, 1.0);
        if total.sum == f64::INFINITY && total.largest.is_finite() {
            let root = self.read_with(leaves, level, threads, UNIT).sum.sqrt();
            return Norm { root, unit: UNIT };
        }
        Norm { root: total.sum.sqrt(), unit: 1.0 }
    }

    /// Leaves with numbers that their update cannot take, and how many, after a reading of them.
    pub fn refused<'u>(
        &self,
        leaves: &[Leaf<'_>],
        update: impl Fn(usize) -> &'u Update,
    ) -> Vec<(usize, u64)> {
        let refuses = |(i, reading): &(usize, &Reading)| {
            reading.sum.is_nan() || !update(*i).admits(reading.largest)
        };
        (self.readings.iter().enumerate())
            .filter(refuses)
            .map(|(i, _)| (i, leaves[i].count_refused(update(i))))
            .collect()
    }

    fn read_with(
        &mut self,
        leaves: &[Leaf<'_>],
        level: Level,
        threads: usize,
        unit: f64,
    ) -> Reading {
        let (blocks, partial) = (&self.blocks, &self.partial);
        pool::for_each(blocks.count(), threads, |block| {
            let (leaf, within) = blocks.locate(block);
            let reading = leaves[leaf].read(level, within, unit);
            partial[block].sum.store(reading.sum.to_bits(), Ordering::Relaxed);
            partial[block].largest.store(reading.largest.to_bits(), Ordering::Relaxed);
        });
        let found = |block: usize| Reading {
            sum: f64::from_bits(partial[block].sum.load(Ordering::Relaxed)),
            largest: f64::from_bits(partial[block].largest.load(Ordering::Relaxed)),
        };
        self.readings.clear();
        self.readings.extend(
            (0..leaves.len())
                .map(|leaf| blocks.of(leaf).map(found).fold(Reading::default(), Reading::join)),
        );
        self.readings.iter().copied().fold(Reading::default(), Reading::join)
    }
}

/// The Euclidean norm of gradients; NaN or infinite where one of them is.
///
/// # Examples
///
/// ```
/// use thalweg::norm::{Leaf, global_norm};
/// let (w, b) = (ndarray::arr1(&[3.0_f32, 0.0]), ndarray::arr0(4.0_f32));
/// let leaves = [Leaf::from_view(w.view()), Leaf::from_view(b.view())];
/// assert_eq!(global_norm(&leaves, thalweg::Level::current(), 1).of_scaled(1.0), 5.0);
/// ```
pub fn global_norm(leaves: &[Leaf<'_>], level: Level, threads: usize) -> Norm {
    ReadPass::default().read(leaves, level, threads)
}
