//! Many tensors, spread over threads.

#![allow(unsafe_code)] // hands each element of a tensor to one thread

use crate::error::Error;
use crate::machine::levels::Level;
use crate::machine::pages::Release;
use crate::machine::pool;
use crate::machine::portions::{Cut, Piece};
use crate::number::element::Kind;
use crate::number::float_mode::in_default_mode;
use crate::number::sums::{BLOCK, Blocks, Found};
use crate::rule::Coefficients;
use crate::update::statistics::Norms;
use crate::update::tensor::{GRAIN, Tensor};

/// Below this many elements in all an update stays on the calling thread, because waking a helper
/// takes some 40 us. Measured with AdamW and two threads 1 ms after the last step, ratio to one
/// thread: 1.28 at 65,536 elements, 0.84 at 131,072 (`python benches/steps.py --only threads`).
pub const PARALLEL_MIN: usize = 131_072;

/// The same where helpers are awake, because they just worked. Measured in the same way, one step
/// right after another: 0.96 to 1.13 at 16,384 elements, 0.62 to 0.71 at 32,768.
pub const PARALLEL_MIN_AWAKE: usize = 32_768;

/// How many of `threads` threads pay for work on this many elements.
pub fn useful_threads(elements: usize, threads: usize) -> usize {
    let pays = elements >= PARALLEL_MIN || (elements >= PARALLEL_MIN_AWAKE && pool::is_awake());
    if pays { threads } else { 1 }
}

/// Coefficients of one update, of either element type.
#[derive(Clone, Copy, Debug)]
pub enum Update {
    /// For `f32` parameters.
    F32(Coefficients<f32>),
    /// For `f64` parameters.
    F64(Coefficients<f64>),
}

impl From<Coefficients<f32>> for Update {
    fn from(coefficients: Coefficients<f32>) -> Self {
        Update::F32(coefficients)
    }
}

impl From<Coefficients<f64>> for Update {
    fn from(coefficients: Coefficients<f64>) -> Self {
        Update::F64(coefficients)
    }
}

impl Update {
    /// The type of the parameters it is for.
    pub fn kind(&self) -> Kind {
        match self {
            Update::F32(_) => Kind::F32,
            Update::F64(_) => Kind::F64,
        }
    }

    /// How many state arrays the rule keeps.
    pub fn states(&self) -> usize {
        match self {
            Update::F32(coefficients) => coefficients.states(),
            Update::F64(coefficients) => coefficients.states(),
        }
    }

    /// Whether the rule moves a parameter by its gradient.
    fn trains(&self) -> bool {
        match self {
            Update::F32(coefficients) => coefficients.trains(),
            Update::F64(coefficients) => coefficients.trains(),
        }
    }

    /// Whether the rule can take a gradient of this magnitude; exact for numbers of its type.
    pub fn admits(&self, magnitude: f64) -> bool {
        match self {
            Update::F32(coefficients) => coefficients.admits(magnitude as f32),
            Update::F64(coefficients) => coefficients.admits(magnitude),
        }
    }
}

/// A tensor and which of the updates it gets.
#[derive(Debug)]
pub struct Task<'a> {
    /// The arrays.
    pub tensor: Tensor<'a>,
    /// Index into the updates.
    pub update: usize,
}

/// Runs updates on tensors; keeps its room between calls.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to let go of behind a pass; positions are those of tasks.
    pub release: Release,
    cut: Cut,
    blocks: Blocks<3>,
}

impl Plan {
    /// Updates all tensors in place, each once.
    ///
    /// With one thread it works on the calling thread and allocates nothing.
    ///
    /// # Errors
    ///
    /// [`Error::State`] or [`Error::Kind`] where a tensor does not fit its update; nothing is
    /// written then.
    pub fn run(
        &mut self,
        tasks: &mut [Task<'_>],
        updates: &[Update],
        level: Level,
        threads: usize,
    ) -> Result<(), Error> {
        check(tasks, updates)?;
        let (cut, tasks, release) = (&mut self.cut, &*tasks, &self.release);
        let positions = tasks.iter().map(|task| task.tensor.positions());
        cut.set(positions, release.threads(threads), GRAIN);
        pool::for_each(cut.count(), threads, |portion| {
            for piece in cut.pieces(portion) {
                // SAFETY: checked above; `tasks` is borrowed exclusively, each element is in one
                // piece, and the pool hands out each number once.
                unsafe { run_piece(&tasks[piece.index], updates, level, piece, None) }
                release.after(piece, tasks[piece.index].tensor.positions());
            }
        });
        Ok(())
    }

    /// The same, and the norms of each tensor's parameter and change, in the same pass; with `grads` of
    /// its gradient too, which somebody who has read it knows already.
    ///
    /// # Errors
    ///
    /// As [`Plan::run`], and [`Error::Norms`] where a tensor does not take its elements in logical
    /// order or the rule is none that trains; nothing is written then.
    pub fn run_watched(
        &mut self,
        tasks: &mut [Task<'_>],
        updates: &[Update],
        level: Level,
        threads: usize,
        norms: &mut Vec<Norms>,
        grads: bool,
    ) -> Result<(), Error> {
        check(tasks, updates)?;
        if !tasks.iter().all(|task| task.tensor.is_logical() && updates[task.update].trains()) {
            return Err(Error::Norms);
        }
        let (cut, blocks, tasks) = (&mut self.cut, &mut self.blocks, &*tasks);
        let release = &self.release;
        cut.set(tasks.iter().map(|task| task.tensor.len()), release.threads(threads), BLOCK);
        blocks.set(tasks.iter().map(|task| task.tensor.len()));
        let blocks = &*blocks;
        pool::for_each(cut.count(), threads, |portion| {
            for piece in cut.pieces(portion) {
                let found = &blocks.of(piece.index)[piece.start / BLOCK..];
                // SAFETY: as in `run`; pieces begin at multiples of a block.
                unsafe {
                    run_piece(&tasks[piece.index], updates, level, piece, Some((found, grads)))
                }
                release.after(piece, tasks[piece.index].tensor.len());
            }
        });
        norms.clear();
        in_default_mode(|| norms.extend((0..tasks.len()).map(|index| Norms::of(index, blocks))));
        Ok(())
    }
}

/// Refuses tensors that do not fit their update.
fn check(tasks: &[Task<'_>], updates: &[Update]) -> Result<(), Error> {
    tasks.iter().try_for_each(|Task { tensor, update }| {
        tensor.check(updates[*update].kind(), updates[*update].states())
    })
}

/// # Safety
///
/// As [`Tensor::update_block`], or with `found` as [`Tensor::watch_block`], for these elements of
/// the task's tensor.
unsafe fn run_piece(
    task: &Task<'_>,
    updates: &[Update],
    level: Level,
    Piece { start, len, .. }: Piece,
    found: Option<(&[Found<3>], bool)>,
) {
    let tensor = &task.tensor;
    // SAFETY: the caller's promise.
    unsafe {
        match (&updates[task.update], found) {
            (Update::F32(update), None) => tensor.update_block(update, level, start, len),
            (Update::F64(update), None) => tensor.update_block(update, level, start, len),
            (Update::F32(update), Some(found)) => {
                tensor.watch_block(update, level, start, len, found);
            }
            (Update::F64(update), Some(found)) => {
                tensor.watch_block(update, level, start, len, found);
            }
        }
    }
}
