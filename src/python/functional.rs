//! Updates for tools that keep their own state: arrays in, the same arrays updated.

#![allow(unsafe_code)] // binds checked arrays by address

use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::array::arguments::{Arrays, Rows};
use crate::array::checks::{gradient_of, plain, written};
use crate::array::foreign::as_array;
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::overlap::{first_file_overlap, first_overlap};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::model::options::Policy;
use crate::model::tree::{Leaves, flatten};
use crate::values::hyper::{flag, number_of_threads, real, representation, text, whole};
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, Pointer, STATE};
use thalweg::error::{Error, Number, Quoted};
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::element::Kind;
use thalweg::number::float_mode::in_default_mode;
use thalweg::read::norm::{self, Norm, ReadPass};
use thalweg::rule::{Adam, Decay, Hyperparameter, Rule, Sgd, Swap};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;

/// What an update is, apart from its arrays.
struct Call {
    rule: Rule,
    step: u64,
    scale: f64,
    policy: Policy,
    threads: usize,
}

/// Checks everything, then updates; false if the gradients made it skip.
///
/// Arguments come as parameter, gradient, state.
fn apply(
    py: Python<'_>,
    arguments: &[(&'static str, &Bound<'_, PyAny>)],
    call: &Call,
) -> Outcome<bool> {
    let rows = Rows::new(arguments)?;
    let tensors = rows.check()?;
    let states = arguments.len() - STATE;
    let update = |kind| call.rule.at_step(kind, call.step, call.scale);
    let updates = [update(Kind::F32), update(Kind::F64)];
    let position = |kind| usize::from(kind == Kind::F64);
    if tensors.is_empty() {
        updates[position(Kind::F64)].as_ref().map_err(Error::clone)?;
    }
    let mut tasks = Vec::with_capacity(tensors.len());
    let mut reads = Vec::with_capacity(tensors.len());
    for Arrays { kind, shape, pointers, strides } in &tensors {
        // Which type is refused depends on the parameters that are there.
        updates[position(*kind)].as_ref().map_err(Error::clone)?;
        // SAFETY: checked above; the arguments are alive during the call. That nobody resizes or
        // writes them from another thread meanwhile is the caller's duty.
        unsafe {
            let tensor = Tensor::new(shape, *pointers, *strides, states, Order::Memory);
            tasks.push(Task { tensor, update: position(*kind) });
            reads.push(norm::Leaf::new(shape, pointers[GRADIENT], strides[GRADIENT], *kind));
        }
    }
    // A refused type is used by no task, so its place may hold anything.
    let placeholder = Rule::from(Swap).at_step(Kind::F32, 1, 1.0)?;
    let updates = updates.map(|update| update.unwrap_or(placeholder));

    let level = Level::current();
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, call.threads);
    let policy = call.policy;
    let work = || {
        if policy != Policy::Ignore {
            let mut pass = ReadPass::default();
            pass.read(&reads, level, threads);
            let refused = pass.refused(&reads, |i| &updates[tasks[i].update]);
            if !refused.is_empty() {
                return Ok(refused);
            }
        }
        Plan::default().run(&mut tasks, &updates, level, threads).map(|()| Vec::new())
    };
    let refused = py.detach(|| fork::whole(work))?;
    if refused.is_empty() {
        return Ok(true);
    }
    if policy == Policy::Skip {
        return Ok(false);
    }
    let named = |(row, count)| (rows.describe(row, GRADIENT), count);
    let counts = refused.into_iter().map(named).collect();
    Err(Refusal::NonFinite { counts, step: call.step })
}

fn call(
    rule: Rule,
    step: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    nonfinite: &Bound<'_, PyAny>,
    threads: Option<&Bound<'_, PyAny>>,
) -> Outcome<Call> {
    let step = whole(step, "step", 1)?;
    let scale = Hyperparameter::Scale.check(real("scale", scale)?, Kind::F64)?;
    let policy = Policy::named(&text("nonfinite", nonfinite)?)?;
    let threads = match threads {
        None => num_threads().0,
        Some(given) => number_of_threads(given, "threads")?,
    };
    Ok(Call { rule, step, scale, policy, threads })
}

/// One Adam or AdamW update; see `thalweg.functional`.
#[pyfunction]
#[pyo3(signature = (p, g, exp_avg, exp_avg_sq, step, *, lr, betas, eps, l2, weight_decay,
    independent, max_exp_avg_sq, maximize, scale, nonfinite, threads))]
#[allow(clippy::too_many_arguments)] // the arguments of `thalweg.functional.adamw`, one to one
pub fn apply_adam(
    py: Python<'_>,
    p: &Bound<'_, PyAny>,
    g: &Bound<'_, PyAny>,
    exp_avg: &Bound<'_, PyAny>,
    exp_avg_sq: &Bound<'_, PyAny>,
    step: &Bound<'_, PyAny>,
    lr: &Bound<'_, PyAny>,
    betas: &Bound<'_, PyAny>,
    eps: &Bound<'_, PyAny>,
    l2: &Bound<'_, PyAny>,
    weight_decay: &Bound<'_, PyAny>,
    independent: &Bound<'_, PyAny>,
    max_exp_avg_sq: Option<&Bound<'_, PyAny>>,
    maximize: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    nonfinite: &Bound<'_, PyAny>,
    threads: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let _presence = Presence::begin(py);
    let given = betas;
    let betas: Vec<Bound<'_, PyAny>> = match given.try_iter() {
        Ok(betas) => betas.collect::<PyResult<_>>()?,
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Vec::new(),
        Err(error) => return Err(error),
    };
    let [beta1, beta2] = &betas[..] else {
        let got = representation(given)?;
        let wanted = Refusal::Kind { what: "betas".to_owned(), kind: "two numbers", got };
        return Err(wanted.into());
    };
    let adam = Adam {
        lr: real("lr", lr)?,
        beta1: real("betas[0]", beta1)?,
        beta2: real("betas[1]", beta2)?,
        eps: real("eps", eps)?,
        l2: real("l2", l2)?,
        weight_decay: real("weight_decay", weight_decay)?,
        independent: flag("independent", independent)?,
        maximize: flag("maximize", maximize)?,
    };
    let call = call(adam.into(), step, scale, nonfinite, threads)?;
    let mut arguments = vec![("p", p), ("g", g), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)];
    arguments.extend(max_exp_avg_sq.map(|array| ("max_exp_avg_sq", array)));
    Ok(apply(py, &arguments, &call)?)
}

/// One SGD or SGDW update; see `thalweg.functional`.
#[pyfunction]
#[pyo3(signature = (p, g, momentum_buffer, step, *, lr, momentum, dampening, nesterov, l2,
    weight_decay, independent, maximize, scale, nonfinite, threads))]
#[allow(clippy::too_many_arguments)] // the arguments of `thalweg.functional.sgdw`, one to one
pub fn apply_sgd(
    py: Python<'_>,
    p: &Bound<'_, PyAny>,
    g: &Bound<'_, PyAny>,
    momentum_buffer: Option<&Bound<'_, PyAny>>,
    step: &Bound<'_, PyAny>,
    lr: &Bound<'_, PyAny>,
    momentum: &Bound<'_, PyAny>,
    dampening: &Bound<'_, PyAny>,
    nesterov: &Bound<'_, PyAny>,
    l2: &Bound<'_, PyAny>,
    weight_decay: &Bound<'_, PyAny>,
    independent: &Bound<'_, PyAny>,
    maximize: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    nonfinite: &Bound<'_, PyAny>,
    threads: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let _presence = Presence::begin(py);
    let sgd = Sgd {
        lr: real("lr", lr)?,
        momentum: real("momentum", momentum)?,
        dampening: real("dampening", dampening)?,
        nesterov: flag("nesterov", nesterov)?,
        l2: real("l2", l2)?,
        weight_decay: real("weight_decay", weight_decay)?,
        independent: flag("independent", independent)?,
        maximize: flag("maximize", maximize)?,
    };
    let call = call(sgd.into(), step, scale, nonfinite, threads)?;
    if momentum_buffer.is_none() && sgd.momentum != 0.0 {
        let message = "momentum above 0 needs a momentum_buffer (np.zeros_like(p))".to_owned();
        return Err(Refusal::Value(message).into());
    }
    let mut arguments = vec![("p", p), ("g", g)];
    arguments.extend(momentum_buffer.map(|array| ("momentum_buffer", array)));
    Ok(apply(py, &arguments, &call)?)
}

/// Leaves of a tree that are not `None`.
fn leaves<'py>(tree: &Bound<'py, PyAny>) -> Outcome<Leaves<'py>> {
    let mut leaves = flatten(tree)?;
    leaves.retain(|(_, leaf)| !leaf.is_none());
    Ok(leaves)
}

/// Arrays of a tree that are to be written, checked.
fn written_leaves<'a, 'py>(leaves: &'a Leaves<'py>, what: &str) -> Outcome<Vec<Occupant<'a, 'py>>> {
    let in_files = first_file_overlap(leaves.iter().map(|(_, object)| (object, true)))?;
    let mut found = Vec::with_capacity(leaves.len());
    for (name, object) in leaves {
        let (array, kind) = written(object, || format!("{what} {}", Quoted(name)))?;
        found.push(Occupant { array, kind, written: true });
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
    // A type that no parameter has need not be able to hold the rate.
    let single = found.iter().any(|occupant| occupant.kind == Kind::F32);
    let single = Rule::from(Decay { rate: if single { rate } else { 0.0 } });
    let single = single.at_step(Kind::F32, 1, 1.0).map_err(Refusal::from)?;
    let double = Rule::from(Decay { rate }).at_step(Kind::F64, 1, 1.0).map_err(Refusal::from)?;
    let updates = [single, double];
    let mut zeros = [0.0_f64];
    let zero = Pointer { address: zeros.as_mut_ptr().cast(), kind: Kind::F64 };
    let mut tasks = Vec::with_capacity(found.len());
    for Occupant { array, kind, .. } in &found {
        let memory = Memory::of(array);
        let mut pointers = [Pointer { address: memory.address, kind: *kind }; ARRAYS];
        pointers[GRADIENT] = zero;
        let none = vec![0; memory.shape.len()];
        let mut strides = [memory.strides; ARRAYS];
        strides[GRADIENT] = &none;
        // SAFETY: as in `apply`; the gradient is one zero under all indices.
        let tensor = unsafe { Tensor::new(memory.shape, pointers, strides, 0, Order::Memory) };
        tasks.push(Task { tensor, update: usize::from(*kind == Kind::F64) });
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

/// Scales gradients in place to a norm; returns the norm before; see `thalweg.functional`.
#[pyfunction]
pub fn clip_by_global_norm(grads: &Bound<'_, PyAny>, max_norm: &Bound<'_, PyAny>) -> PyResult<f64> {
    let py = grads.py();
    let _presence = Presence::begin(py);
    let max_norm = checked_max_norm(real("max_norm", max_norm)?)?;
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

/// `max_norm`, which is above 0 and may be infinite.
pub fn checked_max_norm(max_norm: f64) -> Outcome<f64> {
    if max_norm > 0.0 {
        return Ok(max_norm);
    }
    let got = Number(max_norm);
    Err(Refusal::Value(format!("max_norm must be greater than 0, got {got}")))
}

fn norm_of(py: Python<'_>, mut leaves: Leaves<'_>) -> Outcome<Norm> {
    leaves.sort_by(|one, other| one.0.cmp(&other.0));
    let what = |name: &str| format!("gradient {}", Quoted(name));
    // All of them first: it may run Python code, which could resize an array that was looked at.
    for (name, object) in &mut leaves {
        if let Some(array) = as_array(object, || what(name))? {
            *object = array;
        }
    }
    let mut reads = Vec::with_capacity(leaves.len());
    for (name, object) in &leaves {
        let (array, kind) = gradient_of(object, || what(name))?;
        let memory = Memory::of(array);
        let pointer = Pointer { address: memory.address, kind };
        // SAFETY: `leaves` keeps the array alive. That nobody resizes or writes it from another
        // thread meanwhile is the caller's duty.
        reads.push(unsafe { norm::Leaf::new(memory.shape, pointer, memory.strides, kind) });
    }
    let elements = reads.iter().map(norm::Leaf::len).sum();
    let threads = useful_threads(elements, num_threads().0);
    Ok(py.detach(|| norm::global_norm(&reads, Level::current(), threads)))
}
