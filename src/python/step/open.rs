//! Opening, using and closing a step that is taken tensor by tensor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use thalweg::number::element::Kind;
use thalweg::number::float_mode::in_default_mode;
use thalweg::rule::Hyperparameter;
use thalweg::step::setting::{Clip, Policy};

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Open;
use crate::step::collect::collect_some;
use crate::step::guarded::Guarded;
use crate::step::report::StepReport;
use crate::step::take::{Part, Request, at_step, take};

/// Opens a step that is taken tensor by tensor.
pub fn open(py: Python<'_>, guarded: &Guarded, token: u64) -> Outcome<()> {
    guarded.step_inside(py, |model, room| {
        let model = model.ready()?;
        if model.options.policy == Policy::Skip {
            return Err(Refusal::Value(
                "nonfinite must be 'raise' or 'ignore' for open_step, got 'skip': a step that is \
                 taken tensor by tensor cannot be skipped as a whole"
                    .to_owned(),
            ));
        }
        model.check_whole()?;
        room.clear();
        let number = guarded.counters.steps.load(Ordering::Relaxed) + 1;
        let (lr, numbers) = in_default_mode(|| at_step(py, model, number))?;
        model.prepare_writing(py)?;
        model.begin_writing();
        let done = vec![false; model.leaves.len()];
        model.open = Some(Open { token, number, lr, numbers: numbers.into(), done });
        Ok(())
    })
}

/// Updates some parameters in the open step, each at most once.
pub fn step_open(
    grads: &Bound<'_, PyAny>,
    guarded: &Guarded,
    token: u64,
    (clip, scale, stats): (Clip, f64, bool),
) -> Outcome<StepReport> {
    let (py, counters) = (grads.py(), &guarded.counters);
    let request = Request {
        grads,
        clip,
        scale,
        partial: true,
        stats,
        shown: None,
        counters,
        owner: None,
        peers: None,
    };
    guarded.step_inside(py, |model, room| {
        Hyperparameter::Scale.check(scale, Kind::F64)?;
        let open = model.open.as_ref().filter(|open| open.token == token);
        let open = open.ok_or(Refusal::NotOpen)?;
        let (number, lr, numbers) = (open.number, open.lr, Arc::clone(&open.numbers));
        room.clear_chosen();
        let part = Part { number, lr, numbers: &numbers };
        let report = collect_some(model, room, grads)
            .and_then(|()| in_default_mode(|| take(py, model, room, &request, &part)));
        room.clear_chosen();
        report
    })
}

/// Closes the open step, if `token` identifies it.
pub fn close(py: Python<'_>, guarded: &Guarded, token: u64) -> Outcome<()> {
    guarded.inside(py, |model| {
        if model.open.take_if(|open| open.token == token).is_some() {
            model.finish_writing(&guarded.counters);
        }
        Ok(())
    })
}

/// Whether the step that `token` identifies is open.
pub fn is_open(py: Python<'_>, guarded: &Guarded, token: u64) -> Outcome<bool> {
    guarded.inside(py, |model| Ok(model.open.as_ref().is_some_and(|open| open.token == token)))
}
