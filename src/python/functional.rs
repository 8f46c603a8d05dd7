//! The functions of `thalweg.functional`: updates in place of arrays whose state the caller keeps.

#![allow(unsafe_code)] // binds checked arrays by address

use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::arguments::{Argument, Arrays, Rows, Slot};
use crate::array::checks::{gradient_of, plain, written};
use crate::array::foreign::as_array;
use crate::array::gathered::{RowGradient, Sums};
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::overlap::{first_file_overlap, first_overlap};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::model::form::{KEPT, LOW};
use crate::model::options::{Options, policy_named, rule_named};
use crate::model::tree::{Leaves, flatten};
use crate::step::keywords::limit;
use crate::values::hyper::{flag, number_of_threads, real, representation, set, text, whole};
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, MAX_STATE, PARAMETER, Pointer};
use thalweg::error::{Error, Quoted};
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::element::Kind;
use thalweg::number::float_mode::in_default_mode;
use thalweg::read::norm::{self, Norm};
use thalweg::rule::{Content, Decay, Hyperparameter, Numbers, Rule, StateSpec, When};
use thalweg::step::batch::Batch;
use thalweg::step::key::UpdateKey;
use thalweg::step::setting::{Clip, Policy, Setting};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::{Narrow, Tensor};

/// One update of a rule, given by name; see `thalweg.functional`. `state` has the arrays in the
/// order of the rule, `values` the hyperparameters and choices. False if refused gradients made it
/// skip.
#[pyfunction]
#[pyo3(signature = (rule, p, g, state, step, values, *, scale, nonfinite, threads, bases=None,
    low=None, history=None))]
#[allow(clippy::too_many_arguments)] // the arguments of the functions of `thalweg.functional`
pub fn apply(
    py: Python<'_>,
    rule: &str,
    p: &Bound<'_, PyAny>,
    g: &Bound<'_, PyAny>,
    state: Vec<Bound<'_, PyAny>>,
    step: &Bound<'_, PyAny>,
    values: &Bound<'_, PyDict>,
    scale: &Bound<'_, PyAny>,
    nonfinite: &Bound<'_, PyAny>,
    threads: Option<&Bound<'_, PyAny>>,
    bases: Option<&Bound<'_, PyAny>>,
    low: Option<&Bound<'_, PyAny>>,
    history: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let _presence = Presence::begin(py);
    let rule = rule_named(rule)?;
    let numbers = numbers(rule, values)?;
    let step = whole(step, "step", 1)?;
    let scale = real("scale", scale)?;
    let scale = Hyperparameter::Scale.check(scale, Kind::F64).map_err(Refusal::from)?;
    let policy = policy_named(&text("nonfinite", nonfinite)?)?;
    let threads = match threads {
        None => num_threads().0,
        Some(given) => number_of_threads(given, "threads")?,
    };
    let mut arguments = Vec::with_capacity(ARRAYS + 2);
    arguments.extend([("p", Slot::Parameter, p), ("g", Slot::Gradient, g)]);
    let mut given = Vec::with_capacity(MAX_STATE);
    for (spec, array) in rule.state.iter().zip(&state) {
        if array.is_none() && spec.when != When::Always {
            check_dispensable(*spec, numbers)?;
        } else {
            given.push((spec, array));
        }
    }
    let has_mean = given.iter().any(|(spec, _)| spec.content == Content::Mean);
    for (number, (spec, array)) in given.into_iter().enumerate() {
        // An average of squares is as exact as the average whose square is subtracted from it.
        let square = has_mean && spec.content == Content::Square;
        let content = if square { Content::Mean } else { spec.content };
        arguments.push((spec.name, Slot::State(content, number), array));
    }
    let none = py.None().into_bound(py);
    if let Some(spec) = rule.state.iter().find(|spec| spec.content == Content::Square) {
        arguments.push((spec.base, Slot::Bases(spec.name), bases.unwrap_or(&none)));
    }
    arguments.push((LOW, Slot::Low, low.unwrap_or(&none)));
    if rule.state.iter().any(|spec| spec.content == Content::Point) {
        arguments.push((KEPT, Slot::History, history.unwrap_or(&none)));
    }
    let call = Call { rule, numbers, step, scale, policy, threads };
    Ok(update(py, &arguments, &call)?)
}

/// The numbers of a rule, with the given hyperparameters and choices set.
fn numbers(rule: &Rule, values: &Bound<'_, PyDict>) -> Outcome<Numbers> {
    let mut numbers = rule.numbers;
    let mut pair: Vec<Bound<'_, PyAny>> = Vec::new();
    for key in rule.hyperparameters {
        let object = match key.name().split_once('[') {
            None => values.get_item(key.name())?,
            Some((name, _)) => {
                // Iterated once, because it may be an iterator.
                if pair.is_empty()
                    && let Some(given) = values.get_item(name)?
                {
                    pair = two(name, &given)?.into();
                }
                pair.pop()
            }
        };
        if let Some(object) = object {
            set(&mut numbers, *key, real(key.name(), &object)?);
        }
    }
    for choice in rule.choices {
        if let (Some(object), Some(place)) =
            (values.get_item(choice.name())?, numbers.choice(*choice))
        {
            *place = flag(choice.name(), &object)?;
        }
    }
    Ok(numbers)
}

/// The two entries of a pair, the second first, as the caller pops them.
fn two<'py>(name: &str, given: &Bound<'py, PyAny>) -> Outcome<[Bound<'py, PyAny>; 2]> {
    let entries: Vec<Bound<'_, PyAny>> = match given.try_iter() {
        Ok(entries) => entries.collect::<PyResult<_>>()?,
        Err(error) if error.is_instance_of::<PyTypeError>(given.py()) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match <[Bound<'_, PyAny>; 2]>::try_from(entries) {
        Ok([first, second]) => Ok([second, first]),
        Err(_) => {
            let got = representation(given)?;
            Err(Refusal::Kind { what: name.to_owned(), kind: "two numbers", got })
        }
    }
}

/// Refuses a missing state array if the numbers require it.
fn check_dispensable(state: StateSpec, mut numbers: Numbers) -> Outcome<()> {
    match state.when {
        When::Nonzero(key) if numbers.number(key).is_some_and(|number| *number != 0.0) => {
            let (key, name) = (key.name(), state.name);
            Err(Refusal::Value(format!("{key} above 0 needs a {name} (np.zeros_like(p))")))
        }
        _ => Ok(()),
    }
}

/// The arguments of an update, apart from its arrays.
struct Call {
    rule: &'static Rule,
    numbers: Numbers,
    step: u64,
    scale: f64,
    policy: Policy,
    threads: usize,
}

/// Checks everything, then updates; false if refused gradients made it skip.
///
/// `arguments` are parameter, gradient and state, in this order.
fn update(py: Python<'_>, arguments: &[Argument<'_, '_>], call: &Call) -> Outcome<bool> {
    let rows = Rows::new(arguments)?;
    let tensors = rows.check()?;
    let states = arguments.iter().filter(|(_, slot, _)| matches!(slot, Slot::State(..))).count();
    let mut numbers = call.numbers;
    if tensors.is_empty() {
        // The first step reads no history, of which there is none.
        let step = if numbers.history().is_some() { 1 } else { call.step };
        numbers.at_step(Kind::F64, step, call.scale)?;
    }
    let initial = numbers.number(Hyperparameter::InitialAccumulatorValue);
    let begins_above_zero = initial.is_some_and(|value| *value > 0.0);
    let measures = call.numbers.measures().next().is_some();
    // Measures are summed in logical order.
    let order = if measures { Order::Logical } else { Order::Memory };
    let numbers = [call.numbers];
    let mut setting = Setting {
        level: Level::current(),
        threads: call.threads,
        policy: call.policy,
        clip: Clip::No,
        scale: call.scale,
        measured: false,
    };
    let (mut batch, mut sums) = (Batch::default(), Sums::default());
    for (row, arrays) in tensors.iter().enumerate() {
        let Arrays { storage, shape, pointers, strides, bases, kept, rows } = arrays;
        let kind = storage.element();
        let key = UpdateKey {
            class: 0,
            step: call.step,
            kind,
            tensor: measures.then_some(row),
            history: kept.map_or_else(Default::default, |kept| kept.bits()),
        };
        let update = batch.coefficients(key, &numbers, setting.intake())?;
        // SAFETY: `rows.check` checked the arrays, and `rows` keeps them alive during the call. The
        // caller guarantees that no other thread resizes or writes them meanwhile.
        let (tensor, read) = unsafe {
            let narrow = Narrow {
                step: call.step,
                bases: bases.unwrap_or(std::ptr::null_mut()),
                low_of: (!storage.is_whole()).then_some(PARAMETER),
            };
            if let Some((indices, memory)) = rows {
                Options::check_lazy(call.rule, begins_above_zero, false)?;
                let given = (memory, pointers[GRADIENT]);
                let gradient = RowGradient::of_some(indices, given, kind, &mut sums);
                let tensor = gradient.tensor(None, (*pointers, *strides), states, narrow);
                (tensor, gradient.read(kind))
            } else {
                let tensor = if arrays.is_narrow() {
                    Tensor::narrow(shape, *pointers, *strides, states, order, narrow)
                } else {
                    Tensor::new(shape, *pointers, *strides, states, order)
                };
                let gradient = (pointers[GRADIENT], strides[GRADIENT]);
                (tensor, norm::Input::new(shape, gradient.0, gradient.1, kind))
            }
        };
        batch.push(row, (tensor, *kept), update, setting.reads().then_some(read));
    }

    setting.threads = useful_threads(batch.elements(), setting.threads);
    let work = || -> Result<_, Error> {
        let done = batch.read(&numbers, &setting, None)?;
        if done.refused.is_empty() {
            batch.measure(&numbers, &setting, None)?;
            batch.update(&setting)?;
            batch.note_histories();
        }
        Ok(done.refused)
    };
    let refused = py.detach(|| fork::whole(work))?;
    if refused.is_empty() || call.policy == Policy::Skip {
        return Ok(refused.is_empty());
    }
    let named = |(row, count)| (rows.describe(row, GRADIENT), count);
    let counts = refused.into_iter().map(named).collect();
    Err(Refusal::NonFinite { counts, step: call.step })
}

/// Leaves of a tree that are not `None`.
fn leaves<'py>(tree: &Bound<'py, PyAny>) -> Outcome<Leaves<'py>> {
    let mut leaves = flatten(tree)?;
    leaves.retain(|(_, leaf)| !leaf.is_none());
    Ok(leaves)
}

/// The arrays of a tree, checked for writing.
fn written_leaves<'a, 'py>(leaves: &'a Leaves<'py>, what: &str) -> Outcome<Vec<Occupant<'a, 'py>>> {
    let in_files = first_file_overlap(leaves.iter().map(|(_, object)| (object, true)))?;
    let mut found = Vec::with_capacity(leaves.len());
    for (name, object) in leaves {
        let (array, storage) = written(object, || format!("{what} {}", Quoted(name)))?;
        found.push(Occupant { array, storage, written: true });
    }
    match first_overlap(&found).or(in_files) {
        None => Ok(found),
        Some((earlier, later)) => Err(Refusal::Overlap {
            written: format!("{what} {}", Quoted(&leaves[earlier].0)),
            other: format!("{what} {}", Quoted(&leaves[later].0)),
            advice: "pass each array once",
        }),
    }
}

/// ``p - rate·p`` for all arrays of a tree, in place; see `thalweg.functional`.
#[pyfunction]
pub fn decay(params: &Bound<'_, PyAny>, rate: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = params.py();
    let _presence = Presence::begin(py);
    let rate = real("rate", rate)?;
    let leaves = leaves(params)?;
    let found = written_leaves(&leaves, "parameter")?;
    // The rate must fit float32 only if a parameter is float32.
    let single = found.iter().any(|occupant| occupant.storage.element() == Kind::F32);
    let single = Numbers::from(Decay { rate: if single { rate } else { 0.0 } });
    let single = single.at_step(Kind::F32, 1, 1.0).map_err(Refusal::from)?;
    let double = Numbers::from(Decay { rate }).at_step(Kind::F64, 1, 1.0).map_err(Refusal::from)?;
    let updates = [single, double];
    let mut zeros = [0.0_f64];
    let zero = Pointer::of(zeros.as_mut_ptr());
    let mut tasks = Vec::with_capacity(found.len());
    for Occupant { array, storage, .. } in &found {
        let memory = Memory::of(array);
        let mut pointers = [Pointer { address: memory.address, storage: *storage }; ARRAYS];
        pointers[GRADIENT] = zero;
        let none = vec![0; memory.shape.len()];
        let mut strides = [memory.strides; ARRAYS];
        strides[GRADIENT] = &none;
        // SAFETY: `written_leaves` checked the arrays, and `leaves` keeps them alive. The caller
        // guarantees that no other thread resizes or writes them meanwhile. The gradient has
        // strides of 0: every index is the one element of `zeros`.
        let tensor = unsafe { Tensor::new(memory.shape, pointers, strides, 0, Order::Memory) };
        tasks.push(Task { tensor, update: usize::from(storage.element() == Kind::F64) });
    }
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, num_threads().0);
    let work = || Plan::default().run(&mut tasks, &updates, Level::current(), threads);
    Ok(py.detach(|| fork::whole(work)).map_err(Refusal::from)?)
}

/// Euclidean norm over all arrays of a tree; see `thalweg.functional`.
#[pyfunction]
pub fn global_norm(grads: &Bound<'_, PyAny>) -> PyResult<f64> {
    let _presence = Presence::begin(grads.py());
    Ok(norm_of(grads.py(), leaves(grads)?)?.of_scaled(1.0))
}

/// Scales gradients in place to a norm of at most `max_norm`; returns the norm before. See
/// `thalweg.functional`.
#[pyfunction]
pub fn clip_by_global_norm(grads: &Bound<'_, PyAny>, max_norm: &Bound<'_, PyAny>) -> PyResult<f64> {
    let py = grads.py();
    let _presence = Presence::begin(py);
    let max_norm = limit("max_norm", max_norm)?;
    let leaves = leaves(grads)?;
    let found = written_leaves(&leaves, "gradient")?;
    let norm = norm_of(py, leaves.clone())?;
    let clip = norm.clip(max_norm, 1.0);
    if norm.is_finite() && clip != 1.0 {
        let multiply = py.import("numpy")?.getattr("multiply")?;
        in_default_mode(|| {
            found.iter().try_for_each(|Occupant { array, .. }| -> PyResult<()> {
                let array = plain(array)?;
                let factor = array.dtype().typeobj().call1((clip,))?;
                multiply.call1((&array, factor, &array)).map(drop)
            })
        })?;
    }
    Ok(norm.of_scaled(1.0))
}

fn norm_of(py: Python<'_>, mut leaves: Leaves<'_>) -> Outcome<Norm> {
    leaves.sort_by(|one, other| one.0.cmp(&other.0));
    let what = |name: &str| format!("gradient {}", Quoted(name));
    // All conversions come first: they may run Python code, which could resize an array that is
    // already bound.
    for (name, object) in &mut leaves {
        if let Some(array) = as_array(object, || what(name))? {
            *object = array;
        }
    }
    let mut reads = Vec::with_capacity(leaves.len());
    for (name, object) in &leaves {
        let (array, storage) = gradient_of(object, || what(name), false)?;
        let memory = Memory::of(array);
        let pointer = Pointer { address: memory.address, storage };
        // SAFETY: `leaves` keeps the array alive. The caller guarantees that no other thread
        // resizes or writes it meanwhile.
        reads.push(unsafe {
            norm::Input::new(memory.shape, pointer, memory.strides, storage.element())
        });
    }
    let elements = reads.iter().map(norm::Input::len).sum();
    let threads = useful_threads(elements, num_threads().0);
    Ok(py.detach(|| norm::global_norm(&reads, Level::current(), threads)))
}
