//! The native base class of the optimizers: steps and counters.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::openstep::OpenStep;
use crate::step::keywords::{partial_argument, scale_argument, stats_argument};
use crate::step::report::StepReport;
use crate::updater::Updater;

/// Native base of the optimizers; see `thalweg.Optimizer`.
#[pyclass(module = "thalweg._core", subclass, frozen)]
#[derive(Debug)]
pub struct Optimizer {
    updater: Py<Updater>,
}

#[pymethods]
impl Optimizer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Optimizer { updater: Py::new(py, Updater::default())? })
    }

    /// The native object that updates the arrays.
    #[getter]
    fn _updater(&self, py: Python<'_>) -> Py<Updater> {
        self.updater.clone_ref(py)
    }

    /// Update every parameter that trains, once, in place.
    ///
    /// All checks run before the first write: a step that raises has changed nothing.
    ///
    /// Parameters
    /// ----------
    /// grads : tree of ndarray, or dict of names
    ///     Float32 or float64 arrays of any strides, in a tree like that of the parameters or in a
    ///     flat dict by name. They are only read. Arrays of other libraries are converted by
    ///     ``np.asarray``. None in place of an array or a container skips the parameters there.
    ///     `Rows` in place of an array are the gradient of a few rows.
    /// max_norm : float, optional
    ///     Clip by the norm of all gradients together: ``clip = min(1, max_norm / norm)``.
    /// max_tensor_norm : float, optional
    ///     Clip each gradient by its own norm.
    /// max_value : float, optional
    ///     Clip each element of ``scale·g`` to ``[-max_value, max_value]``. At most one of the
    ///     three limits can be given; none of them changes the gradient arrays.
    /// scale : float, default 1
    ///     Factor on all gradients, finite and above 0; applied before clipping.
    /// partial : bool, default False
    ///     Allow names to be missing; they are treated as None.
    /// stats : bool, default False
    ///     Report norms of each gradient, parameter and update, computed in the same pass. This
    ///     takes longer for arrays that are not in C order.
    ///
    /// Returns
    /// -------
    /// StepReport
    ///     Number of the step, learning rate, norm, clip factor, refused gradients, statistics.
    ///
    /// Raises
    /// ------
    /// NonFiniteError
    ///     If a gradient is NaN, infinite or too large, unless ``nonfinite`` is "skip" or "ignore".
    /// ValueError, TypeError
    ///     If gradients do not fit, parameters have changed, or a schedule leaves its range.
    /// BusyError
    ///     If the optimizer is in use, a step is open, or the parameters hold averages.
    #[pyo3(signature = (grads, *, max_norm=None, max_tensor_norm=None, max_value=None, scale=1.0,
        partial=false, stats=false))]
    #[allow(clippy::too_many_arguments)] // the keywords of a step
    fn step(
        &self,
        grads: &Bound<'_, PyAny>,
        max_norm: Option<&Bound<'_, PyAny>>,
        max_tensor_norm: Option<&Bound<'_, PyAny>>,
        max_value: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = scale_argument)] scale: f64,
        #[pyo3(from_py_with = partial_argument)] partial: bool,
        #[pyo3(from_py_with = stats_argument)] stats: bool,
    ) -> PyResult<StepReport> {
        let updater = self.updater.get();
        updater.step(
            grads,
            max_norm,
            max_tensor_norm,
            max_value,
            scale,
            partial,
            stats,
            None,
            false,
            None,
        )
    }

    /// One step, taken tensor by tensor.
    ///
    /// For gradients that arrive one by one and are freed early. Inside
    /// ``with opt.open_step() as step:``, ``step(grads)`` updates the parameters that have a
    /// gradient in `grads`, each at most once. All calls together are one step, with one number and
    /// one value of each schedule. Each call is all or nothing, and costs what its tensors cost.
    /// Leaving the block, also by an exception, closes the step; parameters without a gradient are
    /// skipped, as with None. A block without an update does not count as a step.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     With ``nonfinite="skip"``: updates before a bad gradient cannot be undone.
    /// BusyError
    ///     If a step is open already. Inside the block, every method that changes or saves the
    ///     optimizer raises it.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np, thalweg
    /// >>> params = {"w": np.ones(2), "b": np.zeros(2)}
    /// >>> opt = thalweg.SGD(params, lr=0.5)
    /// >>> with opt.open_step() as step:
    /// ...     report = step({"b": np.ones(2)})
    /// ...     report = step({"w": np.ones(2)}, max_tensor_norm=1.0)
    /// >>> opt.step_count, params["b"]
    /// (1, array([-0.5, -0.5]))
    fn open_step(slf: Bound<'_, Self>) -> OpenStep {
        let updater = slf.get().updater.clone_ref(slf.py());
        OpenStep::of(slf.into_any().unbind(), updater)
    }

    /// Number of steps taken.
    #[getter]
    fn step_count(&self) -> u64 {
        self.updater.get().step_count()
    }

    /// Number of steps skipped.
    #[getter]
    fn skip_count(&self) -> u64 {
        self.updater.get().skip_count()
    }

    /// Number of steps skipped since the last one taken.
    #[getter]
    fn consecutive_skips(&self) -> u64 {
        self.updater.get().consecutive_skips()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.updater)
    }
}
