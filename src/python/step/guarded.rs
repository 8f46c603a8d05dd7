//! A model that one caller at a time enters, with room for its steps, and its counters, which anybody may
//! read.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::interpreter::gate::{Entered, Gate};
use crate::model::Model;
use crate::model::counters::Counters;
use crate::step::workspace::Workspace;

/// A model with room for its steps.
pub type Contents = Option<(Model, Workspace)>;

/// A model behind a gate, and its counters.
#[derive(Debug, Default)]
pub struct Guarded {
    contents: Gate<Contents>,
    pub counters: Counters,
}

impl Guarded {
    /// Runs `work` on the model, alone, whatever it is in the middle of.
    pub fn inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> Outcome<T> {
        self.step_inside(py, |model, _| work(model))
    }

    /// The same with the room for a step.
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

    /// Keeps others out until the result is dropped; [`model_in`] has the model.
    pub fn enter(&self) -> Outcome<Entered<'_, Contents>> {
        self.contents.enter()
    }

    /// Puts a model in, or takes it out.
    pub fn put(&self, model: Option<Model>) -> Outcome<()> {
        *self.contents.enter()? = model.map(|model| (model, Workspace::default()));
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While it is stepping the objects are in use, so the collector need not see them.
        match self.contents.enter() {
            Ok(entered) => entered.as_ref().map_or(Ok(()), |(model, _)| model.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}

/// The model that was entered, if there is one.
pub fn model_in<'a>(entered: &'a mut Entered<'_, Contents>) -> Outcome<&'a mut Model> {
    Ok(&mut contents(entered)?.0)
}

fn contents<'a>(entered: &'a mut Entered<'_, Contents>) -> Outcome<&'a mut (Model, Workspace)> {
    entered.as_mut().ok_or_else(|| {
        Refusal::Python(PyRuntimeError::new_err(
            "the optimizer was not set up: make one of AdamW, Adam, SGDW and SGD; a subclass \
             calls super().__init__(params, ...) first",
        ))
    })
}
