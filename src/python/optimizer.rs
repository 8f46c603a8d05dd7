//! The base class of the optimizers: leaves, state, counters and the step.
//!
//! Python subclasses resolve groups into classes of parameters that share their hyperparameters;
//! everything a step does is here, in one native call, so that an interrupt can fall before it or
//! after it but not inside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::errors::Outcome;
use super::exit::Presence;
use super::gate::Gate;
use super::hyper::{Class, Family, flag, real};
use super::model::{Model, Options, Policy};
use super::report::StepReport;
use super::step::{Request, step};
use super::tree::Leaves;

/// The number of steps and the state of leaves, as `_snapshot` gives them.
type Snapshot<'py> = (u64, Bound<'py, PyDict>);

/// Native base of the optimizers; see `thalweg.Optimizer`.
#[pyclass(module = "thalweg._core", name = "Optimizer", subclass, frozen)]
pub struct Optimizer {
    model: Gate<Option<Model>>,
    /// Outside the gate, so that other threads can watch the progress.
    step_count: AtomicU64,
}

impl Optimizer {
    fn restore(&self, model: &mut Model, (step_count, states): &Snapshot<'_>) -> Outcome<()> {
        model.restore(states)?;
        self.step_count.store(*step_count, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `work` on the model, alone.
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Model) -> Outcome<T>) -> PyResult<T> {
        let _presence = Presence::begin(py);
        let mut model = self.model.enter()?;
        match model.as_mut() {
            Some(model) => Ok(work(model)?),
            None => Err(PyRuntimeError::new_err(
                "the optimizer was not set up: make one of AdamW, Adam, SGDW and SGD; a subclass \
                 calls super().__init__(params, ...) first",
            )),
        }
    }
}

fn scale_argument(given: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(real("scale", given)?)
}

fn partial_argument(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(flag("partial", given)?)
}

#[pymethods]
impl Optimizer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Optimizer { model: Gate::default(), step_count: AtomicU64::new(0) }
    }

    /// Takes in the parameters; returns names and arrays.
    #[pyo3(signature = (params, *, adam, amsgrad, nesterov, independent, maximize, nonfinite))]
    #[allow(clippy::too_many_arguments)] // the constructors' keywords, one to one
    fn _bind<'py>(
        &self,
        params: &Bound<'py, PyAny>,
        adam: bool,
        amsgrad: bool,
        nesterov: bool,
        independent: bool,
        maximize: bool,
        nonfinite: &str,
    ) -> PyResult<Leaves<'py>> {
        let _presence = Presence::begin(params.py());
        let family = if adam { Family::Adam { amsgrad } } else { Family::Sgd };
        let policy = Policy::named(nonfinite)?;
        let options = Options { family, nesterov, independent, maximize, policy };
        let (model, leaves) = Model::new(params, options)?;
        *self.model.enter()? = Some(model);
        self.step_count.store(0, Ordering::Relaxed);
        Ok(leaves)
    }

    /// Says which class each leaf is in, and what the classes' hyperparameters are. Class 0 is
    /// group 0 by itself. Leaves that train for the first time are checked and get their state.
    ///
    /// Without an assignment leaves stay in their classes. `trained` leaves get that many arrays of
    /// state whatever their class, frozen or not. What is `restored` is taken over at the end.
    #[pyo3(signature = (classes, assignment=None, trained=HashMap::new(), restored=None))]
    fn _configure(
        &self,
        py: Python<'_>,
        classes: Vec<Bound<'_, PyDict>>,
        assignment: Option<Vec<usize>>,
        trained: HashMap<String, usize>,
        restored: Option<Snapshot<'_>>,
    ) -> PyResult<()> {
        self.with(py, |model| {
            let assignment = assignment.unwrap_or_else(|| model.assignment());
            let kinds = model.kinds(py, &assignment, classes.len())?;
            let classes = classes
                .iter()
                .zip(&kinds)
                .map(|(given, kinds)| Class::extract(given, kinds))
                .collect::<Outcome<Vec<Class>>>()?;
            if let Some((_, states)) = &restored {
                model.check_restorable(states)?;
            }
            model.configure(py, classes, assignment, &trained)?;
            restored.map_or(Ok(()), |restored| self.restore(model, &restored))
        })
    }

    /// Adopts other arrays under the same names.
    fn _rebind<'py>(&self, params: &Bound<'py, PyAny>) -> PyResult<Leaves<'py>> {
        self.with(params.py(), |model| model.rebind(params))
    }

    /// Updates every parameter in place, once.
    ///
    /// See `thalweg.Optimizer.step`.
    #[pyo3(signature = (grads, *, max_norm=None, scale=1.0, partial=false))]
    fn step(
        &self,
        grads: &Bound<'_, PyAny>,
        max_norm: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = scale_argument)] scale: f64,
        #[pyo3(from_py_with = partial_argument)] partial: bool,
    ) -> PyResult<StepReport> {
        let py = grads.py();
        let max_norm = max_norm.map(|given| real("max_norm", given)).transpose()?;
        let request = Request { grads, max_norm, scale, partial, step_count: &self.step_count };
        self.with(py, |model| {
            let report = step(py, model, &request);
            model.work.clear();
            report
        })
    }

    /// Number of steps taken.
    #[getter]
    fn step_count(&self) -> u64 {
        self.step_count.load(Ordering::Relaxed)
    }

    /// State arrays of a leaf by name, or None if it has never trained.
    fn _state<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.with(py, |model| model.state(py, model.leaf(name)?))
    }

    /// Refuses if a leaf that trains is not the array it was.
    fn _check_current(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |model| model.check_current(py))
    }

    /// Number of updates of a leaf.
    fn _leaf_step(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.with(py, |model| model.leaf(name).map(|leaf| leaf.step))
    }

    /// The number of steps taken, and the state of leaves that have any: arrays (copies, or the
    /// live ones) and the number of updates, all of one moment.
    fn _snapshot<'py>(
        &self,
        py: Python<'py>,
        names: Vec<String>,
        copy: bool,
    ) -> PyResult<Snapshot<'py>> {
        self.with(py, |model| {
            let snapshot = PyDict::new(py);
            for name in &names {
                let leaf = model.leaf(name)?;
                let Some(arrays) = model.state(py, leaf)? else { continue };
                if copy {
                    for (key, array) in &arrays {
                        arrays.set_item(key, array.call_method0("copy")?)?;
                    }
                }
                arrays.set_item("step", leaf.step)?;
                snapshot.set_item(name, arrays)?;
            }
            Ok((self.step_count.load(Ordering::Relaxed), snapshot))
        })
    }

    /// Takes over what `_snapshot` gave, which must fit.
    fn _restore(&self, step_count: u64, states: Bound<'_, PyDict>) -> PyResult<()> {
        self.with(states.py(), |model| self.restore(model, &(step_count, states.clone())))
    }

    /// Sets the state of leaves and their numbers of updates to zero; the number of steps too if
    /// `everything` is.
    fn _reset(&self, py: Python<'_>, names: Vec<String>, everything: bool) -> PyResult<()> {
        self.with(py, |model| {
            model.reset(py, &names)?;
            if everything {
                self.step_count.store(0, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While it is stepping the objects are in use, so the collector need not see them.
        match self.model.enter() {
            Ok(model) => model.as_ref().map_or(Ok(()), |model| model.traverse(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Ok(mut model) = self.model.enter() {
            *model = None;
        }
    }
}
