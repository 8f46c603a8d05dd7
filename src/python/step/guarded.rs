//! A model that one caller at a time enters, and its counters, which anybody may read.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::interpreter::gate::{Entered, Gate};
use crate::model::counters::Counters;
use crate::model::model::Model;

/// A model behind a gate, and its counters.
#[derive(Debug, Default)]
pub struct Guarded {
    model: Gate<Option<Model>>,
    pub counters: Counters,
}

impl Guarded {
    /// Runs `work` on the model, alone, whatever it is in the middle of.
    pub fn inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> Outcome<T> {
        let _presence = Presence::begin(py);
        work(model_in(&mut self.model.enter()?)?)
    }

    /// Runs `work` on the model, alone, unless a step is open or the arrays hold something else.
    pub fn with<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> Outcome<T> {
        self.inside(py, |model| work(model.ready()?))
    }

    /// Keeps others out until the result is dropped; [`model_in`] has the model.
    pub fn enter(&self) -> Outcome<Entered<'_, Option<Model>>> {
        self.model.enter()
    }

    /// Puts a model in, or takes it out.
    pub fn put(&self, model: Option<Model>) -> Outcome<()> {
        *self.model.enter()? = model;
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While it is stepping the objects are in use, so the collector need not see them.
        match self.model.enter() {
            Ok(model) => model.as_ref().map_or(Ok(()), |model| model.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}

/// The model that was entered, if there is one.
pub fn model_in<'a>(entered: &'a mut Entered<'_, Option<Model>>) -> Outcome<&'a mut Model> {
    entered.as_mut().ok_or_else(|| {
        Refusal::Python(PyRuntimeError::new_err(
            "the optimizer was not set up: make one of AdamW, Adam, SGDW and SGD; a subclass \
             calls super().__init__(params, ...) first",
        ))
    })
}
