//! The read pass over gradients: sum of squares and largest magnitude in one traversal.
//!
//! The sum is `f64` and follows the logical order of the elements over blocks and lanes of fixed
//! size; inputs are added in the given order. The bits of the norm therefore do not depend on the
//! number of threads, the strides or the CPU level.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::array::prefetch;
use crate::error::Error;
use crate::machine::levels::{Level, Work};
use crate::machine::pages::Release;
use crate::machine::pool;
use crate::machine::portions::{Piece, Portions};
use crate::number::element::{Element, Kind};
use crate::number::float_mode::in_default_mode;
use crate::number::sums::{self, BLOCK, Blocks, Found, LANES};
pub use crate::read::input::Input;
use crate::read::peers::{self, Peers};
use crate::rule::Update;

/// Divisor of the gradients when the sum of their squares overflows: 2^600.
const UNIT: f64 = f64::from_bits((600 + 1023) << 52);

impl Input<'_> {
    /// Reads the blocks of a piece, with every element divided by `unit`.
    fn read(&self, level: Level, piece: Piece, unit: f64, found: &[Found<2>]) {
        let Piece { start, len, .. } = piece;
        match self.kind {
            Kind::F32 => {
                let element = PhantomData::<f32>;
                level.run(ReadBlocks { input: self, start, len, unit, found, element });
            }
            Kind::F64 => {
                let element = PhantomData::<f64>;
                level.run(ReadBlocks { input: self, start, len, unit, found, element });
            }
        }
    }
}

/// The result of one traversal of some gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    /// Sum of squares of the elements divided by the unit; NaN if an element is NaN.
    sum: f64,
    /// Largest magnitude; NaNs are ignored.
    largest: f64,
}

impl Reading {
    /// Whether the sum overflowed although every element is finite.
    fn overflows(&self) -> bool {
        self.sum == f64::INFINITY && self.largest.is_finite()
    }

    fn join(self, next: Reading) -> Reading {
        Reading { sum: self.sum + next.sum, largest: self.largest.max(next.largest) }
    }
}

struct ReadBlocks<'b, 'a, E> {
    input: &'b Input<'a>,
    start: usize,
    len: usize,
    unit: f64,
    /// One entry per block.
    found: &'b [Found<2>],
    element: PhantomData<E>,
}

impl<E: Element> Work for ReadBlocks<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let ReadBlocks { input, start, len, .. } = self;
        let slice = input.slice::<E>(start, len);
        let room = if slice.is_some() { len } else { input.room().min(len) };
        let mut buffer = vec![E::ZERO; if slice.is_some() { 0 } else { room }];
        let mut found = self.found.iter();
        let end = start + len;
        for start in (start..end).step_by(room) {
            let elements = match slice {
                Some(slice) => slice,
                None => {
                    let gathered = &mut buffer[..room.min(end - start)];
                    input.gather(start, gathered);
                    gathered
                }
            };
            for (block, found) in elements.chunks(BLOCK).zip(&mut found) {
                let mut lanes = Running { sums: [0.0; LANES], largest: [E::ZERO; LANES] };
                // Without a unit there is nothing to multiply, which saves one product in four.
                match self.unit {
                    1.0 => lanes.add(block, |x| x),
                    unit => lanes.add(block, |x| x * (1.0 / unit)),
                }
                let Reading { sum, largest } = lanes.reading();
                found.set([sum, largest]);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Running<E> {
    sums: [f64; LANES],
    largest: [E; LANES],
}

impl<E: Element> Running<E> {
    /// Adds elements, the first of which lies at a multiple of [`LANES`] in its block.
    #[inline(always)]
    fn add(&mut self, elements: &[E], scaled: impl Fn(f64) -> f64) {
        let (rows, rest) = elements.as_chunks::<LANES>();
        let mut lanes = *self;
        for row in rows {
            prefetch::after(row);
            lanes = lanes.with(row, &scaled);
        }
        if !rest.is_empty() {
            lanes = lanes.with(&sums::padded(rest), &scaled);
        }
        *self = lanes;
    }

    #[inline(always)]
    fn with(self, row: &[E; LANES], scaled: impl Fn(f64) -> f64) -> Self {
        let larger = |i: usize| {
            let (magnitude, largest) = (row[i].abs(), self.largest[i]);
            // False for NaN; the sum reports those.
            if magnitude > largest { magnitude } else { largest }
        };
        Running {
            sums: sums::with_squares(self.sums, row, scaled),
            largest: std::array::from_fn(larger),
        }
    }

    #[inline(always)]
    fn reading(self) -> Reading {
        let largest = self.largest.iter().fold(0.0, |a: f64, b| a.max(b.to_f64()));
        Reading { sum: sums::halved(self.sums), largest }
    }
}

/// The Euclidean norm of several gradients, stored as `root·unit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    root: f64,
    unit: f64,
}

impl Norm {
    /// False if a gradient has a NaN or infinite element. True if only the norm itself overflows.
    pub fn is_finite(&self) -> bool {
        self.root.is_finite()
    }

    /// The norm of gradients multiplied by `scale`.
    pub fn of_scaled(&self, scale: f64) -> f64 {
        in_default_mode(|| scale * self.root * self.unit)
    }

    /// `min(1, max_norm / norm)` for gradients multiplied by `scale`; NaN if the norm is NaN.
    ///
    /// The result is correct even if the norm itself overflows.
    pub fn clip(&self, max_norm: f64, scale: f64) -> f64 {
        in_default_mode(|| {
            let norm = self.of_scaled(scale);
            if norm <= max_norm {
                1.0
            } else if self.unit == 1.0 {
                max_norm / norm
            } else {
                max_norm / self.unit / (scale * self.root)
            }
        })
    }
}

/// The read pass; its buffers are kept between passes.
#[derive(Debug, Default)]
pub struct ReadPass {
    /// Pages to release behind the pass; positions are those of inputs.
    pub release: Release,
    portions: Portions,
    blocks: Blocks<2>,
    readings: Vec<Reading>,
    /// Readings in [`UNIT`], filled if squares overflow.
    scaled: Vec<Reading>,
}

impl ReadPass {
    /// Reads all inputs, a second time if squares overflow, and returns their norm. Inputs are
    /// added in the given order.
    pub fn read(&mut self, inputs: &[Input<'_>], level: Level, threads: usize) -> Norm {
        let here = |_: &Blocks<2>| Ok::<_, Infallible>(None);
        let Ok(norm) = in_default_mode(|| self.norm(inputs, level, threads, here));
        norm
    }

    /// As [`ReadPass::read`], for inputs that are parts of tensors, of which `peers` have the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Peers`].
    pub fn read_among(
        &mut self,
        inputs: &[Input<'_>],
        level: Level,
        threads: usize,
        peers: &dyn Peers,
    ) -> Result<Norm, Error> {
        let whole = |here: &Blocks<2>| peers::whole(peers, here).map(Some);
        in_default_mode(|| self.norm(inputs, level, threads, whole))
    }

    /// `whole` gives the blocks of whole tensors, if they are more than those that are here.
    fn norm<E>(
        &mut self,
        inputs: &[Input<'_>],
        level: Level,
        threads: usize,
        whole: impl Fn(&Blocks<2>) -> Result<Option<Blocks<2>>, E>,
    ) -> Result<Norm, E> {
        self.portions.set(
            inputs.iter().map(|input| input.len),
            self.release.threads(threads),
            BLOCK,
        );
        self.blocks.set(inputs.iter().map(|input| input.len));
        let total = self.read_with(inputs, level, threads, 1.0, &whole)?;
        self.scaled.clear();
        if total.overflows() || self.readings.iter().any(Reading::overflows) {
            std::mem::swap(&mut self.readings, &mut self.scaled);
            let scaled = self.read_with(inputs, level, threads, UNIT, &whole)?;
            std::mem::swap(&mut self.readings, &mut self.scaled);
            if total.overflows() {
                return Ok(Norm { root: scaled.sum.sqrt(), unit: UNIT });
            }
        }
        Ok(Norm { root: total.sum.sqrt(), unit: 1.0 })
    }

    /// The norm of one of the inputs of the last [`ReadPass::read`], as if it were read alone.
    pub fn norm_of(&self, input: usize) -> Norm {
        match (&self.readings[input], self.scaled.get(input)) {
            (reading, Some(scaled)) if reading.overflows() => {
                Norm { root: scaled.sum.sqrt(), unit: UNIT }
            }
            (reading, _) => Norm { root: reading.sum.sqrt(), unit: 1.0 },
        }
    }

    /// Inputs with elements that their update refuses, and the number of these elements. `inputs`
    /// are those of the last [`ReadPass::read`].
    pub fn refused<'u>(
        &self,
        inputs: &[Input<'_>],
        update: impl Fn(usize) -> &'u Update,
    ) -> Vec<(usize, u64)> {
        let refuses = |(i, reading): &(usize, &Reading)| {
            reading.sum.is_nan() || !update(*i).admits(reading.largest)
        };
        in_default_mode(|| {
            (self.readings.iter().enumerate())
                .filter(refuses)
                .map(|(i, _)| (i, inputs[i].count_refused(update(i))))
                .collect()
        })
    }

    fn read_with<E>(
        &mut self,
        inputs: &[Input<'_>],
        level: Level,
        threads: usize,
        unit: f64,
        whole: impl Fn(&Blocks<2>) -> Result<Option<Blocks<2>>, E>,
    ) -> Result<Reading, E> {
        let (portions, blocks, release) = (&self.portions, &self.blocks, &self.release);
        pool::for_each(portions.count(), threads, |portion| {
            for piece in portions.pieces(portion) {
                let found = &blocks.of(piece.index)[piece.start / BLOCK..];
                inputs[piece.index].read(level, piece, unit, found);
                release.after(piece, inputs[piece.index].len);
            }
        });
        let whole = whole(blocks)?;
        let blocks = whole.as_ref().unwrap_or(blocks);
        let reading = |found: &Found<2>| {
            let [sum, largest] = found.get();
            Reading { sum, largest }
        };
        let input = |i| blocks.of(i).iter().map(reading).fold(Reading::default(), Reading::join);
        self.readings.clear();
        self.readings.extend((0..inputs.len()).map(input));
        Ok(self.readings.iter().copied().fold(Reading::default(), Reading::join))
    }
}

/// The Euclidean norm of gradients; NaN or infinite if an element is.
///
/// # Examples
///
/// ```
/// use thalweg::read::norm::{Input, global_norm};
/// let inputs = [Input::from_slice(&[3.0_f32, 0.0]), Input::from_slice(&[4.0_f32])];
/// assert_eq!(global_norm(&inputs, thalweg::Level::current(), 1).of_scaled(1.0), 5.0);
/// ```
pub fn global_norm(inputs: &[Input<'_>], level: Level, threads: usize) -> Norm {
    ReadPass::default().read(inputs, level, threads)
}
