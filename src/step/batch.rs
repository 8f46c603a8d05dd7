//! The work of a step after all checks, which any thread can run.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::Error;
use crate::machine::pages::Span;
use crate::read::norm::{self, ReadPass};
use crate::read::peers::{Peers, totals};
use crate::rule::{History, Intake, Measure, Numbers, Update};
use crate::step::kept::Kept;
use crate::step::key::UpdateKey;
use crate::step::row_counts::RowCounts;
use crate::step::setting::{Clip, Policy, Setting};
use crate::update::plan::{Plan, Task};
use crate::update::statistics::Norms;
use crate::update::tensor::Tensor;

/// Number of recent keys that are searched one by one, the last first; neighbours mostly have the
/// same key.
const GLANCE: usize = 8;

/// The tensors of a step, in the order of their names. The buffers are reused between steps.
#[derive(Debug, Default)]
pub struct Batch {
    leaves: Vec<usize>,
    /// The first task of each leaf; all others have one task.
    starts: Vec<usize>,
    /// Whether a parameter is float16.
    halves: bool,
    tasks: Vec<Task<'static>>,
    updates: Vec<Update>,
    keys: Vec<UpdateKey>,
    /// The intake of each update.
    intakes: Vec<Intake>,
    /// The history that each of the updates leaves.
    histories: Vec<History>,
    /// The place of each tensor's history, if the rule keeps it.
    kept: Vec<Kept>,
    /// Positions of the keys that are older than the last [`GLANCE`].
    earlier: HashMap<UpdateKey, usize>,
    reads: Vec<norm::Input<'static>>,
    norms: Vec<Norms>,
    counted: Vec<RowCounts>,
    plan: Plan,
    pass: ReadPass,
}

/// The result of [`Batch::read`].
#[derive(Debug)]
pub struct Done {
    /// The norm of all gradients with their scale, if they were read.
    pub grad_norm: Option<f64>,
    /// The factor that the limit puts on the gradients; the smallest, if tensors have their own.
    pub clip: f64,
    /// Leaves with refused gradients, and their numbers of refused elements. If there are any,
    /// nothing is written.
    pub refused: Vec<(usize, u64)>,
}

impl Batch {
    /// Drops all references to arrays.
    pub fn clear(&mut self) {
        self.halves = false;
        self.leaves.clear();
        self.starts.clear();
        self.tasks.clear();
        self.updates.clear();
        self.keys.clear();
        self.intakes.clear();
        self.histories.clear();
        self.kept.clear();
        self.earlier.clear();
        self.reads.clear();
        self.norms.clear();
        self.counted.clear();
        self.plan.release.clear();
        self.pass.release.clear();
    }

    /// Registers pages of a file for release behind the update of the last tensor, and those of a
    /// gradient also behind its reading.
    ///
    /// # Safety
    ///
    /// As [`Release::push`](crate::machine::pages::Release::push), until [`Batch::clear`].
    #[allow(unsafe_code)] // passes the caller's guarantee on
    pub unsafe fn release(&mut self, span: Span, is_gradient: bool) {
        // SAFETY: guaranteed by the caller of this function.
        unsafe {
            self.plan.release.push(self.tasks.len() - 1, span);
            if is_gradient && !self.reads.is_empty() {
                self.pass.release.push(self.reads.len() - 1, span);
            }
        }
    }

    /// Adds a leaf's tensor. `read` is its gradient, if the setting can require reading it.
    #[inline(always)]
    pub fn push(
        &mut self,
        leaf: usize,
        (tensor, kept): (Tensor<'static>, Option<Kept>),
        update: usize,
        read: Option<norm::Input<'static>>,
    ) {
        if let Some(kept) = kept {
            self.kept.push(kept);
        }
        self.leaves.push(leaf);
        self.starts.push(self.tasks.len());
        if let Some(read) = read {
            self.reads.push(read);
        }
        self.push_more(tensor, update);
    }

    /// Adds more of the last leaf: rows whose numbers of updates differ from those before.
    #[inline(always)]
    pub fn push_more(&mut self, tensor: Tensor<'static>, update: usize) {
        self.halves |= tensor.can_overflow();
        self.tasks.push(Task { tensor, update });
    }

    /// Adds rows whose numbers of updates increase with those of the leaves.
    pub fn count(&mut self, rows: Option<RowCounts>) {
        self.counted.extend(rows);
    }

    /// Adds 1 to the numbers of updates of rows.
    pub fn count_rows(&self) {
        self.counted.iter().for_each(RowCounts::count);
    }

    /// For each leaf, the range of its tasks.
    fn ranges(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let ends = self.starts.iter().skip(1).copied().chain([self.tasks.len()]);
        let ranges = self.starts.iter().zip(ends).map(|(start, end)| *start..end);
        self.leaves.iter().copied().zip(ranges)
    }

    /// Number of elements in all tensors.
    pub fn elements(&self) -> usize {
        self.tasks.iter().map(|task| task.tensor.len()).sum()
    }

    /// Whether the update visits the last tensor's elements in memory order or logical order, not
    /// in tiles.
    pub fn in_lines(&self) -> bool {
        self.tasks.last().is_some_and(|task| task.tensor.in_lines())
    }

    /// The leaves whose update left the range of float16.
    pub fn overflowed(&self) -> impl Iterator<Item = usize> {
        let leaves = self.halves.then(|| self.ranges()).into_iter().flatten();
        let overflowed = |tasks: &[Task<'_>]| tasks.iter().any(|task| task.tensor.overflowed());
        leaves
            .filter(move |(_, range)| overflowed(&self.tasks[range.clone()]))
            .map(|(leaf, _)| leaf)
    }

    /// The leaves in the batch.
    pub fn leaves(&self) -> &[usize] {
        &self.leaves
    }

    /// The position of the coefficients for a key; they are made on first use.
    #[inline]
    pub fn coefficients(
        &mut self,
        key: UpdateKey,
        numbers: &[Numbers],
        intake: Intake,
    ) -> Result<usize, Error> {
        // The key of a single tensor is used once, so it is not searched for.
        if key.tensor.is_none()
            && let Some(position) = self.made(&key)
        {
            return Ok(position);
        }
        self.make(key, numbers, intake)
    }

    fn make(
        &mut self,
        key: UpdateKey,
        numbers: &[Numbers],
        intake: Intake,
    ) -> Result<usize, Error> {
        let numbers = key.numbers(numbers);
        let update = numbers.at_step(key.kind, key.step, intake)?;
        self.histories.push(numbers.history_after(key.step)?);
        self.updates.push(update);
        self.keys.push(key);
        self.intakes.push(intake);
        let position = self.keys.len() - 1;
        if key.tensor.is_none() && position >= GLANCE {
            self.earlier.insert(self.keys[position - GLANCE], position - GLANCE);
        }
        Ok(position)
    }

    /// The position of the coefficients for a key, if they exist.
    fn made(&self, key: &UpdateKey) -> Option<usize> {
        let start = self.keys.len().saturating_sub(GLANCE);
        let recent = self.keys[start..].iter().rposition(|other| other == key);
        recent.map(|position| start + position).or_else(|| self.earlier.get(key).copied())
    }

    /// For each leaf, in the order of `leaves`: the norms of `scale` times its gradient, of its
    /// parameter, and of the change of the parameter. Valid after a measured update.
    pub fn norms(&self, scale: f64) -> impl Iterator<Item = (usize, Norms)> {
        let joined = |norms: &[Norms]| match norms {
            [one] => *one,
            several => several.iter().copied().fold(Norms::default(), Norms::with),
        };
        self.ranges().map(move |(leaf, range)| {
            let norms = joined(&self.norms[range]);
            (leaf, Norms { grad: scale * norms.grad, ..norms })
        })
    }

    /// Reads the gradients if the setting requires it: their norm, the clip, and refused elements.
    /// With `peers`, which have the rest of the tensors, the result is that of whole tensors, the
    /// same in each process; without an error, each of them can take the step.
    pub fn read(
        &mut self,
        numbers: &[Numbers],
        setting: &Setting,
        peers: Option<&dyn Peers>,
    ) -> Result<Done, Error> {
        let Setting { level, threads, policy, scale, .. } = *setting;
        let mut done = Done { grad_norm: None, clip: 1.0, refused: Vec::new() };
        if let Some(peers) = peers.filter(|_| !setting.reads()) {
            peers.gather(&[])?;
        }
        if setting.reads() {
            let norm = match peers {
                None => self.pass.read(&self.reads, level, threads),
                Some(peers) => self.pass.read_among(&self.reads, level, threads, peers)?,
            };
            done.grad_norm = Some(norm.of_scaled(scale));
            done.clip = self.clip(numbers, setting, norm)?;
            if policy != Policy::Ignore {
                // Which gradients a rule can take does not depend on the number of updates.
                let (updates, tasks, starts) = (&self.updates, &self.tasks, &self.starts);
                let mut refused =
                    self.pass.refused(&self.reads, |i| &updates[tasks[starts[i]].update]);
                if let Some(peers) = peers.filter(|_| !refused.is_empty()) {
                    let here: Vec<f64> = refused.iter().map(|(_, n)| *n as f64).collect();
                    let all = totals(peers, &here)?;
                    refused.iter_mut().zip(all).for_each(|((_, n), all)| *n = all as u64);
                }
                done.refused = refused.into_iter().map(|(i, n)| (self.leaves[i], n)).collect();
            }
        }
        Ok(done)
    }

    /// Updates all tensors, after [`Batch::read`] and [`Batch::measure`]. If it fails, nothing was
    /// written.
    pub fn update(&mut self, setting: &Setting) -> Result<(), Error> {
        let Setting { level, threads, .. } = *setting;
        self.plan.run(&mut self.tasks, &self.updates, level, threads)
    }

    /// As [`Batch::update`], with sums for [`Batch::take_norms`], for a setting that is `measured`.
    pub fn update_summed(&mut self, setting: &Setting) -> Result<(), Error> {
        let Setting { level, threads, .. } = *setting;
        let (plan, tasks, updates) = (&mut self.plan, &mut self.tasks, &self.updates);
        plan.run_summed(tasks, updates, level, threads, !setting.reads())
    }

    /// Takes [`Batch::norms`] after [`Batch::update_summed`], with `peers` those of whole tensors.
    pub fn take_norms(
        &mut self,
        setting: &Setting,
        peers: Option<&dyn Peers>,
    ) -> Result<(), Error> {
        let Setting { level, threads, .. } = *setting;
        self.plan.norms(&mut self.norms, peers)?;
        let overflows = self.norms.iter().any(|norms| norms.grad.is_infinite());
        match peers {
            Some(peers) if overflows => {
                self.pass.read_among(&self.reads, level, threads, peers)?;
            }
            None if overflows => {
                self.pass.read(&self.reads, level, threads);
            }
            _ => {}
        }
        if overflows || setting.reads() {
            // The reading gives the same bits, and is correct even if squares overflow.
            self.norms.iter_mut().for_each(|norms| norms.grad = 0.0);
            for (i, start) in self.starts.iter().enumerate() {
                self.norms[*start].grad = self.pass.norm_of(i).of_scaled(1.0);
            }
        }
        Ok(())
    }

    /// Takes the measures that the numbers of a tensor ask for, with `peers` those of whole tensors,
    /// and makes its coefficients again. Nothing is written.
    pub fn measure(
        &mut self,
        numbers: &[Numbers],
        setting: &Setting,
        peers: Option<&dyn Peers>,
    ) -> Result<(), Error> {
        let Setting { level, threads, .. } = *setting;
        if numbers.iter().all(|numbers| numbers.measures().next().is_none()) {
            return Ok(());
        }
        let (tasks, keys) = (&self.tasks, &self.keys);
        let mut lens: Vec<f64> = tasks.iter().map(|task| task.tensor.len() as f64).collect();
        if let Some(peers) = peers {
            lens = totals(peers, &lens)?;
        }
        let of = |task: usize| keys[tasks[task].update].numbers(numbers);
        let mut taken: Vec<Option<Numbers>> = vec![None; tasks.len()];
        for measure in Measure::ALL {
            let wanted = |task: usize| of(task).measures().any(|wanted| wanted == measure);
            if !(0..tasks.len()).any(wanted) {
                continue;
            }
            let sums = self.plan.measure(
                measure,
                tasks,
                &self.updates,
                (level, threads),
                wanted,
                peers,
            )?;
            // The rows of a leaf are measured together.
            for (_, range) in self.ranges().filter(|(_, range)| wanted(range.start)) {
                let sum = sums[range.clone()].iter().fold(0.0, |sum, more| sum + more);
                let len: f64 = lens[range.clone()].iter().sum();
                for task in range {
                    taken[task].get_or_insert_with(|| of(task)).take(measure, sum, len as usize);
                }
            }
        }
        for (task, numbers) in taken.into_iter().enumerate() {
            if let Some(numbers) = numbers {
                let position = tasks[task].update;
                let UpdateKey { kind, step, .. } = keys[position];
                self.updates[position] = numbers.at_step(kind, step, self.intakes[position])?;
            }
        }
        Ok(())
    }

    /// Writes the histories that the update leaves, after [`Batch::update`].
    pub fn note_histories(&self) {
        for (kept, task) in self.kept.iter().zip(&self.tasks) {
            kept.set(self.histories[task.update]);
        }
    }

    /// Clips by norm: makes the coefficients again with a factor on the gradients. Returns the
    /// smallest factor.
    ///
    /// With a gradient that is NaN or infinite, no clip is applied except under `Policy::Ignore`,
    /// so that the other gradients are judged unclipped.
    fn clip(
        &mut self,
        numbers: &[Numbers],
        setting: &Setting,
        norm: norm::Norm,
    ) -> Result<f64, Error> {
        let Setting { policy, scale, .. } = *setting;
        let applies = |norm: norm::Norm, clip: f64| {
            clip != 1.0 && (norm.is_finite() || policy == Policy::Ignore)
        };
        let mut least = 1.0_f64;
        for (position, key) in self.keys.iter().enumerate() {
            let (norm, max_norm) = match (setting.clip, key.tensor) {
                (Clip::Norm(max_norm), _) => (norm, max_norm),
                (Clip::TensorNorm(max_norm), Some(tensor)) => (self.pass.norm_of(tensor), max_norm),
                _ => continue,
            };
            let clip = norm.clip(max_norm, scale);
            if applies(norm, clip) {
                let UpdateKey { kind, step, .. } = *key;
                let numbers = key.numbers(numbers);
                self.intakes[position] = (scale * clip).into();
                self.updates[position] = numbers.at_step(kind, step, self.intakes[position])?;
                // A NaN is kept.
                least = if least.is_nan() || clip >= least { least } else { clip };
            }
        }
        Ok(least)
    }
}
