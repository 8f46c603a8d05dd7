//! One step: schedules, then every check, then the read pass, then the update, then the counters.
//!
//! No Python code runs between the checks of arrays and the last write, and nothing is written
//! before the last check, so a step that raises has changed nothing. A step may also be taken tensor
//! by tensor ([`open`], [`step_open`]); then that holds for each part.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::counters::Counters;
use crate::model::model::{Model, Open, Policy};
use crate::model::record::Record;
use crate::model::tree::Given;
use crate::step::batch::{Batch, Clip, Setting};
use crate::step::bind::bind;
use crate::step::collect::{collect, collect_some, compare_files};
use crate::step::report::{StepReport, TensorStats};
use crate::values::hyper::Schedules;
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::element::Kind;
use thalweg::number::float_mode::in_default_mode;
use thalweg::rule::{Hyperparameter, Rule};

/// From this many elements on, other Python threads may run during the work; below, letting them
/// costs more than it gives.
const DETACH_MIN: usize = 16_384;

/// The arguments of a step.
pub struct Request<'a, 'py> {
    pub grads: &'a Bound<'py, PyAny>,
    pub clip: Clip,
    pub scale: f64,
    pub partial: bool,
    /// Whether norms of each tensor are reported.
    pub stats: bool,
    pub counters: &'a Counters,
}

/// Room that a step needs, kept between steps.
#[derive(Debug, Default)]
pub struct Workspace {
    /// For each leaf, its gradient.
    pub given: Vec<Given>,
    /// Leaves that are updated, in the order of their names.
    pub chosen: Vec<usize>,
    pub batch: Batch,
}

impl Workspace {
    /// Lets go of all arrays.
    pub fn clear(&mut self) {
        self.given.fill_with(Given::default);
        self.chosen.clear();
        self.batch.clear();
    }

    /// The same, if no others than the chosen leaves were given gradients.
    fn clear_chosen(&mut self) {
        for leaf in self.chosen.drain(..) {
            self.given[leaf] = Given::default();
        }
        self.batch.clear();
    }
}

/// Takes one step.
pub fn step(py: Python<'_>, model: &mut Model, request: &Request<'_, '_>) -> Outcome<StepReport> {
    Hyperparameter::Scale.check(request.scale, Kind::F64)?;
    model.check_whole()?;
    // A forked child may have inherited the work of a step that another thread was in.
    model.work.clear();
    let number = request.counters.steps.load(Ordering::Relaxed) + 1;
    let (lr, numbers) = in_default_mode(|| at_step(py, model, number))?;
    if let Some(name) = model.first_rebound(py)? {
        return Err(Refusal::Rebound { name: name.to_owned() });
    }
    let part = Part { number, lr, numbers: &numbers };
    let report = collect(model, request.grads, request.partial)
        .and_then(|()| in_default_mode(|| take(py, model, request, &part)));
    model.work.clear();
    report
}

/// Begins a step that is taken tensor by tensor.
pub fn open(py: Python<'_>, model: &mut Model, counters: &Counters, token: u64) -> Outcome<()> {
    if model.options.policy == Policy::Skip {
        return Err(Refusal::Value(
            "a step that is taken tensor by tensor cannot be skipped as a whole, because some \
             parameters are updated before the gradients of others are known; make the optimizer \
             with nonfinite='raise' or 'ignore'"
                .to_owned(),
        ));
    }
    model.check_whole()?;
    model.work.clear();
    let number = counters.steps.load(Ordering::Relaxed) + 1;
    let (lr, numbers) = in_default_mode(|| at_step(py, model, number))?;
    model.prepare_writing(py)?;
    model.begin_writing();
    let done = vec![false; model.leaves.len()];
    model.open = Some(Open { token, number, lr, numbers: numbers.into(), done });
    Ok(())
}

/// Updates some parameters in the open step.
pub fn step_open(
    py: Python<'_>,
    model: &mut Model,
    request: &Request<'_, '_>,
    token: u64,
) -> Outcome<StepReport> {
    Hyperparameter::Scale.check(request.scale, Kind::F64)?;
    let open = model.open.as_ref().filter(|open| open.token == token).ok_or(Refusal::NotOpen)?;
    let (number, lr, numbers) = (open.number, open.lr, Arc::clone(&open.numbers));
    model.work.clear_chosen();
    let part = Part { number, lr, numbers: &numbers };
    let report = collect_some(model, request.grads)
        .and_then(|()| in_default_mode(|| take(py, model, request, &part)));
    model.work.clear_chosen();
    report
}

/// The learning rate of group 0 and the numbers of each class at a step; those of frozen classes are
/// not asked for.
fn at_step(py: Python<'_>, model: &Model, number: u64) -> Outcome<(f64, Vec<Rule>)> {
    let mut schedules = Schedules::new(py, number);
    let lr = model.classes.first().map_or(Ok(0.0), |class| class.lr(&mut schedules))?;
    let rule = model.options.rule();
    let mut used = vec![false; model.classes.len()];
    model.leaves.iter().for_each(|leaf| used[leaf.class] = true);
    let numbers = (model.classes.iter().zip(used))
        .map(|(class, used)| {
            let mut numbers = rule;
            if used && !class.frozen {
                class.fill(&mut numbers, &mut schedules)?;
            }
            Ok(numbers)
        })
        .collect::<Outcome<_>>()?;
    Ok((lr, numbers))
}

/// A step, or a part of one, for the leaves that were chosen.
struct Part<'a> {
    number: u64,
    lr: f64,
    numbers: &'a [Rule],
}

/// Checks, binds and updates the leaves that were chosen; marks them where a step is open.
fn take(
    py: Python<'_>,
    model: &mut Model,
    request: &Request<'_, '_>,
    part: &Part<'_>,
) -> Outcome<StepReport> {
    let (counters, policy, scale) = (request.counters, model.options.policy, request.scale);
    let mut setting = Setting {
        level: Level::current(),
        threads: num_threads().0,
        policy,
        clip: request.clip,
        scale,
        watch: request.stats,
    };
    model.prepare_writing(py)?;
    compare_files(py, model)?;
    bind(py, model, part.numbers, part.number, &setting)?;
    model.prepare_release(py);

    let Model { leaves, sorted, work, open, record, .. } = model;
    let batch = &mut work.batch;
    let elements = batch.elements();
    setting.threads = useful_threads(elements, setting.threads);
    // Counters change together with what they count, so that no fork and no interrupt falls between.
    let mut run = || {
        fork::whole(|| {
            let done = batch.read(part.numbers, &setting)?;
            let refused = !done.refused.is_empty();
            if refused && policy != Policy::Skip {
                return Ok(done);
            }
            record.iter_mut().for_each(Record::begin);
            let updated = if refused { Ok(()) } else { batch.update(&setting) };
            if refused {
                counters.skip();
            } else if updated.is_ok() && !batch.leaves().is_empty() {
                for leaf in batch.leaves() {
                    leaves[*leaf].step += 1;
                    if let Some(open) = open {
                        open.done[*leaf] = true;
                    }
                }
                counters.take(part.number, scale);
            }
            if let Some(record) = record {
                let steps = sorted.iter().map(|leaf| leaves[*leaf].step);
                record.finish(counters.get(), steps, true);
            }
            updated.map(|()| done)
        })
    };
    let outcome = if elements < DETACH_MIN { run() } else { py.detach(run) };
    let done = outcome.map_err(|error| Refusal::Core { error, step: Some(part.number) })?;

    let nonfinite = PyDict::new(py);
    let skipped = !done.refused.is_empty();
    if skipped {
        let named = |(leaf, count): &(usize, u64)| (leaves[*leaf].name.clone(), *count);
        let counts: Vec<(String, u64)> = done.refused.iter().map(named).collect();
        if policy == Policy::Raise {
            return Err(Refusal::NonFinite { counts, step: part.number });
        }
        for (name, count) in counts {
            nonfinite.set_item(name, count)?;
        }
    }
    let stats = if request.stats && !skipped {
        let stats = PyDict::new(py);
        for (leaf, norms) in batch.norms(scale) {
            stats.set_item(leaves[leaf].key.bind(py), TensorStats::from(norms))?;
        }
        Some(stats.unbind())
    } else {
        None
    };
    Ok(StepReport {
        step: counters.steps.load(Ordering::Relaxed),
        lr: part.lr,
        grad_norm: done.grad_norm,
        clip: done.clip,
        skipped,
        nonfinite: nonfinite.unbind(),
        stats,
    })
}
