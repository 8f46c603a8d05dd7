//! The context manager in which the parameters hold averages.
//!
//! Native, so that no interrupt arrives between leaving the block and swapping back. After an
//! interrupt before the block begins, the arrays are swapped back when the manager is freed.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::interpreter::undo::Inside;
use crate::step::averaged::{exchange, give_back};
use crate::step::swap::swap;
use crate::updater::Updater;

/// Context manager in which the parameters hold averages; see `thalweg.EMA.swapped` and
/// `thalweg.ScheduleFreeAdamW.averaged`.
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct Swapped {
    averages: Averages,
    tree: Py<PyAny>,
    inside: Inside,
}

#[derive(Debug)]
enum Averages {
    /// Those of an `EMA`.
    Kept {
        average: Py<Updater>,
        /// The optimizer of the parameters, if there is one.
        owner: Option<Py<Updater>>,
        /// The parameters by name.
        params: Py<PyDict>,
    },
    /// Those that are found from the state of this optimizer.
    Found(Py<Updater>),
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
        let averages = Averages::Kept { average, owner, params };
        Swapped { averages, tree, inside: Inside::default() }
    }

    /// The averaged points of an optimizer.
    #[staticmethod]
    fn found(updater: Py<Updater>, tree: Py<PyAny>) -> Self {
        Swapped { averages: Averages::Found(updater), tree, inside: Inside::default() }
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
        match &self.averages {
            Averages::Kept { average, owner, params } => {
                visit.call(average)?;
                visit.call(owner)?;
                visit.call(params)?;
            }
            Averages::Found(updater) => visit.call(updater)?,
        }
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
        Ok(match &self.averages {
            Averages::Kept { average, owner, params } => {
                let owner = owner.as_ref().map(|owner| &owner.get().guarded);
                swap(params.bind(py), &average.get().guarded, held, owner)
            }
            Averages::Found(updater) if held => exchange(py, &updater.get().guarded),
            Averages::Found(updater) => give_back(py, &updater.get().guarded),
        }?)
    }
}
