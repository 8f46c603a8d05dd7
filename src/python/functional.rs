//! Updates for tools that keep their own state: arrays in, the same arrays updated.

#![allow(unsafe_code)] // binds checked arrays by address

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::arrays::{Extents, Memory, gradient_of, scalar_as_array, share_memory, written};
use super::errors::{Outcome, Refusal};
use super::hyper::{Numbers, real, whole};
use super::model::Policy;
use super::tree::{Leaves, flatten};
use crate::dispatch::Level;
use crate::element::Kind;
use crate::error::Error;
use crate::gather::Pointer;
use crate::norm::{self, ReadPass};
use crate::plan::{Plan, Task, Update, useful_threads};
use crate::pool::num_threads;
use crate::rule::{Adam, Coefficients, Decay, Hyperparameter, MAX_STATE, Sgd};
use crate::tensor::{ARRAYS, GRADIENT, PARAMETER, STATE, Tensor};

/// An argument: one array, or a sequence of them.
fn arrays<'py>(argument: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = argument.cast::<PyList>() {
        return Some(list.iter().collect());
    }
    argument.cast::<PyTuple>().ok().map(|tuple| tuple.iter().collect())
}

/// Arguments that belong together: `rows[i]` are the arrays of tensor `i`, by argument.
struct Rows<'py> {
    names: Vec<&'static str>,
    sequence: bool,
    rows: Vec<Vec<Bound<'py, PyAny>>>,
}

impl<'py> Rows<'py> {
    fn new(arguments: &[(&'static str, &Bound<'py, PyAny>)]) -> Outcome<Self> {
        let names: Vec<&'static str> = arguments.iter().map(|(name, _)| *name).collect();
        let columns: Vec<Option<Vec<_>>> =
            arguments.iter().map(|(_, argument)| arrays(argument)).collect();
        let sequence = columns[0].is_some();
        let len = columns[0].as_ref().map_or(1, Vec::len);
        let mut rows: Vec<Vec<Bound<'py, PyAny>>> = vec![Vec::new(); len];
        for (column, (name, argument)) in columns.into_iter().zip(arguments) {
            match column {
                None if !sequence => rows[0].push((*argument).clone()),
                Some(column) if sequence && column.len() == len => {
                    rows.iter_mut().zip(column).for_each(|(row, array)| row.push(array));
                }
                other => {
                    let count = |n: Option<usize>| {
                        n.map_or("one array".to_owned(), |n| format!("a sequence of {n}"))
                    };
                    return Err(Refusal::Value(format!(
                        "{name} is {}, {} is {}",
                        count(other.map(|column| column.len())),
                        names[0],
                        count(sequence.then_some(len)),
                    )));
                }
            }
        }
        Ok(Rows { names, sequence, rows })
    }

    /// "exp_avg", or "exp_avg[2]".
    fn describe(&self, row: usize, column: usize) -> String {
        let name = self.names[column];
        if self.sequence { format!("{name}[{row}]") } else { name.to_owned() }
    }
}

/// What an update is, apart from its arrays.
struct Call {
    numbers: Numbers,
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
    let mut rows = Rows::new(arguments)?;
    for row in &mut rows.rows {
        if let Some(array) = scalar_as_array(&row[GRADIENT])? {
            row[GRADIENT] = array;
        }
    }
    let mut tensors = Vec::with_capacity(rows.rows.len());
    for (i, row) in rows.rows.iter().enumerate() {
        tensors.push(check(row, |column| rows.describe(i, column))?);
    }
    check_overlap(&rows, &tensors)?;

    let states = arguments.len() - STATE;
    let update = |kind| call.numbers.update(kind, states, call.step, call.scale);
    let updates = [update(Kind::F32), update(Kind::F64)];
    let position = |kind| usize::from(kind == Kind::F64);
    let mut tasks = Vec::with_capacity(tensors.len());
    let mut reads = Vec::with_capacity(tensors.len());
    for Arrays { kind, memory, pointers } in &tensors {
        // Which type is refused depends on the parameters that are there.
        updates[position(*kind)].as_ref().map_err(Error::clone)?;
        let mut strides = [memory[PARAMETER].strides; ARRAYS];
        memory.iter().zip(&mut strides).for_each(|(memory, strides)| *strides = memory.strides);
        let shape = memory[PARAMETER].shape;
        // SAFETY: checked above; the arguments are alive during the call. That nobody resizes or
        // writes them from another thread meanwhile is the caller's duty.
        unsafe {
            let tensor = Tensor::new(shape, *pointers, strides, states);
            tasks.push(Task { tensor, update: position(*kind) });
            reads.push(norm::Leaf::new(shape, pointers[GRADIENT], strides[GRADIENT], *kind));
        }
    }
    // A refused type is used by no task, so its place may hold anything.
    let placeholder = Update::F32(Coefficients::Decay(Decay::new(0.0)?));
    let updates = updates.map(|update| update.unwrap_or(placeholder));

    let level = Level::current();
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, call.threads);
    let policy = call.policy;
    let refused = py.detach(|| {
        if policy != Policy::Ignore {
            let refused = refused(&tasks, &reads, &updates, level, threads);
            if !refused.is_empty() {
                return Ok(refused);
            }
        }
        Plan::default().run(&mut tasks, &updates, level, threads).map(|()| Vec::new())
    })?;
    if refused.is_empty() {
        return Ok(true);
    }
    if policy == Policy::Skip {
        return Ok(false);
    }
    let named = |(row, count)| (rows.describe(row, GRADIENT), count);
    Err(Refusal::NonFinite { counts: refused.into_iter().map(named).collect() })
}

/// Tensors whose gradients cannot be taken, and how many elements of each.
fn refused(
    tasks: &[Task<'_>],
    reads: &[norm::Leaf<'_>],
    updates: &[Update],
    level: Level,
    threads: usize,
) -> Vec<(usize, u64)> {
    let mut pass = ReadPass::default();
    pass.read(reads, level, threads);
    let readings = pass.readings().iter().zip(tasks).enumerate();
    readings
        .filter(|(_, (reading, task))| {
            reading.sum.is_nan() || !updates[task.update].admits(reading.largest)
        })
        .map(|(i, (_, task))| (i, reads[i].count_refused(&updates[task.update])))
        .collect()
}

/// The arrays of one tensor, checked.
struct Arrays<'a> {
    kind: Kind,
    memory: Vec<Memory<'a>>,
    pointers: [Pointer; ARRAYS],
}

fn check<'a>(
    row: &'a [Bound<'_, PyAny>],
    describe: impl Fn(usize) -> String,
) -> Outcome<Arrays<'a>> {
    let (p, kind) = written(&row[PARAMETER], || describe(PARAMETER))?;
    let own = Memory::of(p);
    let pointer = |memory: &Memory<'_>, kind| Pointer { address: memory.address, kind };
    let mut arrays = Arrays { kind, memory: vec![own], pointers: [pointer(&own, kind); ARRAYS] };
    for (column, object) in row.iter().enumerate().skip(1) {
        let what = || describe(column);
        let (array, found) = match column {
            GRADIENT => gradient_of(object, what)?,
            _ => written(object, what)?,
        };
        if column != GRADIENT && found != kind {
            return Err(Refusal::Dtype {
                what: what(),
                got: format!("of dtype {}", found.name()),
                advice: "state has the type of its parameter",
            });
        }
        let memory = Memory::of(array);
        if memory.shape != own.shape {
            let (got, expected) = (memory.shape.to_vec(), own.shape.to_vec());
            return Err(Refusal::Shape { what: what(), got, expected });
        }
        arrays.pointers[column] = pointer(&memory, found);
        arrays.memory.push(memory);
    }
    Ok(arrays)
}

/// Refuses written arrays that overlap each other or a gradient.
fn check_overlap(rows: &Rows<'_>, tensors: &[Arrays<'_>]) -> Outcome<()> {
    let columns = rows.names.len();
    let mut spans = Vec::new();
    for (i, tensor) in tensors.iter().enumerate() {
        for (column, memory) in tensor.memory.iter().enumerate() {
            let (start, end) = memory.extent(tensor.pointers[column].kind);
            spans.push((start, end, i * columns + column));
        }
    }
    let extents = Extents::new(spans.clone());
    let read = |owner: usize| owner % columns == GRADIENT;
    for (start, end, owner) in spans {
        for other in extents.meeting(start, end).filter(|other| *other < owner) {
            let (one, two) = (
                &rows.rows[other / columns][other % columns],
                &rows.rows[owner / columns][owner % columns],
            );
            if !(read(owner) && read(other)) && share_memory(one, two)? {
                return Err(Refusal::Overlap {
                    written: rows.describe(other / columns, other % columns),
                    other: rows.describe(owner / columns, owner % columns),
                    advice: "pass arrays with memory of their own (array.copy())",
                });
            }
        }
    }
    Ok(())
}

fn call(
    numbers: Numbers,
    step: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    nonfinite: &str,
    threads: Option<&Bound<'_, PyAny>>,
) -> Outcome<Call> {
    let step = whole(step, "step", 1)?;
    let scale = Hyperparameter::Scale.check(real("scale", scale)?, Kind::F64)?;
    let policy = Policy::named(nonfinite)?;
    let threads = match threads {
        None => num_threads().0,
        Some(given) => usize::try_from(whole(given, "threads", 1)?).unwrap_or(usize::MAX),
    };
    Ok(Call { numbers, step, scale, policy, threads })
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
    betas: (Bound<'_, PyAny>, Bound<'_, PyAny>),
    eps: &Bound<'_, PyAny>,
    l2: &Bound<'_, PyAny>,
    weight_decay: &Bound<'_, PyAny>,
    independent: bool,
    max_exp_avg_sq: Option<&Bound<'_, PyAny>>,
    maximize: bool,
    scale: &Bound<'_, PyAny>,
    nonfinite: &str,
    threads: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let adam = Adam {
        lr: real("lr", lr)?,
        beta1: real("betas[0]", &betas.0)?,
        beta2: real("betas[1]", &betas.1)?,
        eps: real("eps", eps)?,
        l2: real("l2", l2)?,
        weight_decay: real("weight_decay", weight_decay)?,
        independent,
        maximize,
    };
    let numbers = Numbers::Adam { adam, amsgrad: max_exp_avg_sq.is_some() };
    let call = call(numbers, step, scale, nonfinite, threads)?;
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
    nesterov: bool,
    l2: &Bound<'_, PyAny>,
    weight_decay: &Bound<'_, PyAny>,
    independent: bool,
    maximize: bool,
    scale: &Bound<'_, PyAny>,
    nonfinite: &str,
    threads: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let sgd = Sgd {
        lr: real("lr", lr)?,
        momentum: real("momentum", momentum)?,
        dampening: real("dampening", dampening)?,
        nesterov,
        l2: real("l2", l2)?,
        weight_decay: real("weight_decay", weight_decay)?,
        independent,
        maximize,
    };
    let call = call(Numbers::Sgd(sgd), step, scale, nonfinite, threads)?;
    if momentum_buffer.is_none() && sgd.momentum != 0.0 {
        let message = "momentum above 0 needs a momentum_buffer".to_owned();
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

/// ``p - rate·p`` for all arrays of a tree, in place; see `thalweg.functional`.
#[pyfunction]
pub fn decay(params: &Bound<'_, PyAny>, rate: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = params.py();
    let rate = real("rate", rate)?;
    let updates = [
        Update::F32(Coefficients::Decay(Decay::new(rate).map_err(Refusal::from)?)),
        Update::F64(Coefficients::Decay(Decay::new(rate).map_err(Refusal::from)?)),
    ];
    let leaves = leaves(params)?;
    let mut found: Vec<(&Bound<'_, PyUntypedArray>, Kind)> = Vec::new();
    for (name, object) in &leaves {
        found.push(written(object, || format!("parameter {name:?}"))?);
    }
    let span = |(i, (array, kind)): (usize, &(&Bound<'_, PyUntypedArray>, Kind))| {
        let (start, end) = Memory::of(array).extent(*kind);
        (start, end, i)
    };
    let spans: Vec<_> = found.iter().enumerate().map(span).collect();
    let extents = Extents::new(spans.clone());
    for (start, end, owner) in spans {
        for other in extents.meeting(start, end).filter(|other| *other < owner) {
            if share_memory(found[owner].0, found[other].0)? {
                return Err(Refusal::Overlap {
                    written: format!("parameter {:?}", leaves[other].0),
                    other: format!("parameter {:?}", leaves[owner].0),
                    advice: "pass tied weights once",
                }
                .into());
            }
        }
    }
    let mut zeros = [0.0_f64];
    let zero = Pointer { address: zeros.as_mut_ptr().cast(), kind: Kind::F64 };
    let mut tasks = Vec::with_capacity(found.len());
    for (array, kind) in &found {
        let memory = Memory::of(array);
        let mut pointers = [Pointer { address: memory.address, kind: *kind }; ARRAYS];
        pointers[GRADIENT] = zero;
        let none = vec![0; memory.shape.len()];
        let mut strides = [memory.strides; ARRAYS];
        strides[GRADIENT] = &none;
        // SAFETY: as in `apply`; the gradient is one zero under all indices.
        let tensor = unsafe { Tensor::new(memory.shape, pointers, strides, 0) };
        tasks.push(Task { tensor, update: usize::from(*kind == Kind::F64) });
    }
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, num_threads().0);
    py.detach(|| Plan::default().run(&mut tasks, &updates, Level::current(), threads))
        .map_err(Refusal::from)?;
    Ok(())
}

/// Euclidean norm over all arrays of a tree; see `thalweg.functional`.
#[pyfunction]
pub fn global_norm(grads: &Bound<'_, PyAny>) -> PyResult<f64> {
    let mut leaves = leaves(grads)?;
    leaves.sort_by(|one, other| one.0.cmp(&other.0));
    for (_, object) in &mut leaves {
        if let Some(array) = scalar_as_array(object)? {
            *object = array;
        }
    }
    let mut reads = Vec::with_capacity(leaves.len());
    for (name, object) in &leaves {
        let (array, kind) = gradient_of(object, || format!("gradient {name:?}"))?;
        let memory = Memory::of(array);
        let pointer = Pointer { address: memory.address, kind };
        // SAFETY: `leaves` keeps the array alive. That nobody resizes or writes it from another
        // thread meanwhile is the caller's duty.
        reads.push(unsafe { norm::Leaf::new(array.shape(), pointer, array.strides(), kind) });
    }
    let elements = reads.iter().map(norm::Leaf::len).sum();
    let threads = useful_threads(elements, num_threads().0);
    Ok(grads.py().detach(|| norm::global_norm(&reads, Level::current(), threads).of_scaled(1.0)))
}

const _: () = assert!(STATE + MAX_STATE == ARRAYS);
