//! Saving and loading of an optimizer's arrays and numbers of updates.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::checks::plain;
use crate::array::memory::Memory;
use crate::array::storage::storage_of;
use crate::interpreter::errors::Outcome;
use crate::model::Model;
use crate::model::counters::Counts;
use crate::model::leaf::Leaf;
use crate::saved::stored::{Stored, Transfer};
use thalweg::array::storage::Storage;

/// The keys of a leaf's number of updates, and of the leaf itself, in saved state.
const STEP: &str = "step";
const PARAM: &str = "param";

/// A snapshot: the counters, and the state of leaves by name.
pub type Snapshot<'py> = (Counts, Bound<'py, PyDict>);

/// The entry of `torn` for counters and hyperparameters.
const NUMBERS: (usize, usize) = (usize::MAX, 0);

/// Saved state that was checked and can be loaded.
#[derive(Default)]
pub struct Incoming<'py> {
    /// Leaf and number of each array to load.
    places: Vec<(usize, usize)>,
    copies: Vec<(Py<PyUntypedArray>, Bound<'py, PyAny>)>,
    transfers: Vec<Transfer>,
    /// Leaves with their numbers of updates.
    steps: Vec<(usize, u64)>,
}

impl Model {
    /// The live state arrays of a leaf by name; `None` if it has never trained.
    pub fn state<'py>(&self, py: Python<'py>, leaf: &Leaf) -> Outcome<Option<Bound<'py, PyDict>>> {
        let Some(active) = &leaf.active else { return Ok(None) };
        let arrays = PyDict::new(py);
        let states = active.form.states();
        for (key, checked) in self.state_keys[..states].iter().zip(&active.state) {
            arrays.set_item(key, checked.array.bind(py))?;
        }
        for (part, checked) in active.form.parts().zip(&active.state).skip(states) {
            arrays.set_item(part.name, checked.array.bind(py))?;
        }
        Ok(Some(arrays))
    }

    /// The arrays of a leaf in a snapshot: its state and, for sums and averages, the sum or average
    /// itself.
    pub fn kept<'py>(&self, py: Python<'py>, leaf: &Leaf) -> Outcome<Option<Bound<'py, PyDict>>> {
        let Some(arrays) = self.state(py, leaf)? else { return Ok(None) };
        if let (Some(key), Some(active)) = (self.options.wording.itself, &leaf.active) {
            arrays.set_item(key, active.p.array.bind(py))?;
        }
        Ok(Some(arrays))
    }

    /// The live arrays and the number of updates of each leaf that has trained, by name.
    pub fn snapshot<'py>(
        &self,
        py: Python<'py>,
        positions: impl IntoIterator<Item = usize>,
    ) -> Outcome<Bound<'py, PyDict>> {
        let snapshot = PyDict::new(py);
        for position in positions {
            let leaf = &self.leaves[position];
            if let Some(arrays) = self.kept(py, leaf)? {
                arrays.set_item("step", leaf.step)?;
                snapshot.set_item(&leaf.key, arrays)?;
            }
        }
        Ok(snapshot)
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

    /// Refuses if an array that the load writes has changed or was replaced in its container.
    pub fn check_restorable(&self, states: &Bound<'_, PyDict>) -> Outcome<()> {
        let (py, words) = (states.py(), self.options.wording);
        let mut params = false;
        for (name, saved) in states {
            let leaf = self.leaf(&name.extract::<String>()?)?;
            leaf.recheck_state(py)?;
            let param = saved.contains(PARAM)?;
            params |= param;
            if let Some(active) = &leaf.active
                && (param || self.options.wording.itself.is_some())
            {
                active.recheck(py, &leaf.name, words)?;
            }
        }
        if params { self.check_bound(py) } else { Ok(()) }
    }

    /// Checks saved state, which must fit, and resolves its names: the state of each leaf, and the
    /// parameter if it is given. Changes nothing.
    pub fn incoming<'py>(&self, states: &Bound<'py, PyDict>) -> Outcome<Incoming<'py>> {
        let py = states.py();
        self.check_restorable(states)?;
        let mut incoming = Incoming::default();
        for (name, saved) in states {
            let position = self.position(&name.extract::<String>()?)?;
            let leaf = &self.leaves[position];
            for (key, value) in saved.cast_into::<PyDict>().map_err(PyErr::from)? {
                let key = key.extract::<String>()?;
                if key == STEP {
                    incoming.steps.push((position, value.extract::<u64>()?));
                    continue;
                }
                let Some(number) = self.number(leaf, &key) else { continue };
                let Some(live) = leaf.active.as_ref().map(|active| active.array(number)) else {
                    continue;
                };
                incoming.places.push((position, number));
                match value.cast_into::<Stored>() {
                    Ok(stored) => incoming.transfers.push(stored.get().transfer(py, live)?),
                    Err(other) => {
                        let array = other.into_inner().cast_into::<PyUntypedArray>();
                        let array = self.apart(plain(&array.map_err(PyErr::from)?)?)?;
                        incoming.copies.push((live.array.clone_ref(py), array));
                    }
                }
            }
        }
        Ok(incoming)
    }

    /// Marks the arrays as torn, so that everything but a load is refused until [`Model::sew`].
    pub fn tear(&mut self, incoming: &Incoming<'_>) {
        self.torn.extend(incoming.places.iter().copied());
        self.torn.insert(NUMBERS);
    }

    /// Loads the arrays and numbers of updates. After a failure, some arrays are loaded and others
    /// not.
    pub fn take_over(&mut self, py: Python<'_>, incoming: &Incoming<'_>) -> Outcome<()> {
        let copyto = py.import("numpy")?.getattr("copyto")?;
        for (to, from) in &incoming.copies {
            copyto.call1((to, from))?;
        }
        let transfers = &incoming.transfers;
        py.detach(|| Transfer::run_all(transfers))?;
        for &(position, step) in &incoming.steps {
            self.leaves[position].step = step;
        }
        Ok(())
    }

    /// Removes the marks of [`Model::tear`], once all arrays are loaded.
    pub fn sew(&mut self, incoming: &Incoming<'_>) {
        for place in incoming.places.iter().chain([&NUMBERS]) {
            self.torn.remove(place);
        }
    }

    /// The number of the leaf's array that is saved under this key.
    fn number(&self, leaf: &Leaf, key: &str) -> Option<usize> {
        let form = leaf.active.as_ref().map(|active| &active.form);
        let state = form.and_then(|form| form.parts().position(|part| part.name == key));
        match state {
            Some(position) => Some(1 + position),
            None => (key == PARAM || self.options.wording.itself == Some(key)).then_some(0),
        }
    }

    /// The array, or a copy if it may share memory with arrays that the load writes.
    fn apart<'py>(&self, array: Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
        let storage = storage_of(&array).unwrap_or(Storage::F64);
        let (start, end) = Memory::of(&array).extent(storage);
        match self.written.extents.meeting(start, end).next() {
            Some(_) => array.call_method0("copy"),
            None => Ok(array.into_any()),
        }
    }
}
