//! What a step reports.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What one step did.
///
/// Attributes
/// ----------
/// step : int
///     Number of steps taken so far, this one included unless it was skipped.
/// lr : float
///     Learning rate of group 0, as applied.
/// grad_norm : float or None
///     Euclidean norm of ``scale·g`` before clipping, over the parameters updated. None where
///     nothing asked for it (``nonfinite="ignore"`` without `max_norm`).
/// clip : float
///     Factor that clipping applied: ``min(1, max_norm / grad_norm)``.
/// skipped : bool
///     True if gradients were non-finite and ``nonfinite="skip"``; nothing has changed then.
/// nonfinite : dict of str to int
///     For each parameter with gradients that are NaN, infinite or too large, how many are.
#[pyclass(module = "thalweg", frozen, get_all)]
#[derive(Debug)]
pub struct StepReport {
    pub step: u64,
    pub lr: f64,
    pub grad_norm: Option<f64>,
    pub clip: f64,
    pub skipped: bool,
    pub nonfinite: Py<PyDict>,
}

#[pymethods]
impl StepReport {
    #[new]
    #[pyo3(signature = (step, lr, grad_norm, clip, skipped, nonfinite))]
    fn new(
        step: u64,
        lr: f64,
        grad_norm: Option<f64>,
        clip: f64,
        skipped: bool,
        nonfinite: Py<PyDict>,
    ) -> Self {
        StepReport { step, lr, grad_norm, clip, skipped, nonfinite }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        (slf.get_type(), slf.get().fields(slf.py())?).into_pyobject(slf.py())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let names = ["step", "lr", "grad_norm", "clip", "skipped", "nonfinite"];
        let mut shown = Vec::with_capacity(names.len());
        for (name, value) in names.iter().zip(self.fields(py)?.iter()) {
            shown.push(format!("{name}={}", value.repr()?));
        }
        Ok(format!("StepReport({})", shown.join(", ")))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match other.cast::<StepReport>() {
            Ok(other) => Ok(self
                .fields(py)?
                .eq(other.get().fields(py)?)?
                .into_pyobject(py)?
                .to_owned()
                .into_any()
                .unbind()),
            Err(_) => Ok(py.NotImplemented()),
        }
    }
}

impl StepReport {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let StepReport { step, lr, grad_norm, clip, skipped, nonfinite } = self;
        (*step, *lr, *grad_norm, *clip, *skipped, nonfinite.clone_ref(py)).into_pyobject(py)
    }
}
