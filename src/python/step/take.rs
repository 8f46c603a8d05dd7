//! One step: schedules, then every check, then the read pass, the update, and the counters.
//!
//! No Python code runs between the checks of arrays and the last write, and nothing is written
//! before the last check, so a step that raises has changed nothing. In an open step, taken tensor
//! by tensor, this holds for each part. A step among peers is the exception: between the checks and
//! the first write it calls the function that reaches them, while the optimizer is in use.

use std::sync::atomic::Ordering;

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use thalweg::step::setting::{Clip, Policy, Setting};

use crate::array::counts::ShownCounts;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::counters::Counters;
use crate::model::record::Record;
use crate::step::bind::bind;
use crate::step::collect::collect;
use crate::step::peers::Others;
use crate::step::report::{StepReport, TensorStats};
use crate::step::workspace::Workspace;
use crate::values::hyper::Schedules;
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::pool;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::element::Kind;
use thalweg::number::float_mode::in_default_mode;
use thalweg::read::peers::Peers;
use thalweg::rule::{Hyperparameter, Numbers};

/// Number of elements from which the interpreter lock is released during the work. With fewer,
/// releasing it costs more than it gains.
const DETACH_MIN: usize = 16_384;

/// Number of tensors that are checked before a helper that was woken parks again.
const CHECKED_SOON: usize = 64;

/// The arguments of a step.
pub struct Request<'a, 'py> {
    pub grads: &'a Bound<'py, PyAny>,
    pub clip: Clip,
    pub scale: f64,
    pub partial: bool,
    /// Whether to report norms of each tensor.
    pub stats: bool,
    /// An array for the numbers of updates; see `Updater.show_steps`.
    pub shown: Option<&'a Bound<'py, PyUntypedArray>>,
    pub counters: &'a Counters,
    /// The optimizer of the parameters that are averaged: it has what narrow ones lack.
    pub owner: Option<&'a Model>,
    /// Gathers bytes from the processes that have the rest of the parameters; see `Others`.
    pub peers: Option<&'a Py<PyAny>>,
}

/// Takes one step.
pub fn step(
    py: Python<'_>,
    model: &mut Model,
    work: &mut Workspace,
    request: &Request<'_, '_>,
) -> Outcome<StepReport> {
    Hyperparameter::Scale.check(request.scale, Kind::F64)?;
    model.check_whole()?;
    // A forked child may have inherited the unfinished work of another thread's step.
    work.clear();
    rouse_helpers(model, request);
    let number = request.counters.steps.load(Ordering::Relaxed) + 1;
    let (lr, numbers) = in_default_mode(|| at_step(py, model, number))?;
    model.check_bound(py)?;
    let part = Part { number, lr, numbers: &numbers };
    let report = collect(model, work, request.grads, request.partial)
        .and_then(|()| in_default_mode(|| take(py, model, work, request, &part)));
    work.clear();
    report
}

/// Wakes helpers during the checks, if the step will use them and the checks are short.
fn rouse_helpers(model: &Model, request: &Request<'_, '_>) {
    let written = &model.written;
    if !request.partial && written.leaves.len() <= CHECKED_SOON {
        pool::rouse(useful_threads(written.elements, num_threads().0));
    }
}

/// The learning rate of group 0, and the numbers of each class, at a step. The schedules of classes
/// that are frozen or have no leaves are not called, except for the learning rate of group 0.
pub fn at_step(py: Python<'_>, model: &Model, number: u64) -> Outcome<(f64, Vec<Numbers>)> {
    let mut schedules = Schedules::new(py, number);
    let lr = model.classes.first().map_or(Ok(0.0), |class| class.lr(&mut schedules))?;
    let start = model.options.numbers();
    let mut used = vec![false; model.classes.len()];
    model.leaves.iter().for_each(|leaf| used[leaf.class] = true);
    let numbers = (model.classes.iter().zip(used))
        .map(|(class, used)| {
            let mut numbers = start;
            if used && !class.frozen {
                class.fill(&mut numbers, &mut schedules)?;
            }
            Ok(numbers)
        })
        .collect::<Outcome<_>>()?;
    Ok((lr, numbers))
}

/// A step, or a part of an open step, for the chosen leaves.
pub struct Part<'a> {
    pub number: u64,
    pub lr: f64,
    pub numbers: &'a [Numbers],
}

/// Checks, binds and updates the chosen leaves; marks them as done if a step is open.
pub fn take(
    py: Python<'_>,
    model: &mut Model,
    work: &mut Workspace,
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
        measured: request.stats,
    };
    model.prepare_writing(py)?;
    bind(py, (model, request.owner), work, part.numbers, part.number, &setting)?;

    let others = request.peers.map(|peers| Others::new(peers, model, part.numbers, part.number));
    let peers = others.as_ref().map(|others| others as &dyn Peers);
    let Model { leaves, sorted, open, record, .. } = model;
    let shown = request.shown.map(|array| ShownCounts::of(array, leaves.len())).transpose()?;
    let batch = &mut work.batch;
    let elements = batch.elements();
    setting.threads = useful_threads(elements, setting.threads);
    let mut run = || {
        let done = batch.read(part.numbers, &setting, peers)?;
        let refused = !done.refused.is_empty();
        if refused && policy != Policy::Skip {
            return Ok(done);
        }
        if !refused {
            batch.measure(part.numbers, &setting, peers)?;
        }
        // Counters change together with the arrays, so that no fork and no interrupt comes between.
        fork::whole(|| {
            record.iter_mut().for_each(Record::begin);
            let updated = match (refused, setting.measured) {
                (true, _) => Ok(()),
                (false, true) => batch.update_summed(&setting),
                (false, false) => batch.update(&setting),
            };
            if refused {
                counters.skip();
            } else if updated.is_ok() && !batch.leaves().is_empty() {
                for leaf in batch.leaves() {
                    leaves[*leaf].step += 1;
                    if let Some(shown) = &shown {
                        shown.show(*leaf, leaves[*leaf].step);
                    }
                    if let Some(open) = open {
                        open.done[*leaf] = true;
                    }
                }
                batch.note_histories();
                batch.count_rows();
                counters.take(part.number, scale);
            }
            if let Some(record) = record {
                let steps = sorted.iter().map(|leaf| leaves[*leaf].step);
                record.finish(counters.get(), steps, true);
            }
            updated
        })?;
        if setting.measured && !refused {
            batch.take_norms(&setting, peers)?;
        }
        Ok(done)
    };
    // A fork waits for the whole step, but not for other processes: it may hold the interpreter lock,
    // which an exchange with them needs.
    let mut run = || if peers.is_none() { fork::whole(&mut run) } else { run() };
    let outcome = if elements < DETACH_MIN { run() } else { py.detach(run) };
    let done = outcome.map_err(|error| match others {
        Some(others) => others.refusal(error),
        None => Refusal::Core { error, step: Some(part.number) },
    })?;

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
        overflowed: batch.overflowed().map(|leaf| leaves[leaf].name.clone()).collect(),
    })
}
