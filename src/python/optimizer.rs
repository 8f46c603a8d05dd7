//! The base class of the optimizers: leaves, state, counters and the step.
//!
//! Python subclasses resolve groups into classes of parameters that share their hyperparameters;
//! everything a step does is here, in one native call, so that an interrupt can fall before it or
//! after it but not inside.

use std::collections::HashMap;

use numpy::PyUntypedArray;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::batch::Clip;
use super::counters::{Counters, Counts};
use super::errors::{Outcome, Refusal};
use super::exchange::exchange;
use super::exit::Presence;
use super::gate::{Entered, Gate};
use super::hyper::Family;
use super::keywords::{clip_argument, partial_argument, scale_argument, stats_argument};
use super::model::{Model, Options, Policy};
use super::openstep::OpenStep;
use super::report::StepReport;
use super::saved::{Attached, Snapshot, check_attached};
use super::step::{Request, open, step, step_open};
use super::tree::Leaves;

/// Native base of the optimizers, and the whole of sums and averages; see `thalweg.Optimizer`.
#[pyclass(module = "thalweg._core", name = "Optimizer", subclass, frozen)]
pub struct Optimizer {
    model: Gate<Option<Model>>,
    pub(super) counters: Counters,
}

impl Optimizer {
    /// Runs `work` on the model, alone, whatever it is in the middle of.
    pub(super) fn inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> PyResult<T> {
        let _presence = Presence::begin(py);
        Ok(work(model_in(&mut self.model.enter()?)?)?)
    }

    /// Runs `work` on the model, alone, unless a step is open or the arrays hold something else.
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Model) -> Outcome<T>) -> PyResult<T> {
        self.inside(py, |model| work(model.ready()?))
    }
}

fn model_in<'a>(entered: &'a mut Entered<'_, Option<Model>>) -> Outcome<&'a mut Model> {
    entered.as_mut().ok_or_else(|| {
        Refusal::Python(PyRuntimeError::new_err(
            "the optimizer was not set up: make one of AdamW, Adam, SGDW and SGD; a subclass \
             calls super().__init__(params, ...) first",
        ))
    })
}

#[pymethods]
impl Optimizer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Optimizer { model: Gate::default(), counters: Counters::default() }
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
        let family = if adam { Family::Adam { amsgrad } } else { Family::Sgd };
        let policy = Policy::named(nonfinite)?;
        self.bind(params, Options { family, nesterov, independent, maximize, policy })
    }

    /// Takes in arrays that are to hold sums of gradients.
    fn _bind_sums<'py>(&self, sums: &Bound<'py, PyAny>) -> PyResult<Leaves<'py>> {
        self.bind(sums, Options::of(Family::Sum))
    }

    /// Takes in arrays that are to hold averages of parameters.
    fn _bind_averages<'py>(
        &self,
        averages: &Bound<'py, PyAny>,
        bias_correction: bool,
    ) -> PyResult<Leaves<'py>> {
        self.bind(averages, Options::of(Family::Average { bias_correction }))
    }

    /// Says which class each leaf is in, and what the classes' hyperparameters are. Class 0 is
    /// group 0 by itself. Leaves that train for the first time are checked and get their state.
    ///
    /// `trained` leaves get that many arrays of state whatever their class, frozen or not. What is
    /// `restored` is taken over at the end, and what is `attached` after it.
    #[pyo3(signature = (classes, assignment, trained=HashMap::new(), restored=None,
        attached=Vec::new()))]
    fn _configure(
        &self,
        py: Python<'_>,
        classes: Vec<Bound<'_, PyDict>>,
        assignment: Vec<usize>,
        trained: HashMap<String, usize>,
        restored: Option<Snapshot<'_>>,
        attached: Vec<Attached<'_>>,
    ) -> PyResult<()> {
        self.inside(py, |model| {
            let model = if restored.is_some() { model.loadable()? } else { model.ready()? };
            let classes = model.extract(py, &classes, &assignment)?;
            if let Some((_, states)) = &restored {
                model.check_restorable(states)?;
            }
            check_attached(py, &attached)?;
            model.configure(py, classes, assignment, &trained)?;
            restored.map_or(Ok(()), |restored| self.restore(py, model, &restored, &attached))
        })
    }

    /// Gives some classes, by position, other hyperparameters; costs what their leaves cost.
    fn _adjust(&self, py: Python<'_>, classes: Vec<(usize, Bound<'_, PyDict>)>) -> PyResult<()> {
        self.with(py, |model| model.adjust(py, &classes))
    }

    /// Adopts other arrays under the same names.
    fn _rebind<'py>(&self, params: &Bound<'py, PyAny>) -> PyResult<Leaves<'py>> {
        self.with(params.py(), |model| model.rebind(params))
    }

    /// Adopts a tree with the same names and more, with classes as in `_configure`.
    fn _extend<'py>(
        &self,
        params: &Bound<'py, PyAny>,
        classes: Vec<Bound<'py, PyDict>>,
        assignment: Vec<usize>,
    ) -> PyResult<Leaves<'py>> {
        self.with(params.py(), |model| model.extend(params, &classes, assignment))
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
        let clip = clip_argument(&[
            ("max_norm", max_norm),
            ("max_tensor_norm", max_tensor_norm),
            ("max_value", max_value),
        ])?;
        let counters = &self.counters;
        let request = Request { grads, clip, scale, partial, stats, counters };
        self.with(grads.py(), |model| step(grads.py(), model, &request))
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
        OpenStep::of(slf.unbind())
    }

    /// Number of steps taken.
    #[getter]
    fn step_count(&self) -> u64 {
        self.counters.get().0
    }

    /// Number of steps skipped.
    #[getter]
    fn skip_count(&self) -> u64 {
        self.counters.get().1
    }

    /// Number of steps skipped since the last one taken.
    #[getter]
    fn consecutive_skips(&self) -> u64 {
        self.counters.get().2
    }

    /// Sum of the scales of steps taken: of a sum of gradients, the weights added up.
    #[getter]
    fn _weight(&self) -> f64 {
        self.counters.get().3
    }

    /// State arrays of a leaf by name, or None if it has never trained.
    fn _state<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.inside(py, |model| model.state(py, model.leaf(name)?))
    }

    /// Refuses if a leaf that trains is not the array it was.
    fn _check_current(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |model| model.check_current(py))
    }

    /// Number of updates of a leaf.
    fn _leaf_step(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.inside(py, |model| model.leaf(name).map(|leaf| leaf.step))
    }

    /// Numbers of updates of all leaves, in order.
    fn _leaf_steps(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        self.inside(py, |model| Ok(model.leaves.iter().map(|leaf| leaf.step).collect()))
    }

    /// The counters, and the state of leaves that have any: live arrays and the number of updates. Of
    /// sums and averages the arrays are the parameters.
    fn _snapshot<'py>(&self, py: Python<'py>, names: Vec<String>) -> PyResult<Snapshot<'py>> {
        self.with(py, |model| {
            model.check_whole()?;
            let positions = names.iter().map(|name| model.position(name));
            let snapshot = model.snapshot(py, positions.collect::<Outcome<Vec<usize>>>()?)?;
            Ok((self.counters.get(), snapshot))
        })
    }

    /// Calls `work` with snapshots of this object and of `others`, whose arrays are the live ones,
    /// and returns what it returns. Nobody can change any of them until then, so all are of one
    /// moment. With `current`, leaves that train must be what they were.
    fn _together<'py>(
        &self,
        py: Python<'py>,
        others: Vec<Bound<'py, Optimizer>>,
        work: &Bound<'py, PyAny>,
        current: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _presence = Presence::begin(py);
        let objects = std::iter::once(self).chain(others.iter().map(Bound::get));
        let mut entered = Vec::with_capacity(1 + others.len());
        let snapshots = PyList::empty(py);
        for object in objects {
            let mut gate = object.model.enter()?;
            let model = model_in(&mut gate)?.ready()?;
            model.check_whole()?;
            if current {
                model.check_current(py)?;
            }
            snapshots
                .append((object.counters.get(), model.snapshot(py, 0..model.leaves.len())?))?;
            entered.push(gate);
        }
        work.call1((snapshots,))
    }

    /// Takes over what `_snapshot` gave, which must fit, here and in what is attached.
    #[pyo3(signature = (counts, states, attached=Vec::new()))]
    fn _restore(
        &self,
        py: Python<'_>,
        counts: Counts,
        states: Bound<'_, PyDict>,
        attached: Vec<Attached<'_>>,
    ) -> PyResult<()> {
        self.inside(py, |model| {
            let model = model.loadable()?;
            model.check_restorable(&states)?;
            check_attached(py, &attached)?;
            self.restore(py, model, &(counts, states), &attached)
        })
    }

    /// Moves averages towards the parameters. Their optimizer is entered too, so that nobody trains
    /// them meanwhile.
    #[pyo3(signature = (params, owner=None))]
    fn _average(
        &self,
        params: &Bound<'_, PyAny>,
        owner: Option<&Bound<'_, Optimizer>>,
    ) -> PyResult<()> {
        let mut entered = owner.map(|owner| owner.get().model.enter()).transpose()?;
        if let Some(owner) = &mut entered {
            model_in(owner)?.ready()?;
        }
        let (clip, scale, partial, stats) = (Clip::No, 1.0, false, false);
        let counters = &self.counters;
        let request = Request { grads: params, clip, scale, partial, stats, counters };
        self.with(params.py(), |model| step(params.py(), model, &request))?;
        Ok(())
    }

    /// Refuses in the middle of something.
    fn _check_ready(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |_| Ok(()))
    }

    /// Names of all leaves, in order.
    fn _leaf_names<'py>(&self, py: Python<'py>) -> PyResult<Vec<Py<PyString>>> {
        self.inside(py, |model| {
            Ok(model.leaves.iter().map(|leaf| leaf.key.clone_ref(py)).collect())
        })
    }

    /// Sets the state of leaves and their numbers of updates to zero; of all leaves, and the counters
    /// too, without names.
    #[pyo3(signature = (names=None))]
    fn _reset(&self, py: Python<'_>, names: Option<Vec<String>>) -> PyResult<()> {
        self.with(py, |model| {
            let everything = names.is_none();
            let positions = match names {
                Some(names) => {
                    let positions = names.iter().map(|name| model.position(name));
                    positions.collect::<Outcome<Vec<usize>>>()?
                }
                None => (0..model.leaves.len()).collect(),
            };
            model.check_whole()?;
            model.writing(py, &self.counters, |model| {
                model.reset(py, positions.into_iter())?;
                if everything {
                    self.counters.set(Counts::default());
                }
                Ok(())
            })
        })
    }

    /// Has the state of leaves made by `keeper` from now on, in files: it is called with the name,
    /// the array and the names of state arrays of each leaf that begins to train.
    fn _keep(&self, py: Python<'_>, keeper: Py<PyAny>) -> PyResult<()> {
        self.inside(py, |model| {
            model.keeper = Some(keeper);
            Ok(())
        })
    }

    /// Keeps a record of progress from now on, in these words of a mapped file. Without words it is
    /// closed, and nothing can be written any more.
    #[pyo3(signature = (words=None, torn=false, releases=false))]
    fn _keep_record(
        &self,
        py: Python<'_>,
        words: Option<&Bound<'_, PyUntypedArray>>,
        torn: bool,
        releases: bool,
    ) -> PyResult<()> {
        self.with(py, |model| model.set_record(words, (torn, releases)))
    }

    /// Takes over counters and numbers of updates, the latter in the order of names.
    fn _resume(&self, py: Python<'_>, counts: Counts, steps: Vec<u64>) -> PyResult<()> {
        self.with(py, |model| {
            for (leaf, step) in model.sorted.iter().zip(steps) {
                model.leaves[*leaf].step = step;
            }
            self.counters.set(counts);
            Ok(())
        })
    }

    /// Parameters and state are whole again.
    fn _mend(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |model| {
            model.mend(&self.counters);
            Ok(())
        })
    }

    /// Calls `work` while nobody else is in here.
    fn _alone(&self, py: Python<'_>, work: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with(py, |_| Ok(work.call0().map(drop)?))
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

impl Optimizer {
    /// Exchanges the contents of averages and of the parameters, and back. Meanwhile they are held,
    /// and so is the optimizer of the parameters.
    pub fn exchange(
        &self,
        params: &Bound<'_, PyDict>,
        held: bool,
        owner: Option<&Optimizer>,
    ) -> PyResult<()> {
        let py = params.py();
        let mut entered = owner.map(|owner| owner.model.enter()).transpose()?;
        let mut owner_model = entered.as_mut().map(model_in).transpose()?;
        self.inside(py, |model| {
            if held {
                model.ready()?;
            }
            if let Some(owner) = &mut owner_model {
                if held {
                    owner.ready()?.check_current(py)?;
                    owner.check_whole()?;
                }
                owner.prepare_writing(py)?;
                owner.begin_writing();
            }
            let mark = owner_model.as_deref_mut().map(|owner| &mut owner.held);
            let done = exchange(py, model, params, (held, mark));
            if let (Some(model), Some(owner)) = (owner_model, owner) {
                // Between entering and leaving one that began is not finished.
                if done.is_err() || !held {
                    model.finish_writing(&owner.counters);
                }
                if done.is_ok() && !held {
                    model.finish_writing(&owner.counters);
                }
            }
            done
        })
    }

    /// Begins a step that is taken tensor by tensor.
    pub fn open(&self, py: Python<'_>, token: u64) -> PyResult<()> {
        self.with(py, |model| open(py, model, &self.counters, token))
    }

    /// Updates some parameters in the open step, each at most once.
    pub fn step_open(
        &self,
        grads: &Bound<'_, PyAny>,
        token: u64,
        (clip, scale, stats): (Clip, f64, bool),
    ) -> PyResult<StepReport> {
        let counters = &self.counters;
        let request = Request { grads, clip, scale, partial: true, stats, counters };
        self.inside(grads.py(), |model| step_open(grads.py(), model, &request, token))
    }

    /// Ends the open step, if it is this one.
    pub fn close(&self, py: Python<'_>, token: u64) -> PyResult<()> {
        self.inside(py, |model| {
            if model.open.take_if(|open| open.token == token).is_some() {
                model.finish_writing(&self.counters);
            }
            Ok(())
        })
    }

    /// Whether this step is open.
    pub fn is_open(&self, py: Python<'_>, token: u64) -> PyResult<bool> {
        self.inside(py, |model| Ok(model.open.as_ref().is_some_and(|open| open.token == token)))
    }

    fn bind<'py>(&self, params: &Bound<'py, PyAny>, options: Options) -> PyResult<Leaves<'py>> {
        let _presence = Presence::begin(params.py());
        let (model, leaves) = Model::new(params, options)?;
        *self.model.enter()? = Some(model);
        self.counters.set(Counts::default());
        Ok(leaves)
    }
}
