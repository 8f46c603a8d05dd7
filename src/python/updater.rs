//! Arrays that are updated together, with their state: the native part of optimizers, sums and
//! averages.
//!
//! Python resolves groups into classes of parameters that share hyperparameters. A whole step is
//! one native call, so that an interrupt arrives before it or after it, not inside.

use std::collections::{HashMap, HashSet};

use numpy::PyUntypedArray;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::array::counts::ShownCounts;
use crate::interpreter::errors::Outcome;
use crate::interpreter::exit::Presence;
use crate::model::Model;
use crate::model::counters::Counts;
use crate::model::form::DescribedPart;
use crate::model::options::{Options, policy_named, rule_named};
use crate::model::snapshot::Snapshot;
use crate::model::tree::Leaves;
use crate::restore::{Attached, check_attached, restore};
use crate::step::collect::slices;
use crate::step::guarded::{Guarded, model_in};
use crate::step::keywords::{clip_argument, partial_argument, scale_argument, stats_argument};
use crate::step::report::StepReport;
use crate::step::take::{Request, step};
use thalweg::machine::team;
use thalweg::rule::Choice;
use thalweg::step::setting::Clip;

/// An object that loads saved state together with another: the object, its counters, its state.
type AttachedObject<'py> = (Bound<'py, Updater>, Counts, Bound<'py, PyDict>);

/// Arrays and their state, updated together.
#[pyclass(module = "thalweg._core", frozen)]
#[derive(Debug, Default)]
pub struct Updater {
    pub guarded: Guarded,
}

#[pymethods]
impl Updater {
    #[new]
    fn new() -> Self {
        Updater::default()
    }

    /// Binds the parameters to a rule, given by name; returns names and arrays. `choices` are those
    /// of the rule; one that is missing is False. `bits` are names of leaves whose arrays of uint16
    /// have the bits of bfloat16 numbers.
    #[pyo3(signature = (params, rule, choices, nonfinite, bits=HashSet::new()))]
    fn bind<'py>(
        &self,
        params: &Bound<'py, PyAny>,
        rule: &str,
        choices: HashMap<String, bool>,
        nonfinite: &str,
        bits: HashSet<String>,
    ) -> PyResult<Leaves<'py>> {
        let _presence = Presence::begin(params.py());
        let rule = rule_named(rule)?;
        let is_chosen = |choice: &Choice| choices.get(choice.name()).copied().unwrap_or(false);
        let chosen = rule.choices.iter().copied().filter(is_chosen).collect();
        let options = Options::new(rule, chosen, policy_named(nonfinite)?);
        let (model, leaves) = Model::new(params, options, |name| bits.contains(name))?;
        self.guarded.put(Some(model))?;
        self.guarded.counters.set(Counts::default());
        Ok(leaves)
    }

    /// Assigns each leaf to a class, and sets the classes' hyperparameters. Class 0 has those of
    /// group 0 alone. Leaves that train for the first time are checked and get their state.
    ///
    /// `trained` gives leaves a number of state arrays, even if their class is frozen. The state in
    /// `restored` is loaded last, together with that of `attached` objects.
    #[pyo3(signature = (classes, assignment, trained=HashMap::new(), restored=None,
        attached=Vec::new()))]
    fn configure(
        &self,
        py: Python<'_>,
        classes: Vec<Bound<'_, PyDict>>,
        assignment: Vec<usize>,
        trained: HashMap<String, usize>,
        restored: Option<Snapshot<'_>>,
        attached: Vec<AttachedObject<'_>>,
    ) -> PyResult<()> {
        self.inside(py, |model| {
            let model = if restored.is_some() { model.loadable()? } else { model.ready()? };
            let classes = model.extract(py, &classes, &assignment)?;
            if let Some((_, states)) = &restored {
                model.check_restorable(states)?;
            }
            let attached = guarded(&attached);
            check_attached(py, &attached)?;
            model.configure(py, classes, assignment, &trained)?;
            restored.map_or(Ok(()), |restored| {
                restore(py, (&self.guarded.counters, model), &restored, &attached)
            })
        })
    }

    /// Changes the hyperparameters of some classes, given by position. The cost is that of their
    /// leaves, or of all leaves if `frozen` changes.
    fn adjust(&self, py: Python<'_>, classes: Vec<(usize, Bound<'_, PyDict>)>) -> PyResult<()> {
        self.with(py, |model| model.adjust(py, &classes))
    }

    /// Adopts other arrays under the same names.
    fn rebind<'py>(&self, params: &Bound<'py, PyAny>) -> PyResult<Leaves<'py>> {
        self.with(params.py(), |model| model.rebind(params))
    }

    /// Adopts a tree with the same names and more; classes as in `configure`, `bits` as in `bind`.
    #[pyo3(signature = (params, classes, assignment, bits=HashSet::new()))]
    fn extend<'py>(
        &self,
        params: &Bound<'py, PyAny>,
        classes: Vec<Bound<'py, PyDict>>,
        assignment: Vec<usize>,
        bits: HashSet<String>,
    ) -> PyResult<Leaves<'py>> {
        self.with(params.py(), |model| model.extend(params, (&classes, assignment), &bits))
    }

    /// Updates every array that trains, once; see `Optimizer.step`, and `show_steps` for `shown`.
    /// With `openmp`, on threads of an OpenMP library that the program has loaded, if it can. With
    /// `peers`, the arrays are parts of tensors, of which other processes have the rest; see `Others`.
    #[pyo3(signature = (grads, *, max_norm=None, max_tensor_norm=None, max_value=None, scale=1.0,
        partial=false, stats=false, shown=None, openmp=false, peers=None))]
    #[allow(clippy::too_many_arguments)] // the keywords of a step
    pub fn step(
        &self,
        grads: &Bound<'_, PyAny>,
        max_norm: Option<&Bound<'_, PyAny>>,
        max_tensor_norm: Option<&Bound<'_, PyAny>>,
        max_value: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = scale_argument)] scale: f64,
        #[pyo3(from_py_with = partial_argument)] partial: bool,
        #[pyo3(from_py_with = stats_argument)] stats: bool,
        shown: Option<&Bound<'_, PyUntypedArray>>,
        openmp: bool,
        peers: Option<Py<PyAny>>,
    ) -> PyResult<StepReport> {
        let clip = clip_argument(&[
            ("max_norm", max_norm),
            ("max_tensor_norm", max_tensor_norm),
            ("max_value", max_value),
        ])?;
        let counters = &self.guarded.counters;
        let (owner, peers) = (None, peers.as_ref());
        let request = Request { grads, clip, scale, partial, stats, shown, counters, owner, peers };
        let py = grads.py();
        let take =
            || self.guarded.step_inside(py, |model, room| step(py, model.ready()?, room, &request));
        Ok(if openmp { team::with(take) } else { take() }?)
    }

    /// The gradients that a step would read, as they are: an array or None for each leaf, if all are
    /// slices of the type and shape of their leaf; otherwise None.
    fn slices(
        &self,
        py: Python<'_>,
        grads: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Vec<Option<Py<PyAny>>>>> {
        Ok(self.guarded.step_inside(py, |model, room| slices(py, model.ready()?, room, grads))?)
    }

    /// Number of steps taken.
    #[getter]
    pub fn step_count(&self) -> u64 {
        self.guarded.counters.get().0
    }

    /// Number of steps skipped.
    #[getter]
    pub fn skip_count(&self) -> u64 {
        self.guarded.counters.get().1
    }

    /// Number of steps skipped since the last one taken.
    #[getter]
    pub fn consecutive_skips(&self) -> u64 {
        self.guarded.counters.get().2
    }

    /// Sum of the scales of the steps taken; for a sum of gradients, the sum of the weights.
    #[getter]
    fn weight(&self) -> f64 {
        self.guarded.counters.get().3
    }

    /// State arrays of a leaf by name, or None if it has never trained.
    fn state<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.inside(py, |model| model.state(py, model.leaf(name)?))
    }

    /// The state arrays that a leaf would have in a class of these values: name, dtype and shape.
    fn parts<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        values: &Bound<'py, PyDict>,
    ) -> PyResult<Vec<DescribedPart<'py>>> {
        self.inside(py, |model| model.parts(py, model.leaf(name)?, values))
    }

    /// ValueError if a leaf that trains was replaced in its container, or its array or state
    /// changed.
    fn check_current(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |model| model.check_current(py))
    }

    /// Number of updates of a leaf.
    fn leaf_step(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.inside(py, |model| model.leaf(name).map(|leaf| leaf.step))
    }

    /// Numbers of updates of all leaves, in order.
    fn leaf_steps(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        self.inside(py, |model| Ok(model.leaves.iter().map(|leaf| leaf.step).collect()))
    }

    /// Writes the numbers of updates of all leaves, in order, to the start of an array of float64.
    fn show_steps(&self, shown: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
        self.inside(shown.py(), |model| {
            let shown = ShownCounts::of(shown, model.leaves.len())?;
            model.leaves.iter().enumerate().for_each(|(i, leaf)| shown.show(i, leaf.step));
            Ok(())
        })
    }

    /// Whether the array still has the numbers that `show_steps` writes.
    fn shows_steps(&self, shown: &Bound<'_, PyUntypedArray>) -> PyResult<bool> {
        self.inside(shown.py(), |model| {
            let shown = ShownCounts::of(shown, model.leaves.len())?;
            Ok(model.leaves.iter().enumerate().all(|(i, leaf)| shown.shows(i, leaf.step)))
        })
    }

    /// The counters, and for each leaf with state its live arrays and number of updates. For sums
    /// and averages, the arrays include the sum or average itself.
    fn snapshot<'py>(&self, py: Python<'py>, names: Vec<String>) -> PyResult<Snapshot<'py>> {
        self.with(py, |model| {
            model.check_whole()?;
            let positions = names.iter().map(|name| model.position(name));
            let snapshot = model.snapshot(py, positions.collect::<Outcome<Vec<usize>>>()?)?;
            Ok((self.guarded.counters.get(), snapshot))
        })
    }

    /// Calls `work` with snapshots of this object and of `others`, and returns its result. All
    /// objects stay in use until `work` returns, so that the snapshots, which hold the live arrays,
    /// are of one moment. With `current`, each object must pass `check_current`.
    fn together<'py>(
        &self,
        py: Python<'py>,
        others: Vec<Bound<'py, Updater>>,
        work: &Bound<'py, PyAny>,
        current: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _presence = Presence::begin(py);
        let objects = std::iter::once(self).chain(others.iter().map(Bound::get));
        let mut entered = Vec::with_capacity(1 + others.len());
        let snapshots = PyList::empty(py);
        for object in objects {
            let mut gate = object.guarded.enter()?;
            let model = model_in(&mut gate)?.ready()?;
            model.check_whole()?;
            if current {
                model.check_current(py)?;
            }
            snapshots.append((
                object.guarded.counters.get(),
                model.snapshot(py, 0..model.leaves.len())?,
            ))?;
            entered.push(gate);
        }
        work.call1((snapshots,))
    }

    /// Loads the counters and the state of a snapshot, which must fit, and those of attached
    /// objects.
    #[pyo3(signature = (counts, states, attached=Vec::new()))]
    fn restore(
        &self,
        py: Python<'_>,
        counts: Counts,
        states: Bound<'_, PyDict>,
        attached: Vec<AttachedObject<'_>>,
    ) -> PyResult<()> {
        self.inside(py, |model| {
            let model = model.loadable()?;
            model.check_restorable(&states)?;
            let attached = guarded(&attached);
            check_attached(py, &attached)?;
            restore(py, (&self.guarded.counters, model), &(counts, states), &attached)
        })
    }

    /// Moves averages towards the parameters. The optimizer of the parameters, `owner`, is in use
    /// meanwhile, so that no step changes them.
    #[pyo3(signature = (params, owner=None))]
    fn average(
        &self,
        params: &Bound<'_, PyAny>,
        owner: Option<&Bound<'_, Updater>>,
    ) -> PyResult<()> {
        let mut entered = owner.map(|owner| owner.get().guarded.enter()).transpose()?;
        let owner = match &mut entered {
            Some(owner) => Some(&*model_in(owner)?.ready()?),
            None => None,
        };
        let (clip, scale, partial, stats, shown) = (Clip::No, 1.0, false, false, None);
        let counters = &self.guarded.counters;
        let request = Request {
            grads: params,
            clip,
            scale,
            partial,
            stats,
            shown,
            counters,
            owner,
            peers: None,
        };
        let py = params.py();
        self.guarded.step_inside(py, |model, room| step(py, model.ready()?, room, &request))?;
        Ok(())
    }

    /// BusyError while the object is in use, a step is open or averages are swapped in. ValueError
    /// after a load that stopped midway.
    fn check_ready(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |_| Ok(()))
    }

    /// Names of all leaves, in order.
    fn leaf_names<'py>(&self, py: Python<'py>) -> PyResult<Vec<Py<PyString>>> {
        self.inside(py, |model| {
            Ok(model.leaves.iter().map(|leaf| leaf.key.clone_ref(py)).collect())
        })
    }

    /// Sets the state and the numbers of updates of leaves to zero. Without `names`, those of all
    /// leaves, and the counters.
    #[pyo3(signature = (names=None))]
    fn reset(&self, py: Python<'_>, names: Option<Vec<String>>) -> PyResult<()> {
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
            model.writing(py, &self.guarded.counters, |model| {
                model.reset(py, positions.into_iter())?;
                if everything {
                    self.guarded.counters.set(Counts::default());
                }
                Ok(())
            })
        })
    }

    /// Sets the function that makes state arrays in files from now on. It is called with a list of
    /// `(name, array, state)` for the leaves that begin to train, where `state` has name, dtype and
    /// shape of each array, and returns a list of arrays for each.
    fn keep(&self, py: Python<'_>, keeper: Py<PyAny>) -> PyResult<()> {
        self.inside(py, |model| {
            model.keeper = Some(keeper);
            Ok(())
        })
    }

    /// Starts the record of progress, in these words of a mapped file: `torn` if the arrays are
    /// part old and part new, `releases` if their pages are released behind a step. Without words,
    /// closes the record: nothing can be written after that.
    #[pyo3(signature = (words=None, torn=false, releases=false))]
    fn keep_record(
        &self,
        py: Python<'_>,
        words: Option<&Bound<'_, PyUntypedArray>>,
        torn: bool,
        releases: bool,
    ) -> PyResult<()> {
        self.with(py, |model| model.set_record(words, (torn, releases)))
    }

    /// Sets the counters and the numbers of updates, the latter in the order of names.
    fn resume(&self, py: Python<'_>, counts: Counts, steps: Vec<u64>) -> PyResult<()> {
        self.with(py, |model| {
            for (leaf, step) in model.sorted.iter().zip(steps) {
                model.leaves[*leaf].step = step;
            }
            self.guarded.counters.set(counts);
            Ok(())
        })
    }

    /// Records that parameters and state are whole again.
    fn mend(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |model| {
            model.mend(&self.guarded.counters);
            Ok(())
        })
    }

    /// Calls `work` with exclusive access to this object.
    fn alone(&self, py: Python<'_>, work: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with(py, |_| Ok(work.call0().map(drop)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.guarded.traverse(&visit)
    }

    fn __clear__(&self) {
        let _ = self.guarded.put(None); // fails only in use, and then this is not garbage
    }
}

impl Updater {
    fn inside<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> Outcome<T>,
    ) -> PyResult<T> {
        Ok(self.guarded.inside(py, work)?)
    }

    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Model) -> Outcome<T>) -> PyResult<T> {
        self.inside(py, |model| work(model.ready()?))
    }
}

fn guarded<'a, 'py>(attached: &'a [AttachedObject<'py>]) -> Vec<Attached<'a, 'py>> {
    let object = |(object, counts, states): &'a AttachedObject<'py>| {
        (&object.get().guarded, *counts, states.clone())
    };
    attached.iter().map(object).collect()
}
