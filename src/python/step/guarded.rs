//! A model that one caller at a time can use, the buffers of its steps, and its counters, which any
//! thread can read.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::interpreter::gate::{Entered, Gate};
use crate::model::Model;
use crate::model::counters::Counters;
use crate::step::workspace::Workspace;

/// A model with the buffers of its steps; `None` until it is set up.
pub type Contents = Option<(Model, Workspace)>;

/// A model behind a gate, and its counters.
#[derive(Debug, Default)]
pub struct Guarded {
    contents: Gate<Contents>,
    pub counters: Counters,
}

impl Guarded {
    /// Runs `work` with exclusive access to the model, even if a step is open, averages are swapped
    /// in, or a load is unfinished.
    pub fn inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> Outcome<T> {
        self.step_inside(py, |model, _| work(model))
    }

    /// As [`Guarded::inside`], with the buffers of a step.
    pub fn step_inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model, &mut Workspace) -> Outcome<T>,
    ) -> Outcome<T> {
        let _presence = Presence::begin(py);
        let mut entered = self.enter()?;
        let (model, room) = contents(&mut entered)?;
        work(model, room)
    }

    /// Keeps other callers out until the result is dropped. [`model_in`] gives the model.
    pub fn enter(&self) -> Outcome<Entered<'_, Contents>> {
        self.contents.enter()
    }

    /// Sets the model, or removes it.
    pub fn put(&self, model: Option<Model>) -> Outcome<()> {
        *self.contents.enter()? = model.map(|model| (model, Workspace::default()));
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Objects in use are not garbage, so the collector need not see them.
        match self.contents.enter() {
            Ok(entered) => entered.as_ref().map_or(Ok(()), |(model, _)| model.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}

/// The model that was entered; an error if it was never set up.
pub fn model_in<'a>(entered: &'a mut Entered<'_, Contents>) -> Outcome<&'a mut Model> {
    Ok(&mut contents(entered)?.0)
}

fn contents<'a>(entered: &'a mut Entered<'_, Contents>) -> Outcome<&'a mut (Model, Workspace)> {
    entered.as_mut().ok_or_else(|| {
        Refusal::Python(PyRuntimeError::new_err(
            "the optimizer is not initialized: make AdamW or another optimizer that has a rule; a \
             subclass calls super().__init__(params, ...) first",
        ))
    })
}
