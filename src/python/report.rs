//! What a step reports.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMappingProxy, PyNotImplemented, PyTuple};

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
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct StepReport {
    #[pyo3(get)]
    pub step: u64,
    #[pyo3(get)]
    pub lr: f64,
    #[pyo3(get)]
    pub grad_norm: Option<f64>,
    #[pyo3(get)]
    pub clip: f64,
    #[pyo3(get)]
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

    #[getter]
    fn nonfinite<'py>(&self, py: Python<'py>) -> Bound<'py, PyMappingProxy> {
        PyMappingProxy::new(py, self.nonfinite.bind(py).as_mapping())
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

    /// Equal in every field; norms that are both NaN are equal too.
    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<StepReport>() else {
            return Ok(PyNotImplemented::get(py).to_owned().into_any());
        };
        let other = other.get();
        let bits = |report: &StepReport| {
            let same_nan = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
            let StepReport { step, lr, grad_norm, clip, skipped, .. } = report;
            (*step, same_nan(*lr), grad_norm.map(same_nan), same_nan(*clip), *skipped)
        };
        let equal = bits(self) == bits(other) && self.nonfinite.bind(py).eq(&other.nonfinite)?;
        Ok(PyBool::new(py, equal).to_owned().into_any())
    }
}

impl StepReport {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let StepReport { step, lr, grad_norm, clip, skipped, nonfinite } = self;
        (*step, *lr, *grad_norm, *clip, *skipped, nonfinite.clone_ref(py)).into_pyobject(py)
    }
}
