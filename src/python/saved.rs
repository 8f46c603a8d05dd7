//! What is saved of an optimizer, and taken over again: state arrays and numbers of updates.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::{kind_of, plain};
use super::errors::Outcome;
use super::leaf::Leaf;
use super::memory::Memory;
use super::model::Model;
use crate::element::Kind;

impl Model {
    /// The live state arrays of a leaf by name, if it has ever trained.
    pub fn state<'py>(&self, py: Python<'py>, leaf: &Leaf) -> Outcome<Option<Bound<'py, PyDict>>> {
        let Some(active) = &leaf.active else { return Ok(None) };
        let arrays = PyDict::new(py);
        let names = self.options.state_names(active.state.len());
        for (name, checked) in names.iter().zip(&active.state) {
            arrays.set_item(name, checked.array.bind(py))?;
        }
        Ok(Some(arrays))
    }

    /// The arrays of a leaf that a snapshot keeps: its state, or of sums and averages themselves.
    pub fn kept<'py>(&self, py: Python<'py>, leaf: &Leaf) -> Outcome<Option<Bound<'py, PyDict>>> {
        let Some(arrays) = self.state(py, leaf)? else { return Ok(None) };
        if let (Some(key), Some(active)) = (self.options.family.itself(), &leaf.active) {
            arrays.set_item(key, active.p.array.bind(py))?;
        }
        Ok(Some(arrays))
    }

    /// Sets state and numbers of updates to zero.
    pub fn reset(
        &mut self,
        py: Python<'_>,
        positions: impl Iterator<Item = usize> + Clone,
    ) -> Outcome<()> {
        positions.clone().try_for_each(|i| self.leaves[i].recheck_state(py))?;
        for position in positions {
            let leaf = &mut self.leaves[position];
            for state in leaf.active.iter().flat_map(|active| &active.state) {
                state.array.bind(py).call_method1("fill", (0.0,))?;
            }
            leaf.step = 0;
        }
        Ok(())
    }

    /// Refuses if state that is to be taken over cannot be written.
    pub fn check_restorable(&self, states: &Bound<'_, PyDict>) -> Outcome<()> {
        for name in states.keys() {
            let leaf = self.leaf(&name.extract::<String>()?)?;
            leaf.recheck_state(states.py())?;
            if let (Some(_), Some(active)) = (self.options.family.itself(), &leaf.active) {
                active.recheck(states.py(), &leaf.name, self.options.family.words())?;
            }
        }
        Ok(())
    }

    /// Takes over state arrays and numbers of updates by name, which must fit.
    pub fn restore(&mut self, states: &Bound<'_, PyDict>) -> Outcome<()> {
        let py = states.py();
        self.check_restorable(states)?;
        let mut steps = Vec::with_capacity(states.len());
        let mut copies = Vec::new();
        for (name, saved) in states {
            let position = self.position(&name.extract::<String>()?)?;
            steps.push((position, saved.get_item("step")?.extract::<u64>()?));
            for (key, live) in self.kept(py, &self.leaves[position])?.into_iter().flatten() {
                let array = saved.get_item(&key)?.cast_into::<PyUntypedArray>();
                copies.push((live, self.apart(plain(&array.map_err(PyErr::from)?)?)?));
            }
        }
        let copyto = py.import("numpy")?.getattr("copyto")?;
        for pair in copies {
            copyto.call1(pair)?;
        }
        for (position, step) in steps {
            self.leaves[position].step = step;
        }
        Ok(())
    }

    /// The array, or a copy if it lies where state lies that is about to be written.
    fn apart<'py>(&self, array: Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
        let kind = kind_of(&array).unwrap_or(Kind::F64);
        let (start, end) = Memory::of(&array).extent(kind);
        match self.written.extents.meeting(start, end).next() {
            Some(_) => array.call_method0("copy"),
            None => Ok(array.into_any()),
        }
    }
}
