//! Steps.

#![allow(unsafe_code)] // binds slices and state for the time of a step

use super::error::Error;
use super::groups::Source;
use super::held::{Held, Pending, lacking};
use super::param::Param;
use super::state::Leaf;
use crate::array::layout::Order;
use crate::array::pointer::{ARRAYS, GRADIENT, PARAMETER, Pointer};
use crate::array::storage::Storage;
use crate::machine::fork;
use crate::machine::levels::Level;
use crate::machine::threads::{check_threads, num_threads, useful_threads};
use crate::number::element::Kind;
use crate::number::float_mode::in_default_mode;
use crate::read::norm;
use crate::rule::{Hyperparameter, StateSpec, When};
use crate::step::kept::Kept;
use crate::step::key::UpdateKey;
use crate::step::setting::{Clip, Policy, Setting};
use crate::update::tensor::{Narrow, Tensor};

/// The options of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// A factor on the gradients, above 0.
    pub scale: f64,
    /// Limit on the norm of all gradients together.
    pub max_norm: Option<f64>,
    /// Limit on the magnitude of each element of the gradients.
    pub max_value: Option<f64>,
    /// The most threads; by default as [`num_threads`] says. With 1, all work is on the calling
    /// thread.
    pub threads: Option<usize>,
}

impl Default for Step {
    fn default() -> Self {
        Step { scale: 1.0, max_norm: None, max_value: None, threads: None }
    }
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Number of steps taken.
    pub step: u64,
    /// The norm of all gradients with their scale, before clipping; `None` if they were not read.
    pub grad_norm: Option<f64>,
    /// The factor of clipping by norm.
    pub clip: f64,
    /// Whether the step was skipped, because of gradients that are not finite.
    pub skipped: bool,
    /// The parameters with such gradients, and the number of elements of each.
    pub nonfinite: Vec<(String, u64)>,
    /// The float16 parameters whose update left the range of float16, where elements are infinite.
    pub overflowed: Vec<String>,
}

impl Held {
    /// Does the work of a step. If it fails, parameters that it has added are removed.
    pub fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let known = self.leaves.len();
        // A panic of the caller's code, such as a schedule, may have left what it borrowed.
        self.release();
        let done = work(self);
        self.release();
        if done.is_err() {
            for leaf in self.leaves.drain(known..) {
                self.places.remove(&leaf.name);
            }
        }
        done
    }

    /// Drops all references to the parameters of a step.
    fn release(&mut self) {
        self.pending.clear();
        self.batch.clear();
    }

    /// Finds the state of a parameter, or makes it, and checks that parameter and gradient fit.
    pub fn find(&mut self, param: &Param<'_>, source: &dyn Source) -> Result<(), Error> {
        let Param { name, shape, p, g } = param;
        if g.len != p.len {
            let what = format!("the gradient must have {} elements, got {}", p.len, g.len);
            return Err(Error::of(name, what));
        }
        let leaf = self.place(name, (p.pointer.storage, p.len), *shape, source)?;
        self.pending.push(Pending { leaf, p: p.pointer, g: g.pointer });
        Ok(())
    }

    /// The position of a parameter of this type and length, which is added if the name is new. Its
    /// shape is its length, if none is given.
    pub fn place(
        &mut self,
        name: &str,
        (storage, len): (Storage, usize),
        shape: Option<&[usize]>,
        source: &dyn Source,
    ) -> Result<usize, Error> {
        let refusal = |what: String| Err(Error::of(name, what));
        if !storage.is_live() {
            return refusal(format!("a parameter cannot be {}", storage.numpy()));
        }
        let own = [len];
        let shape = shape.unwrap_or(&own);
        if shape.iter().try_fold(1, |n: usize, axis| n.checked_mul(*axis)) != Some(len) {
            return refusal(format!("{len} elements do not have the shape {shape:?}"));
        }
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.add(name, (storage, shape), source)?,
        };
        let before = &self.leaves[place];
        if (before.storage, before.len) != (storage, len) {
            return refusal(format!(
                "the parameter must have {} elements of {} as before, got {len} of {}",
                before.len,
                before.storage.numpy(),
                storage.numpy()
            ));
        }
        Ok(place)
    }

    /// Adds a parameter, with zeros for its state.
    fn add(
        &mut self,
        name: &str,
        form: (Storage, &[usize]),
        source: &dyn Source,
    ) -> Result<usize, Error> {
        let leaf = self.made(name, form, self.step_count + 1, source)?;
        self.leaves.push(leaf);
        self.places.insert(name.to_owned(), self.leaves.len() - 1);
        Ok(self.leaves.len() - 1)
    }

    /// Counts a step with these parameters.
    pub fn count(&mut self, mut names: Vec<&str>) -> Result<(), Error> {
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::of(pair[0], "it occurs twice in one step"));
        }
        let place = |name: &&str| {
            let place = self.places.get(*name).copied();
            place.ok_or_else(|| Error::of(name, "the optimizer does not have it"))
        };
        let places = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        places.into_iter().for_each(|place| self.leaves[place].step += 1);
        self.skips.consecutive = 0;
        self.step_count += 1;
        Ok(())
    }

    /// Takes a step with the parameters that were found.
    pub fn take(&mut self, how: &Step, source: &dyn Source) -> Result<Report, Error> {
        let mut setting = Setting {
            level: Level::current(),
            threads: how
                .threads
                .map_or_else(|| Ok(num_threads().0), |threads| check_threads(threads, "threads"))?,
            policy: self.policy,
            clip: clip_of(how)?,
            scale: Hyperparameter::Scale.check(how.scale, Kind::F64)?,
            measured: false,
        };
        let leaves = &self.leaves;
        self.pending.sort_unstable_by(|a, b| leaves[a.leaf].name.cmp(&leaves[b.leaf].name));
        if let Some(pair) = self.pending.windows(2).find(|pair| pair[0].leaf == pair[1].leaf) {
            return Err(Error::of(&leaves[pair[0].leaf].name, "it occurs twice in one step"));
        }
        let step = self.step_count + 1;
        self.numbers.clear();
        for class in 0..self.classes.len() {
            let numbers = self.at(class, step, source)?;
            self.numbers.push(numbers);
        }
        in_default_mode(|| {
            self.bind(&setting)?;
            setting.threads = useful_threads(self.batch.elements(), setting.threads);
            fork::whole(|| self.run(step, &setting))
        })
    }

    /// Binds the parameters of the step with their state.
    fn bind(&mut self, setting: &Setting) -> Result<(), Error> {
        let measures = self.numbers.iter().any(|numbers| numbers.measures().next().is_some());
        for (position, Pending { leaf: place, p, g }) in self.pending.iter().enumerate() {
            let leaf = &mut self.leaves[*place];
            if let Some(spec) = self.specs.get(leaf.states)
                && lacking(spec, &mut self.numbers[leaf.class]).is_none()
            {
                return Err(Error::of(&leaf.name, never_begun(spec)));
            }
            // SAFETY: the memory of the leaf is aligned, and lives until the batch is cleared.
            let kept = leaf.history().map(|history| unsafe { Kept::at(history) });
            let key = UpdateKey {
                class: leaf.class,
                step: leaf.step + 1,
                kind: p.storage.element(),
                tensor: measures.then_some(position),
                history: kept.map_or_else(Default::default, |kept| kept.bits()),
            };
            let update = self.batch.coefficients(key, &self.numbers, setting.intake());
            let name = || Some(leaf.name.clone());
            let update = update.map_err(|error| Error::Core { name: name(), error })?;
            let pointers = leaf.pointers(*p, *g);
            // SAFETY: the caller of the step has exclusive borrows of the parameters and shared ones
            // of the gradients, all of them slices, until the batch is cleared; no parameter occurs
            // twice; and the state is the leaf's own.
            let (tensor, read) = unsafe { bound(leaf, pointers) };
            self.batch.push(*place, (tensor, kept), update, setting.reads().then_some(read));
        }
        Ok(())
    }

    /// Reads, updates and counts.
    fn run(&mut self, step: u64, setting: &Setting) -> Result<Report, Error> {
        let done = self.batch.read(&self.numbers, setting, None)?;
        let refused = done.refused.into_iter().map(|(leaf, n)| (self.leaves[leaf].name.clone(), n));
        let nonfinite: Vec<(String, u64)> = refused.collect();
        let skipped = !nonfinite.is_empty();
        let mut overflowed = Vec::new();
        if skipped && self.policy == Policy::Raise {
            return Err(Error::NonFinite { counts: nonfinite, step });
        }
        if skipped {
            self.skips.total += 1;
            self.skips.consecutive += 1;
        } else {
            self.batch.measure(&self.numbers, setting, None)?;
            self.batch.update(setting)?;
            self.batch.note_histories();
            for leaf in self.batch.leaves() {
                self.leaves[*leaf].step += 1;
            }
            let names = self.batch.overflowed().map(|leaf| self.leaves[leaf].name.clone());
            overflowed.extend(names);
            self.skips.consecutive = 0;
            self.step_count = step;
        }
        let (grad_norm, clip) = (done.grad_norm, done.clip);
        Ok(Report { step: self.step_count, grad_norm, clip, skipped, nonfinite, overflowed })
    }
}

/// The limit that a step asks for.
fn clip_of(how: &Step) -> Result<Clip, Error> {
    let limit = |name: &'static str, value: f64| match value > 0.0 {
        true => Ok(value),
        false => {
            let allowed = "greater than 0".to_owned();
            Err(crate::Error::Hyperparameter { name, value, allowed })
        }
    };
    match (how.max_norm, how.max_value) {
        (None, None) => Ok(Clip::No),
        (Some(max_norm), None) => Ok(Clip::Norm(limit("max_norm", max_norm)?)),
        (None, Some(max_value)) => Ok(Clip::Value(limit("max_value", max_value)?)),
        (Some(_), Some(_)) => {
            Err(Error::Settings("a step has one limit: max_norm or max_value".to_owned()))
        }
    }
}

/// The reason to refuse a parameter that lacks a state array.
fn never_begun(spec: &StateSpec) -> String {
    let name = match spec.when {
        When::Nonzero(key) => key.name(),
        When::Always | When::Chosen(_) => spec.name,
    };
    format!("{name} was 0 in its first step, so it has no {}; begin above 0", spec.name)
}

/// The tensor of a parameter with these arrays, and its gradient.
///
/// # Safety
///
/// As [`Tensor::narrow`] for slices with the leaf's number of elements; for `'static`, which must
/// not outlive them.
unsafe fn bound(
    leaf: &mut Leaf,
    pointers: [Pointer; ARRAYS],
) -> (Tensor<'static>, norm::Input<'static>) {
    let (len, states, kind) = (leaf.len, leaf.states, pointers[PARAMETER].storage.element());
    let plain = Storage::from(kind);
    let used = &pointers[..GRADIENT + 1 + states];
    // SAFETY: the caller's promise.
    unsafe {
        let gradient = pointers[GRADIENT];
        let read = match gradient.storage == plain {
            true => norm::Input::dense(len, gradient),
            false => norm::Input::new(&[len], gradient, &[gradient.storage.size() as isize], kind),
        };
        if used.iter().all(|pointer| pointer.storage == plain) {
            return (Tensor::dense(len, pointers, states, Order::Logical), read);
        }
        let strides = pointers.map(|pointer| [pointer.storage.size() as isize]);
        let strides = strides.each_ref().map(|stride| &stride[..]);
        let narrow = Narrow {
            step: leaf.step + 1,
            bases: leaf.bases(),
            low_of: leaf.is_narrow().then_some(PARAMETER),
        };
        (Tensor::narrow(&[len], pointers, strides, states, Order::Logical, narrow), read)
    }
}
