//! A parameter with its state, checked when it is taken in and again at each step.

use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::array::checks::{Checked, written};
use crate::array::storage::kind_of;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::wording::Wording;
use thalweg::array::layout::{Layout, Order};
use thalweg::array::pointer::{ARRAYS, Pointer, STATE};
use thalweg::error::Quoted;

/// A parameter.
#[derive(Debug)]
pub struct Leaf {
    pub name: String,
    /// The name as a Python string, for lookups in dicts.
    pub key: Py<PyString>,
    /// Path in the tree: the position of the entry in each container.
    pub path: Box<[usize]>,
    pub class: usize,
    /// Number of its updates.
    pub step: u64,
    /// `None` until it trains for the first time.
    pub active: Option<Active>,
    pub object: Py<PyAny>,
}

impl Leaf {
    /// Rechecks the state arrays before they are written.
    pub fn recheck_state(&self, py: Python<'_>) -> Outcome<()> {
        let what = || format!("the state of {}", Quoted(&self.name));
        let mut states = self.active.iter().flat_map(|active| &active.state);
        states.try_for_each(|state| state.recheck(py, "", what).map(drop))
    }
}

/// A parameter that trains, or has trained: its array and its state.
#[derive(Debug)]
pub struct Active {
    pub p: Checked,
    pub state: Vec<Checked>,
    /// Whether parameter and state have plain storage and are dense in the same order. With a
    /// gradient of the same strides, all of them are plain slices.
    pub dense: bool,
}

impl Active {
    pub fn new(p: Checked, state: Vec<Checked>) -> Self {
        let dense = {
            let layout = Layout::new(&p.shape, [&p.strides[..]], Order::Memory);
            p.storage.is_plain()
                && layout.is_dense(0, p.storage.size())
                && state.iter().all(|s| s.strides == p.strides)
        };
        Active { p, state, dense }
    }

    /// The same state with another parameter array, of the same shape and dtype.
    pub fn with_parameter(&self, object: &Bound<'_, PyAny>, name: &str) -> Outcome<Self> {
        let what = || format!("parameter {}", Quoted(name));
        let (array, storage) = written(object, what)?;
        if storage != self.p.storage || *array.shape() != *self.p.shape {
            return Err(Refusal::Value(format!(
                "{} must be {} as before, got {}; make a new optimizer for another shape or dtype",
                what(),
                kind_of(self.p.storage, &self.p.shape),
                kind_of(storage, array.shape())
            )));
        }
        let state = self.state.iter().map(|s| Checked::new(s.array.bind(object.py()), s.storage));
        Ok(Active::new(Checked::new(array, storage), state.collect()))
    }

    /// Pointers to the arrays, after a recheck of their structs. The places of the gradient and of
    /// missing state have the parameter's pointer.
    pub fn recheck(
        &self,
        py: Python<'_>,
        name: &str,
        words: &Wording,
    ) -> Outcome<[Pointer; ARRAYS]> {
        let p =
            self.p.recheck(py, words.rebind, || format!("{} {}", words.updated, Quoted(name)))?;
        let mut pointers = [p; ARRAYS];
        for (pointer, state) in pointers[STATE..].iter_mut().zip(&self.state) {
            *pointer = state.recheck(py, "", || format!("the state of {}", Quoted(name)))?;
        }
        Ok(pointers)
    }

    /// The parameter (0), or a state array from 1 on.
    pub fn array(&self, number: usize) -> &Checked {
        if number == 0 { &self.p } else { &self.state[number - 1] }
    }

    /// The parameter, then its state.
    pub fn arrays(&self) -> impl Iterator<Item = &Checked> {
        std::iter::once(&self.p).chain(&self.state)
    }
}
