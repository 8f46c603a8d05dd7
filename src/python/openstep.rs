//! The context manager of a step that is taken tensor by tensor.
//!
//! Native, so that no interrupt arrives between leaving the block and closing the step. After an
//! interrupt before the block begins, the step is closed when the manager is freed.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::interpreter::errors::Refusal;
use crate::interpreter::undo::Inside;
use crate::step::keywords::{clip_argument, scale_argument, stats_argument};
use crate::step::open::{close, is_open, open, step_open};
use crate::step::report::StepReport;
use crate::updater::Updater;

/// One step of an optimizer, taken tensor by tensor; see `Optimizer.open_step`.
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct OpenStep {
    /// The optimizer, for messages; `updater` has its arrays.
    owner: Py<PyAny>,
    updater: Py<Updater>,
    /// Identifies this step.
    token: u64,
    inside: Inside,
}

impl OpenStep {
    pub fn of(owner: Py<PyAny>, updater: Py<Updater>) -> Self {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let token = TOKENS.fetch_add(1, Ordering::Relaxed);
        OpenStep { owner, updater, token, inside: Inside::default() }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        close(py, &self.updater.get().guarded, self.token)?;
        self.inside.set(false);
        Ok(())
    }
}

impl Drop for OpenStep {
    fn drop(&mut self) {
        self.inside.undo(|py| self.close(py));
    }
}

#[pymethods]
impl OpenStep {
    fn __enter__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let step = slf.get();
        open(slf.py(), &step.updater.get().guarded, step.token)?;
        step.inside.set(true);
        Ok(slf)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// Update the parameters that have a gradient in `grads`, all of them or none.
    ///
    /// Parameters
    /// ----------
    /// grads : tree of ndarray, or dict of names
    ///     Gradients of some parameters. None is ignored.
    /// max_tensor_norm, max_value, scale, stats
    ///     As for `Optimizer.step`. `max_norm` is refused, since it needs all gradients at once.
    ///
    /// Returns
    /// -------
    /// StepReport
    ///     With the number of the whole step, and the norm over the gradients of this call.
    ///
    /// Raises
    /// ------
    /// ValueError, TypeError, NonFiniteError
    ///     As `Optimizer.step`; also if a parameter was updated in this step already.
    /// BusyError
    ///     Outside the block.
    #[pyo3(signature = (grads, *, max_norm=None, max_tensor_norm=None, max_value=None, scale=1.0,
        stats=false))]
    #[allow(clippy::too_many_arguments)] // the keywords of a step
    fn __call__(
        &self,
        grads: &Bound<'_, PyAny>,
        max_norm: Option<&Bound<'_, PyAny>>,
        max_tensor_norm: Option<&Bound<'_, PyAny>>,
        max_value: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = scale_argument)] scale: f64,
        #[pyo3(from_py_with = stats_argument)] stats: bool,
    ) -> PyResult<StepReport> {
        if max_norm.is_some() {
            return Err(Refusal::Value(
                "max_norm needs the gradients of all parameters at once; inside open_step give \
                 max_tensor_norm or max_value, or collect the gradients and step once"
                    .to_owned(),
            )
            .into());
        }
        let limits = [("max_tensor_norm", max_tensor_norm), ("max_value", max_value)];
        let clip = clip_argument(&limits)?;
        Ok(step_open(grads, &self.updater.get().guarded, self.token, (clip, scale, stats))?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let open =
            if is_open(py, &self.updater.get().guarded, self.token)? { "open" } else { "closed" };
        Ok(format!("<{open} step of {}>", self.owner.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        visit.call(&self.updater)
    }
}
