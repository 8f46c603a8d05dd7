//! Loading of saved state into an object and into those attached to it.
//!
//! If a load fails midway, none of the objects can be used until another load succeeds.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::errors::Outcome;
use crate::model::Model;
use crate::model::counters::{Counters, Counts};
use crate::model::snapshot::{Incoming, Snapshot};
use crate::step::guarded::Guarded;

/// An attached object, with the counters and the state to load into it.
pub type Attached<'a, 'py> = (&'a Guarded, Counts, Bound<'py, PyDict>);

/// Loads all state, here and in attached objects. None of them can be used until the last array is
/// loaded.
pub fn restore<'py>(
    py: Python<'py>,
    (counters, model): (&Counters, &mut Model),
    (counts, states): &Snapshot<'py>,
    attached: &[Attached<'_, 'py>],
) -> Outcome<()> {
    let here = model.incoming(states)?;
    let there = attached.iter().map(|(other, counts, states)| {
        let incoming = other.inside(py, |model| model.loadable()?.incoming(states))?;
        Ok((*other, *counts, incoming))
    });
    let there = there.collect::<Outcome<Vec<_>>>()?;
    let everywhere =
        |model: &mut Model, work: &dyn Fn(&mut Model, &Incoming<'py>) -> Outcome<()>| {
            work(model, &here)?;
            there.iter().try_for_each(|(other, _, incoming)| {
                other.inside(py, |model| work(model, incoming))
            })
        };
    model.writing(py, counters, |model| {
        everywhere(model, &|model, incoming| {
            model.tear(incoming);
            Ok(())
        })?;
        everywhere(model, &|model, incoming| model.take_over(py, incoming))?;
        everywhere(model, &|model, incoming| {
            model.sew(incoming);
            Ok(())
        })?;
        counters.set(*counts);
        there.iter().for_each(|(other, counts, _)| other.counters.set(*counts));
        Ok(())
    })
}

/// Refuses if an attached object cannot load its state.
pub fn check_attached(py: Python<'_>, attached: &[Attached<'_, '_>]) -> Outcome<()> {
    attached.iter().try_for_each(|(other, _, states)| {
        other.inside(py, |model| model.loadable()?.check_restorable(states))
    })
}
