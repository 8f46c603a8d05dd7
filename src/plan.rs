//! Many tensors, cut into blocks, spread over threads.

#![allow(unsafe_code)] // hands each block of a tensor to one thread

use crate::dispatch::Level;
use crate::element::Kind;
use crate::error::Error;
use crate::pool;
use crate::rule::Coefficients;
use crate::tensor::Tensor;

/// Elements a block: enough that taking one costs nothing, few enough to balance over threads. The
/// norm is summed over the same blocks, so this number is part of its definition.
pub(crate) const BLOCK: usize = 16_384;

/// Below this many elements in all an update stays on the calling thread: waking a helper takes
/// about as long as updating them.
pub const PARALLEL_MIN: usize = 65_536;

/// How many of `threads` threads pay for work on this many elements.
pub fn useful_threads(elements: usize, threads: usize) -> usize {
    if elements < PARALLEL_MIN { 1 } else { threads }
}

/// A numbering of the blocks of several arrays; keeps its room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks {
    /// For each array, the number of blocks in it and all before it.
    ends: Vec<usize>,
}

impl Blocks {
    /// Numbers the blocks of arrays of these lengths.
    pub(crate) fn set(&mut self, lens: impl Iterator<Item = usize>) {
        self.ends.clear();
        self.ends.extend(lens.scan(0, |end, len| {
            *end += len.div_ceil(BLOCK);
            Some(*end)
        }));
    }

    /// How many there are in all.
    pub(crate) fn count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The numbers of the blocks of array `index`.
    pub(crate) fn of(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// The array that a block is in, and its number there.
    pub(crate) fn locate(&self, block: usize) -> (usize, usize) {
        let index = self.ends.partition_point(|end| *end <= block);
        (index, block - self.of(index).start)
    }
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
#[derive(Clone, Debug, Default)]
pub struct Plan {
    blocks: Blocks,
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
        for Task { tensor, update } in tasks.iter() {
            tensor.check(updates[*update].kind(), updates[*update].states())?;
        }
        if threads == 1 {
            for task in tasks.iter() {
                for block in 0..task.tensor.len().div_ceil(BLOCK) {
                    // SAFETY: checked above; `tasks` is borrowed exclusively, and each block runs
                    // once.
                    unsafe { run_block(task, updates, level, block) }
                }
            }
            return Ok(());
        }
        self.blocks.set(tasks.iter().map(|task| task.tensor.len()));
        let (blocks, tasks) = (&self.blocks, &*tasks);
        pool::for_each(blocks.count(), threads, |block| {
            let (index, within) = blocks.locate(block);
            // SAFETY: as above; the pool hands out each number once.
            unsafe { run_block(&tasks[index], updates, level, within) }
        });
        Ok(())
    }
}

/// # Safety
///
/// As [`Tensor::update_block`], for block number `block` of the task's tensor.
unsafe fn run_block(task: &Task<'_>, updates: &[Update], level: Level, block: usize) {
    let start = block * BLOCK;
    let len = BLOCK.min(task.tensor.len() - start);
    // SAFETY: the caller's promise.
    unsafe {
        match &updates[task.update] {
            Update::F32(coefficients) => {
                task.tensor.update_block(coefficients, level, start, len);
            }
            Update::F64(coefficients) => {
                task.tensor.update_block(coefficients, level, start, len);
            }
        }
    }
}
