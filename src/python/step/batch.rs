//! The work of a step once all is checked: threads that run it need know nothing of Python.

use std::collections::HashMap;

use crate::model::options::Policy;
use thalweg::error::Error;
use thalweg::machine::levels::Level;
use thalweg::machine::pages::Span;
use thalweg::number::element::Kind;
use thalweg::read::norm::{self, ReadPass};
use thalweg::rule::{Intake, Numbers, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::statistics::Norms;
use thalweg::update::tensor::Tensor;

/// How many keys are looked through for one, the last ones first; neighbours mostly have the same.
const GLANCE: usize = 8;

/// The tensors of a step, in the order of their names. It keeps its room between steps.
#[derive(Debug, Default)]
pub struct Batch {
    /// Which leaves they are of.
    leaves: Vec<usize>,
    tasks: Vec<Task<'static>>,
    updates: Vec<Update>,
    keys: Vec<UpdateKey>,
    /// Positions of the keys that were made before the last few.
    earlier: HashMap<UpdateKey, usize>,
    reads: Vec<norm::Input<'static>>,
    norms: Vec<Norms>,
    plan: Plan,
    pass: ReadPass,
}

/// What the coefficients of a tensor depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpdateKey {
    pub class: usize,
    pub step: u64,
    pub kind: Kind,
    /// The tensor itself, where each has a clip of its own.
    pub tensor: Option<usize>,
}

/// What limits the gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    No,
    /// The norm of all together.
    Norm(f64),
    /// The norm of each tensor by itself.
    TensorNorm(f64),
    /// The magnitude of each element.
    Value(f64),
}

/// How a batch is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub level: Level,
    pub threads: usize,
    pub policy: Policy,
    pub clip: Clip,
    pub scale: f64,
    /// Whether norms are taken in the pass of the update.
    pub measured: bool,
}

/// What running a batch came to.
pub struct Done {
    pub grad_norm: Option<f64>,
    pub clip: f64,
    /// Leaves with gradients that cannot be taken, and how many; then nothing was written.
    pub refused: Vec<(usize, u64)>,
}

impl Setting {
    /// Whether the gradients must be read before the update.
    pub fn reads(&self) -> bool {
        self.policy != Policy::Ignore || matches!(self.clip, Clip::Norm(_) | Clip::TensorNorm(_))
    }

    /// How gradients come in that no norm clips.
    pub fn intake(&self) -> Intake {
        let max_value = match self.clip {
            Clip::Value(max_value) => max_value,
            _ => f64::INFINITY,
        };
        Intake { scale: self.scale, max_value }
    }
}

impl Batch {
    /// Lets go of all arrays.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.tasks.clear();
        self.updates.clear();
        self.keys.clear();
        self.earlier.clear();
        self.reads.clear();
        self.norms.clear();
        self.plan.release.clear();
        self.pass.release.clear();
    }

    /// Lets go of a file's pages behind the passes over the last tensor; of a gradient's behind both.
    ///
    /// # Safety
    ///
    /// As [`Release::push`](thalweg::machine::pages::Release::push), until it is cleared.
    #[allow(unsafe_code)] // passes a promise on
    pub unsafe fn release(&mut self, span: Span, is_gradient: bool) {
        let position = self.tasks.len() - 1;
        // SAFETY: the caller's promise.
        unsafe {
            self.plan.release.push(position, span);
            if is_gradient && !self.reads.is_empty() {
                self.pass.release.push(position, span);
            }
        }
    }

    /// Adds a leaf's tensor; `read` is its gradient, where the setting may ask for reading.
    pub fn push(
        &mut self,
        leaf: usize,
        tensor: Tensor<'static>,
        update: usize,
        read: Option<norm::Input<'static>>,
    ) {
        self.leaves.push(leaf);
        self.tasks.push(Task { tensor, update });
        self.reads.extend(read);
    }

    /// Number of elements in all tensors.
    pub fn elements(&self) -> usize {
        self.tasks.iter().map(|task| task.tensor.len()).sum()
    }

    /// Whether a pass takes the last tensor's elements in the order of its parameter's memory.
    pub fn in_lines(&self) -> bool {
        self.tasks.last().is_some_and(|task| task.tensor.in_lines())
    }

    /// Which leaves are in it.
    pub fn leaves(&self) -> &[usize] {
        &self.leaves
    }

    /// The position of the coefficients for a key; they are made when first asked for.
    pub fn coefficients(
        &mut self,
        key: UpdateKey,
        numbers: &[Numbers],
        intake: Intake,
    ) -> Result<usize, Error> {
        // A tensor's own coefficients are asked for once.
        if key.tensor.is_none()
            && let Some(position) = self.made(&key)
        {
            return Ok(position);
        }
        self.updates.push(numbers[key.class].at_step(key.kind, key.step, intake)?);
        self.keys.push(key);
        let position = self.keys.len() - 1;
        if key.tensor.is_none() && position >= GLANCE {
            self.earlier.insert(self.keys[position - GLANCE], position - GLANCE);
        }
        Ok(position)
    }

    /// The position of the coefficients for a key, if they are made.
    fn made(&self, key: &UpdateKey) -> Option<usize> {
        let start = self.keys.len().saturating_sub(GLANCE);
        let recent = self.keys[start..].iter().rposition(|other| other == key);
        recent.map(|position| start + position).or_else(|| self.earlier.get(key).copied())
    }

    /// Norms of a leaf's gradient times `scale`, its parameter and what was added to it, after a run
    /// that took them, in the order of `leaves`.
    pub fn norms(&self, scale: f64) -> impl Iterator<Item = (usize, Norms)> {
        (self.leaves.iter().zip(&self.norms))
            .map(move |(leaf, norms)| (*leaf, Norms { grad: scale * norms.grad, ..*norms }))
    }

    /// Reads the gradients if asked to, and judges them.
    pub fn read(&mut self, numbers: &[Numbers], setting: &Setting) -> Result<Done, Error> {
        let Setting { level, threads, policy, scale, .. } = *setting;
        let mut done = Done { grad_norm: None, clip: 1.0, refused: Vec::new() };
        if setting.reads() {
            let norm = self.pass.read(&self.reads, level, threads);
            done.grad_norm = Some(norm.of_scaled(scale));
            done.clip = self.clip(numbers, setting, norm)?;
            if policy != Policy::Ignore {
                let (updates, tasks) = (&self.updates, &self.tasks);
                let refused = self.pass.refused(&self.reads, |i| &updates[tasks[i].update]);
                done.refused = refused.into_iter().map(|(i, n)| (self.leaves[i], n)).collect();
            }
        }
        Ok(done)
    }

    /// Updates all tensors, after [`Batch::read`]. Where it is refused nothing was written.
    pub fn update(&mut self, setting: &Setting) -> Result<(), Error> {
        let Setting { level, threads, .. } = *setting;
        let (plan, tasks, updates) = (&mut self.plan, &mut self.tasks, &self.updates);
        if !setting.measured {
            return plan.run(tasks, updates, level, threads);
        }
        let grads = !setting.reads();
        plan.run_measured(tasks, updates, level, threads, &mut self.norms, grads)?;
        let overflows = self.norms.iter().any(|norms| norms.grad.is_infinite());
        if overflows {
            self.pass.read(&self.reads, level, threads);
        }
        if overflows || setting.reads() {
            // The same bits, and right also where squares overflow.
            for (i, norms) in self.norms.iter_mut().enumerate() {
                norms.grad = self.pass.norm_of(i).of_scaled(1.0);
            }
        }
        Ok(())
    }

    /// Clips by norm: makes the coefficients again, for other factors on the gradients. Returns the
    /// smallest.
    ///
    /// Where a gradient is NaN or infinite there is no clip to judge the others by.
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
                let UpdateKey { class, kind, step, .. } = *key;
                self.updates[position] = numbers[class].at_step(kind, step, scale * clip)?;
                // NaN stays.
                least = if least.is_nan() || clip >= least { least } else { clip };
            }
        }
        Ok(least)
    }
}
