//! The base class of the optimizers: a step, and counters.

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

    /// What updates the arrays.
    #[getter]
    fn _updater(&self, py: Python<'_>) -> Py<Updater> {
        self.updater.clone_ref(py)
    }

    /// Update every parameter that trains, once, in place.
    ///
    /// Everything is checked before the first write: a step that raises has changed nothing.
    ///
    /// Parameters
    /// ----------
    /// grads : tree of ndarray, or dict of names
    ///     Float32 or float64 arrays of any strides, in a tree like the parameters' or in a flat dict of
    ///     names. They are only read. Arrays of other libraries are read as ``np.asarray`` gives them.
    ///     None, at a parameter or above, skips what is below it.
    /// max_norm : float, optional
    ///     Clips by the norm of all gradients together: ``clip = min(1, max_norm / norm)``.
    /// max_tensor_norm : float, optional
    ///     Clips each gradient by its own norm.
    /// max_value : float, optional
    ///     Brings each element of ``scale·g`` into ``[-max_value, max_value]``. At most one of the three
    ///     limits; none of them touches the gradients themselves.
    /// scale : float, default 1
    ///     Factor on all gradients, finite and above 0; applied before clipping.
    /// partial : bool, default False
    ///     Allow names to be missing, as if they were None.
    /// stats : bool, default False
    ///     Report norms of each gradient, parameter and update, taken in the same pass. Arrays that are
    ///     not in C order take longer for it.
    ///
    /// Returns
    /// -------
    /// StepReport
    ///     Number, learning rate, norm, clip, what was skipped, statistics.
    ///
    /// Raises
    /// ------
    /// NonFiniteError
    ///     If gradients are NaN, infinite or too large, unless ``nonfinite`` is "skip" or "ignore".
    /// ValueError, TypeError
    ///     For gradients that do not fit, parameters that changed, schedules that leave their range.
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
        self.updater.get().step(grads, max_norm, max_tensor_norm, max_value, scale, partial, stats)
    }

    /// One step, taken tensor by tensor.
    ///
    /// For gradients that come one by one and are freed early. Used as
    /// ``with opt.open_step() as step:``; inside, ``step(grads)`` updates the parameters that `grads`
    /// names, each at most once. All calls together are one step: one number, one value of each
    /// schedule. Every call by itself is all or nothing, and costs what its tensors cost. Leaving the
    /// block, by an exception too, closes the step; parameters without a gradient by then are
    /// skipped, as with None. A block without an update is no step.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     With ``nonfinite="skip"``: what was updated before a bad gradient cannot be taken back.
    /// BusyError
    ///     If a step is open already. Inside the block, all that changes or saves the optimizer is
    ///     refused.
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
