//! The block in which parameters and their averages have changed places.
//!
//! Native, so that an interrupt cannot fall between leaving the block and exchanging back.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::optimizer::Optimizer;

/// Parameters hold their averages inside; see `thalweg.EMA.swapped`.
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct Swapped {
    average: Py<Optimizer>,
    /// What trains the parameters.
    owner: Option<Py<Optimizer>>,
    /// The parameters by name.
    params: Py<PyDict>,
    tree: Py<PyAny>,
    inside: AtomicBool,
}

#[pymethods]
impl Swapped {
    #[new]
    fn new(
        average: Py<Optimizer>,
        owner: Option<Py<Optimizer>>,
        params: Py<PyDict>,
        tree: Py<PyAny>,
    ) -> Self {
        Swapped { average, owner, params, tree, inside: AtomicBool::new(false) }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.exchange(py, true)?;
        self.inside.store(true, Ordering::Relaxed);
        Ok(self.tree.clone_ref(py))
    }

    /// Where the arrays cannot be exchanged back it raises, and can be called again.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        if self.inside.load(Ordering::Relaxed) {
            self.exchange(py, false)?;
            self.inside.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.average)?;
        visit.call(&self.owner)?;
        visit.call(&self.params)?;
        visit.call(&self.tree)
    }
}

impl Swapped {
    fn exchange(&self, py: Python<'_>, held: bool) -> PyResult<()> {
        let owner = self.owner.as_ref().map(|owner| owner.bind(py).get());
        self.average.bind(py).get().exchange(self.params.bind(py), held, owner)
    }
}
