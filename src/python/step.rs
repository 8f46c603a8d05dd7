//! One step: schedules, then every check, then the read pass, then the update, then the counters.
//!
//! No Python code runs between the checks of arrays and the last write, and nothing is written
//! before the last check, so a step that raises has changed nothing.

#![allow(unsafe_code)] // binds checked arrays by address

use std::sync::atomic::{AtomicU64, Ordering};

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::{GRADIENTS_ARE, gradient_of, kind_of, same, scalar_as_array};
use super::batch::{Batch, Setting, UpdateKey};
use super::errors::{Outcome, Refusal};
use super::functional::checked_max_norm;
use super::hyper::{Numbers, Schedules};
use super::leaf::Active;
use super::maps::{Maps, Place};
use super::memory::Memory;
use super::model::{Model, Policy};
use super::overlap::{Occupant, share_memory};
use super::report::StepReport;
use super::tree::{Given, collect_by_name, collect_flat};
use crate::dispatch::Level;
use crate::element::Kind;
use crate::error::Quoted;
use crate::fork;
use crate::gather::Pointer;
use crate::layout::Order;
use crate::norm;
use crate::plan::useful_threads;
use crate::rule::Hyperparameter;
use crate::tensor::{ARRAYS, GRADIENT, STATE, Tensor};
use crate::threads::num_threads;

/// From this many elements on, other Python threads may run during the work; below, letting them
/// costs more than it gives.
const DETACH_MIN: usize = 16_384;

/// The arguments of a step.
pub struct Request<'a, 'py> {
    pub grads: &'a Bound<'py, PyAny>,
    pub max_norm: Option<f64>,
    pub scale: f64,
    pub partial: bool,
    /// Number of steps taken; this one is counted where it is taken.
    pub step_count: &'a AtomicU64,
}

/// Room that a step needs, kept between steps.
#[derive(Debug, Default)]
pub struct Workspace {
    given: Vec<Given>,
    batch: Batch,
}

impl Workspace {
    /// Lets go of all arrays.
    pub fn clear(&mut self) {
        self.given.fill_with(Given::default);
        self.batch.clear();
    }
}

/// Takes one step.
pub fn step(py: Python<'_>, model: &mut Model, request: &Request<'_, '_>) -> Outcome<StepReport> {
    Hyperparameter::Scale.check(request.scale, Kind::F64)?;
    request.max_norm.map(checked_max_norm).transpose()?;
    // A forked child may have inherited the work of a step that another thread was in.
    model.work.clear();
    let number = request.step_count.load(Ordering::Relaxed) + 1;
    let mut schedules = Schedules::new(py, number);
    let lr = model.classes.first().map_or(Ok(0.0), |class| class.lr(&mut schedules))?;
    let numbers = numbers(model, &mut schedules)?;

    if let Some(name) = model.first_rebound(py)? {
        return Err(Refusal::Rebound { name: name.to_owned() });
    }
    collect(model, request)?;
    compare_files(py, model)?;
    let policy = model.options.policy;
    let mut setting = Setting {
        level: Level::current(),
        threads: num_threads().0,
        policy,
        max_norm: request.max_norm,
        scale: request.scale,
    };
    bind(py, model, &numbers, number, &setting)?;

    let Model { leaves, work, .. } = model;
    let batch = &mut work.batch;
    let elements = batch.elements();
    setting.threads = useful_threads(elements, setting.threads);
    // Counters change together with what they count, so that no fork and no interrupt falls between.
    let mut take = || {
        fork::whole(|| {
            let done = batch.run(&numbers, &setting)?;
            if done.refused.is_empty() {
                batch.leaves().iter().for_each(|leaf| leaves[*leaf].step += 1);
                request.step_count.store(number, Ordering::Relaxed);
            }
            Ok(done)
        })
    };
    let outcome = if elements < DETACH_MIN { take() } else { py.detach(take) };
    let done = outcome.map_err(|error| Refusal::Core { error, step: Some(number) })?;

    let nonfinite = PyDict::new(py);
    let skipped = !done.refused.is_empty();
    if skipped {
        let named = |(leaf, count): &(usize, u64)| (leaves[*leaf].name.clone(), *count);
        let counts: Vec<(String, u64)> = done.refused.iter().map(named).collect();
        if policy == Policy::Raise {
            return Err(Refusal::NonFinite { counts, step: number });
        }
        for (name, count) in counts {
            nonfinite.set_item(name, count)?;
        }
    }
    Ok(StepReport {
        step: number - u64::from(skipped),
        lr,
        grad_norm: done.grad_norm,
        clip: done.clip,
        skipped,
        nonfinite: nonfinite.unbind(),
    })
}

/// The numbers of each class at this step; those of frozen classes are not asked for.
fn numbers(model: &Model, schedules: &mut Schedules<'_>) -> Outcome<Vec<Numbers>> {
    let options = &model.options;
    let mut used = vec![false; model.classes.len()];
    model.leaves.iter().for_each(|leaf| used[leaf.class] = true);
    (model.classes.iter().zip(used))
        .map(|(class, used)| {
            let mut numbers = Numbers::new(
                options.family,
                options.nesterov,
                options.independent,
                options.maximize,
            );
            if used && !class.frozen {
                class.fill(&mut numbers, schedules)?;
            }
            Ok(numbers)
        })
        .collect()
}

/// Finds each leaf's gradient, and refuses names that do not fit.
fn collect(model: &mut Model, request: &Request<'_, '_>) -> Outcome<()> {
    let Model { tree, leaves, index, classes, work, .. } = model;
    let trains = |leaf: usize| !classes[leaves[leaf].class].frozen;
    let given = &mut work.given;
    given.resize_with(leaves.len(), Given::default);
    let mut extra = Vec::new();
    if !tree.collect(request.grads, given, &mut 0)?
        && !collect_flat(request.grads, leaves.iter().map(|leaf| &leaf.key), given)?
    {
        extra = collect_by_name(request.grads, tree, index, given)?;
    }
    let mut missing = Vec::new();
    let mut any = false;
    for (leaf, given) in given.iter().enumerate().filter(|(leaf, _)| trains(*leaf)) {
        match given {
            Given::Missing if !request.partial => missing.push(leaves[leaf].name.clone()),
            Given::Object(_) => any = true,
            Given::Missing | Given::Skipped => {}
        }
    }
    let inside = |name: &String| extra.iter().any(|e| e.starts_with(&format!("{name}.")));
    if let Some(name) = missing.iter().find(|name| inside(name)) {
        return Err(Refusal::NotAnArray {
            what: format!("the gradient of {}", Quoted(name)),
            got: "a container".to_owned(),
            advice: GRADIENTS_ARE,
        });
    }
    if !missing.is_empty() || !extra.is_empty() {
        return Err(Refusal::Names {
            tree: "the gradients",
            missing,
            extra,
            if_missing: "; give None for a parameter without a gradient, or pass partial=True",
            if_extra: "; opt.params has the names",
        });
    }
    if !any {
        return Err(Refusal::NoGradients);
    }
    // Here, because it may run Python code, and nothing may do so between the checks of arrays.
    let py = request.grads.py();
    for given in given {
        if let Given::Object(object) = given
            && let Some(array) = scalar_as_array(object.bind(py))?
        {
            *given = Given::Object(array.unbind());
        }
    }
    Ok(())
}

/// Refuses gradients that map the bytes of a file that a step writes.
///
/// Apart from the other checks, because where the system does not tell, Python code does.
fn compare_files(py: Python<'_>, model: &Model) -> Outcome<()> {
    if model.written.mapped.is_empty() {
        return Ok(());
    }
    let mut maps = Maps::default();
    for (leaf, given) in model.work.given.iter().enumerate() {
        let Given::Object(object) = given else { continue };
        if model.classes[model.leaves[leaf].class].frozen {
            continue;
        }
        let Ok(array) = object.bind(py).cast::<PyUntypedArray>() else { continue };
        let (Some(kind), Some(place)) = (kind_of(array), maps.place(array)?) else { continue };
        let gradient = Occupant { array, kind, written: false };
        for (position, written) in &model.written.mapped {
            let Some(array) = model.written_array(*position) else { continue };
            if Place::conflict((&gradient, place), (&array.occupant(py), *written)) {
                return Err(overlap(model, *position, leaf));
            }
        }
    }
    Ok(())
}

fn overlap(model: &Model, written: usize, leaf: usize) -> Refusal {
    Refusal::Overlap {
        written: model.describe(model.written.arrays[written]),
        other: format!("the gradient of {}", Quoted(&model.leaves[leaf].name)),
        advice: "pass a gradient with memory of its own (gradient.copy())",
    }
}

/// Checks every array and binds it to its update.
fn bind(
    py: Python<'_>,
    model: &mut Model,
    numbers: &[Numbers],
    step: u64,
    setting: &Setting,
) -> Outcome<()> {
    for position in 0..model.sorted.len() {
        let index = model.sorted[position];
        let leaf = &model.leaves[index];
        let Some(active) = &leaf.active else { continue };
        if model.classes[leaf.class].frozen {
            continue;
        }
        let Given::Object(object) = &model.work.given[index] else { continue };
        let object = object.bind(py);
        let written = active.recheck(py, &leaf.name)?;
        let gradient = checked_gradient(object, &leaf.name, active)?;
        for position in gradient.extents(model) {
            let Some(array) = model.written_array(position) else { continue };
            if share_memory(&gradient.occupant(), &array.occupant(py))? {
                return Err(overlap(model, position, index));
            }
        }

        let key = UpdateKey {
            class: leaf.class,
            step: leaf.step + 1,
            kind: active.p.kind,
            states: active.state.len(),
        };
        let tensor = tensor(written, active, &gradient);
        let batch = &mut model.work.batch;
        let update = batch
            .update(key, numbers, setting.scale)
            .map_err(|error| Refusal::Core { error, step: Some(step) })?;
        batch.push(index, tensor, update, setting.reads().then(|| gradient.read(active.p.kind)));
    }
    Ok(())
}

/// A gradient that fits its parameter.
struct Gradient<'a, 'py> {
    array: &'a Bound<'py, PyUntypedArray>,
    memory: Memory<'a>,
    pointer: Pointer,
}

fn checked_gradient<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    name: &str,
    active: &Active,
) -> Outcome<Gradient<'a, 'py>> {
    let what = || format!("the gradient of {}", Quoted(name));
    let (array, kind) = gradient_of(object, what)?;
    let memory = Memory::of(array);
    if !same(memory.shape, &active.p.shape) {
        let (got, expected) = (memory.shape.to_vec(), active.p.shape.to_vec());
        return Err(Refusal::Shape { what: what(), got, expected });
    }
    Ok(Gradient { array, memory, pointer: Pointer { address: memory.address, kind } })
}

impl<'a, 'py> Gradient<'a, 'py> {
    fn occupant(&self) -> Occupant<'a, 'py> {
        Occupant { array: self.array, kind: self.pointer.kind, written: false }
    }

    /// Positions of written arrays that the gradient might overlap.
    fn extents<'m>(&self, model: &'m Model) -> impl Iterator<Item = usize> + 'm {
        let (start, end) = self.memory.extent(self.pointer.kind);
        model.written.extents.meeting(start, end)
    }

    /// The gradient for the read pass, as numbers of the parameter's type.
    fn read(&self, kind: Kind) -> norm::Leaf<'static> {
        let Gradient { memory, pointer, .. } = self;
        // SAFETY: the array was checked in this step, and `given` keeps it alive until `clear`.
        // That nobody resizes or writes it from another thread meanwhile is the caller's duty.
        unsafe {
            if pointer.kind == kind && memory.c_contiguous() && memory.aligned() {
                norm::Leaf::dense(memory.len(), *pointer)
            } else {
                norm::Leaf::new(memory.shape, *pointer, memory.strides, kind)
            }
        }
    }
}

/// Binds a leaf's arrays and its gradient.
fn tensor(
    mut pointers: [Pointer; ARRAYS],
    active: &Active,
    gradient: &Gradient<'_, '_>,
) -> Tensor<'static> {
    let mut strides = [&active.p.strides[..]; ARRAYS];
    pointers[GRADIENT] = gradient.pointer;
    strides[GRADIENT] = gradient.memory.strides;
    for (strides, state) in strides[STATE..].iter_mut().zip(&active.state) {
        *strides = &state.strides;
    }
    let memory = &gradient.memory;
    let plain = active.dense
        && gradient.pointer.kind == active.p.kind
        && memory.aligned()
        && same(memory.strides, &active.p.strides);
    let states = active.state.len();
    // SAFETY: written arrays were checked when they were taken in and again just now; they are
    // aligned and overlap neither each other nor the gradient. The optimizer and `given` keep all
    // alive until `clear`. That nobody resizes or writes them from another thread is the caller's
    // duty.
    unsafe {
        if plain {
            Tensor::dense(memory.len(), pointers, states, Order::Memory)
        } else {
            Tensor::new(&active.p.shape, pointers, strides, states, Order::Memory)
        }
    }
}
