//! Updates of many tensors, spread over threads.

#![allow(unsafe_code)] // hands each element of a tensor to one thread

use crate::array::layout::Order;
use crate::error::Error;
use crate::machine::levels::Level;
use crate::machine::pages::Release;
use crate::machine::pool;
use crate::machine::portions::{Piece, Portions};
use crate::number::float_mode::in_default_mode;
use crate::number::sums::{BLOCK, Blocks, Found};
use crate::read::peers::{self, Peers};
use crate::rule::Update;
use crate::update::statistics::Norms;
use crate::update::tensor::{GRAIN, Tensor};
use crate::update::{apply, narrow};

/// A tensor and the update to apply to it.
#[derive(Debug)]
pub struct Task<'a> {
    /// The arrays.
    pub tensor: Tensor<'a>,
    /// Index into the list of updates.
    pub update: usize,
}

/// Runs updates on tensors; its buffers are kept between calls.
#[derive(Debug, Default)]
pub struct Plan {
    /// Pages to release behind a pass; positions are those of tasks.
    pub release: Release,
    pub(super) portions: Portions,
    blocks: Blocks<3>,
    pub(super) measured: Blocks<1>,
}

impl Plan {
    /// Updates every tensor in place, once.
    ///
    /// With one thread, all work is on the calling thread and nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::State`] or [`Error::Kind`] if a tensor does not fit its update; then nothing is
    /// written.
    pub fn run(
        &mut self,
        tasks: &mut [Task<'_>],
        updates: &[Update],
        level: Level,
        threads: usize,
    ) -> Result<(), Error> {
        check(tasks, updates)?;
        let (portions, tasks, release) = (&mut self.portions, &*tasks, &self.release);
        let positions = tasks.iter().map(|task| task.tensor.positions());
        portions.set(positions, release.threads(threads), GRAIN);
        pool::for_each(portions.count(), threads, |portion| {
            for piece in portions.pieces(portion) {
                // SAFETY: `check` passed; `tasks` is borrowed exclusively, each element is in one
                // piece, and the pool hands out each portion once.
                unsafe { run_piece(&tasks[piece.index], updates, level, piece) }
                release.after(piece, tasks[piece.index].tensor.positions());
            }
        });
        Ok(())
    }

    /// As [`Plan::run`], and takes the norms of each tensor's parameter and change in the same
    /// pass. With `grads` it also takes the norm of the gradient; a caller that has read the
    /// gradient knows it already.
    ///
    /// # Errors
    ///
    /// As [`Plan::run`], and [`Error::Norms`] if a tensor is not in logical order or a rule does
    /// not train; then nothing is written.
    pub fn run_measured(
        &mut self,
        tasks: &mut [Task<'_>],
        updates: &[Update],
        level: Level,
        threads: usize,
        norms: &mut Vec<Norms>,
        grads: bool,
    ) -> Result<(), Error> {
        self.run_summed(tasks, updates, level, threads, grads)?;
        self.norms(norms, None)
    }

    /// As [`Plan::run_measured`]; [`Plan::norms`] takes the norms afterwards.
    ///
    /// # Errors
    ///
    /// As [`Plan::run_measured`].
    pub fn run_summed(
        &mut self,
        tasks: &mut [Task<'_>],
        updates: &[Update],
        level: Level,
        threads: usize,
        grads: bool,
    ) -> Result<(), Error> {
        check(tasks, updates)?;
        if !tasks
            .iter()
            .all(|task| task.tensor.order() == Order::Logical && updates[task.update].trains())
        {
            return Err(Error::Norms);
        }
        let (portions, blocks, tasks) = (&mut self.portions, &mut self.blocks, &*tasks);
        let release = &self.release;
        portions.set(tasks.iter().map(|task| task.tensor.len()), release.threads(threads), BLOCK);
        blocks.set(tasks.iter().map(|task| task.tensor.len()));
        let blocks = &*blocks;
        pool::for_each(portions.count(), threads, |portion| {
            for piece in portions.pieces(portion) {
                let found = &blocks.of(piece.index)[piece.start / BLOCK..];
                // SAFETY: as in `run`; pieces start at multiples of a block.
                unsafe {
                    run_piece_measured(&tasks[piece.index], updates, level, piece, (found, grads));
                }
                release.after(piece, tasks[piece.index].tensor.len());
            }
        });
        Ok(())
    }

    /// The norms of the last [`Plan::run_summed`]; if `peers` have the rest of the tensors, those of
    /// whole tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Peers`].
    pub fn norms(
        &mut self,
        norms: &mut Vec<Norms>,
        peers: Option<&dyn Peers>,
    ) -> Result<(), Error> {
        let whole = peers.map(|peers| peers::whole(peers, &self.blocks)).transpose()?;
        let blocks = whole.as_ref().unwrap_or(&self.blocks);
        norms.clear();
        in_default_mode(|| norms.extend((0..blocks.len()).map(|index| Norms::of(index, blocks))));
        Ok(())
    }
}

/// Refuses tensors that do not fit their update.
pub(super) fn check(tasks: &[Task<'_>], updates: &[Update]) -> Result<(), Error> {
    tasks.iter().try_for_each(|Task { tensor, update }| {
        updates[*update].check(tensor.kind(), tensor.states())
    })
}

/// # Safety
///
/// As [`apply::update`], for the piece of this task's tensor.
unsafe fn run_piece(
    Task { tensor, update }: &Task<'_>,
    updates: &[Update],
    level: Level,
    Piece { start, len, .. }: Piece,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match &updates[*update] {
            Update::F32(update) => narrow::update(tensor, update, level, start, len),
            Update::F64(update) => apply::update(tensor, update, level, start, len),
        }
    }
}

/// # Safety
///
/// As [`apply::update_measured`], for the piece of this task's tensor.
unsafe fn run_piece_measured(
    Task { tensor, update }: &Task<'_>,
    updates: &[Update],
    level: Level,
    Piece { start, len, .. }: Piece,
    found: (&[Found<3>], bool),
) {
    let range = (start, len);
    // SAFETY: the caller's promise.
    unsafe {
        match &updates[*update] {
            Update::F32(update) => apply::update_measured(tensor, update, level, range, found),
            Update::F64(update) => apply::update_measured(tensor, update, level, range, found),
        }
    }
}
