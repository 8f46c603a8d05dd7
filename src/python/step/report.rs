//! Reports of a step.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMappingProxy, PyNotImplemented, PyTuple};

use thalweg::number::float_mode::in_default_mode;
use thalweg::update::statistics::Norms;

/// Report of one step.
///
/// Attributes
/// ----------
/// step : int
///     Number of steps taken so far, including this one unless it was skipped.
/// lr : float
///     Learning rate of group 0, as applied.
/// grad_norm : float or None
///     Euclidean norm of ``scale·g`` before clipping, over the parameters updated. None with
///     ``nonfinite="ignore"``, unless `max_norm` or `max_tensor_norm` is given.
/// clip : float
///     Factor of clipping by norm, ``min(1, max_norm / grad_norm)``; the smallest one with
///     `max_tensor_norm`, 1 without either.
/// skipped : bool
///     True if ``nonfinite="skip"`` skipped the step; parameters and state have not changed then.
/// nonfinite : dict of str to int
///     For a skipped step, the number of NaN, infinite or too large elements of each gradient
///     that has any, by name.
/// stats : dict of str to TensorStats or None
///     Norms of each parameter that was updated, by name, if the step was called with `stats`.
/// overflowed : tuple of str
///     Names of float16 parameters with elements that the step moved out of the range of float16:
///     they are infinite now.
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
    pub stats: Option<Py<PyDict>>,
    pub overflowed: Vec<String>,
}

#[pymethods]
impl StepReport {
    #[new]
    #[pyo3(signature = (step, lr, grad_norm, clip, skipped, nonfinite, stats=None, overflowed=None))]
    #[allow(clippy::too_many_arguments)] // the fields
    fn new(
        step: u64,
        lr: f64,
        grad_norm: Option<f64>,
        clip: f64,
        skipped: bool,
        nonfinite: Py<PyDict>,
        stats: Option<Py<PyDict>>,
        overflowed: Option<Vec<String>>,
    ) -> Self {
        let overflowed = overflowed.unwrap_or_default();
        StepReport { step, lr, grad_norm, clip, skipped, nonfinite, stats, overflowed }
    }

    #[getter]
    fn overflowed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.overflowed)
    }

    #[getter]
    fn nonfinite<'py>(&self, py: Python<'py>) -> Bound<'py, PyMappingProxy> {
        PyMappingProxy::new(py, self.nonfinite.bind(py).as_mapping())
    }

    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyMappingProxy>> {
        self.stats.as_ref().map(|stats| PyMappingProxy::new(py, stats.bind(py).as_mapping()))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        (slf.get_type(), slf.get().fields(slf.py())?).into_pyobject(slf.py())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let names =
            ["step", "lr", "grad_norm", "clip", "skipped", "nonfinite", "stats", "overflowed"];
        let shown =
            if !self.overflowed.is_empty() { 8 } else { 6 + usize::from(self.stats.is_some()) };
        described("StepReport", &names[..shown], &self.fields(py)?)
    }

    /// Equal in every field; NaN equals NaN.
    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<StepReport>() else {
            return Ok(PyNotImplemented::get(py).to_owned().into_any());
        };
        let other = other.get();
        let bits = |report: &StepReport| {
            let StepReport { step, lr, grad_norm, clip, skipped, .. } = report;
            (*step, same_nan(*lr), grad_norm.map(same_nan), same_nan(*clip), *skipped)
        };
        let equal = bits(self) == bits(other)
            && self.nonfinite.bind(py).eq(&other.nonfinite)?
            && self.stats(py).into_pyobject(py)?.eq(other.stats(py))?
            && self.overflowed == other.overflowed;
        Ok(PyBool::new(py, equal).to_owned().into_any())
    }
}

impl StepReport {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let StepReport { step, lr, grad_norm, clip, skipped, nonfinite, stats, .. } = self;
        let (nonfinite, stats) = (nonfinite.bind(py), stats.as_ref().map(|stats| stats.bind(py)));
        let overflowed = self.overflowed(py)?;
        (*step, *lr, *grad_norm, *clip, *skipped, nonfinite, stats, overflowed).into_pyobject(py)
    }
}

/// `Name(field=value, ...)`.
fn described(name: &str, fields: &[&str], values: &Bound<'_, PyTuple>) -> PyResult<String> {
    let mut shown = Vec::with_capacity(fields.len());
    for (field, value) in fields.iter().zip(values) {
        shown.push(format!("{field}={}", value.repr()?));
    }
    Ok(format!("{name}({})", shown.join(", ")))
}

/// Norms of one parameter in one step.
///
/// Euclidean norms, with the same bits for any number of threads, strides and CPU level. The
/// gradient's is summed in float64. The others are first summed over short runs in the
/// parameter's type: in float32 they are correct to about six digits, and infinite for
/// parameters beyond 1.8e19.
///
/// Attributes
/// ----------
/// grad_norm : float
///     Norm of ``scale·g`` before clipping.
/// param_norm : float
///     Norm of the parameter before the step.
/// update_norm : float
///     Norm of the change of the parameter.
/// update_ratio : float
///     ``update_norm / param_norm``; infinite for a parameter of zeros that moved, NaN for one that
///     did not.
#[pyclass(module = "thalweg", frozen)]
#[derive(Debug)]
pub struct TensorStats {
    #[pyo3(get)]
    grad_norm: f64,
    #[pyo3(get)]
    param_norm: f64,
    #[pyo3(get)]
    update_norm: f64,
}

impl From<Norms> for TensorStats {
    fn from(Norms { grad, parameter, change }: Norms) -> Self {
        TensorStats { grad_norm: grad, param_norm: parameter, update_norm: change }
    }
}

#[pymethods]
impl TensorStats {
    #[new]
    fn new(grad_norm: f64, param_norm: f64, update_norm: f64) -> Self {
        TensorStats { grad_norm, param_norm, update_norm }
    }

    #[getter]
    fn update_ratio(&self) -> f64 {
        in_default_mode(|| self.update_norm / self.param_norm)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        (slf.get_type(), slf.get().fields(slf.py())?).into_pyobject(slf.py())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        described("TensorStats", &["grad_norm", "param_norm", "update_norm"], &self.fields(py)?)
    }

    /// Equal in every number; NaN equals NaN.
    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<TensorStats>() else {
            return Ok(PyNotImplemented::get(py).to_owned().into_any());
        };
        let bits = |stats: &TensorStats| {
            [stats.grad_norm, stats.param_norm, stats.update_norm].map(same_nan)
        };
        Ok(PyBool::new(py, bits(self) == bits(other.get())).to_owned().into_any())
    }
}

impl TensorStats {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (self.grad_norm, self.param_norm, self.update_norm).into_pyobject(py)
    }
}

/// The bits of a number, the same for all NaNs.
fn same_nan(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }
}
