//! The context manager in which parameters and their averages are swapped.
//!
//! Native, so that no interrupt arrives between leaving the block and swapping back. After an
//! interrupt before the block begins, the arrays are swapped back when the manager is freed.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::interpreter::undo::Inside;
use crate::step::swap::swap;
use crate::updater::Updater;

/// Context manager in which the parameters hold their averages; see `thalweg.EMA.swapped`.
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct Swapped {
    average: Py<Updater>,
    /// The optimizer of the parameters, if there is one.
    owner: Option<Py<Updater>>,
    /// The parameters by name.
    params: Py<PyDict>,
    tree: Py<PyAny>,
    inside: Inside,
}

#[pymethods]
impl Swapped {
    #[new]
    fn new(
        average: Py<Updater>,
        owner: Option<Py<Updater>>,
        params: Py<PyDict>,
        tree: Py<PyAny>,
    ) -> Self {
        Swapped { average, owner, params, tree, inside: Inside::default() }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.swap(py, true)?;
        self.inside.set(true);
        Ok(self.tree.clone_ref(py))
    }

    /// Raises if the arrays cannot be swapped back, and can be called again.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        if self.inside.get() { self.leave(py) } else { Ok(()) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.average)?;
        visit.call(&self.owner)?;
        visit.call(&self.params)?;
        visit.call(&self.tree)
    }
}

impl Drop for Swapped {
    fn drop(&mut self) {
        self.inside.undo(|py| self.leave(py));
    }
}

impl Swapped {
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        self.swap(py, false)?;
        self.inside.set(false);
        Ok(())
    }

    fn swap(&self, py: Python<'_>, held: bool) -> PyResult<()> {
        let owner = self.owner.as_ref().map(|owner| &owner.get().guarded);
        Ok(swap(self.params.bind(py), &self.average.get().guarded, held, owner)?)
    }
}
