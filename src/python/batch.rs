//! The work of a step once all is checked: threads that run it need know nothing of Python.

use super::hyper::Numbers;
use super::model::Policy;
use crate::dispatch::Level;
use crate::element::Kind;
use crate::error::Error;
use crate::norm::{self, ReadPass};
use crate::plan::{Plan, Task, Update};
use crate::tensor::Tensor;

/// The tensors of a step, in the order of their names. It keeps its room between steps.
#[derive(Debug, Default)]
pub struct Batch {
    /// Numbers of the leaves.
    leaves: Vec<usize>,
    tasks: Vec<Task<'static>>,
    updates: Vec<Update>,
    keys: Vec<UpdateKey>,
    reads: Vec<norm::Leaf<'static>>,
    plan: Plan,
    pass: ReadPass,
}

/// What the coefficients of a tensor depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateKey {
    pub class: usize,
    pub step: u64,
    pub kind: Kind,
    pub states: usize,
}

/// How a batch is to be run.
pub struct Setting {
    pub level: Level,
    pub threads: usize,
    pub policy: Policy,
    pub max_norm: Option<f64>,
    pub scale: f64,
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
        self.policy != Policy::Ignore || self.max_norm.is_some()
    }
}

impl Batch {
    /// Lets go of all arrays.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.tasks.clear();
        self.updates.clear();
        self.keys.clear();
        self.reads.clear();
    }

    /// Adds a leaf's tensor; `read` is its gradient, where the setting asks for reading.
    pub fn push(
        &mut self,
        leaf: usize,
        tensor: Tensor<'static>,
        update: usize,
        read: Option<norm::Leaf<'static>>,
    ) {
        self.leaves.push(leaf);
        self.tasks.push(Task { tensor, update });
        self.reads.extend(read);
    }

    /// Number of elements in all tensors.
    pub fn elements(&self) -> usize {
        self.tasks.iter().map(|task| task.tensor.len()).sum()
    }

    /// Numbers of the leaves in it.
    pub fn leaves(&self) -> &[usize] {
        &self.leaves
    }

    /// The position of the coefficients for a key; they are made when first asked for.
    pub fn update(
        &mut self,
        key: UpdateKey,
        numbers: &[Numbers],
        scale: f64,
    ) -> Result<usize, Error> {
        if let Some(position) = self.keys.iter().rposition(|other| *other == key) {
            return Ok(position);
        }
        self.updates.push(numbers[key.class].update(key.kind, key.states, key.step, scale)?);
        self.keys.push(key);
        Ok(self.keys.len() - 1)
    }

    /// Reads the gradients if asked to, judges them, and updates all tensors or none.
    pub fn run(&mut self, numbers: &[Numbers], setting: &Setting) -> Result<Done, Error> {
        let Setting { level, threads, policy, scale, .. } = *setting;
        let mut done = Done { grad_norm: None, clip: 1.0, refused: Vec::new() };
        if setting.reads() {
            let norm = self.pass.read(&self.reads, level, threads);
            done.grad_norm = Some(norm.of_scaled(scale));
            let clip = setting.max_norm.map_or(1.0, |max_norm| norm.clip(max_norm, scale));
            // Where a gradient is NaN or infinite there is no clip to judge the others by.
            if clip != 1.0 && (norm.is_finite() || policy == Policy::Ignore) {
                done.clip = clip;
                self.scale_by(numbers, scale * clip)?;
            }
            if policy != Policy::Ignore {
                let (updates, tasks) = (&self.updates, &self.tasks);
                let refused = self.pass.refused(&self.reads, |i| &updates[tasks[i].update]);
                if !refused.is_empty() {
                    let leaf = |(i, count)| (self.leaves[i], count);
                    done.refused = refused.into_iter().map(leaf).collect();
                    return Ok(done);
                }
            }
        }
        self.plan.run(&mut self.tasks, &self.updates, level, threads)?;
        Ok(done)
    }

    /// Makes the coefficients again, for another factor on the gradients.
    fn scale_by(&mut self, numbers: &[Numbers], scale: f64) -> Result<(), Error> {
        for (key, update) in self.keys.iter().zip(&mut self.updates) {
            *update = numbers[key.class].update(key.kind, key.states, key.step, scale)?;
        }
        Ok(())
    }
}
