//! Swapping of parameters with their averages, and back.

#![allow(unsafe_code)] // binds checked arrays by address

use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::checks::{parameter_of, written};
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::overlap::{first_file_overlap, first_overlap};
use crate::array::storage::kind_of;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::leaf::Active;
use crate::step::guarded::{Guarded, model_in};
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, Pointer, STATE};
use thalweg::error::Quoted;
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::element::Kind;
use thalweg::rule::{Numbers, Swap};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::{Narrow, Tensor};

/// Swaps the contents of averages and of the parameters, which are given by name. With `held`,
/// marks the averages and the optimizer of the parameters as held; without, swaps back and removes
/// the mark.
pub fn swap(
    params: &Bound<'_, PyDict>,
    average: &Guarded,
    held: bool,
    owner: Option<&Guarded>,
) -> Outcome<()> {
    let py = params.py();
    let mut entered = owner.map(Guarded::enter).transpose()?;
    let mut owner_model = entered.as_mut().map(model_in).transpose()?;
    average.inside(py, |model| {
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
        let done = swap_arrays(py, model, params, (held, owner_model.as_deref_mut()));
        if let (Some(model), Some(owner)) = (owner_model, owner) {
            // Swapping in leaves its `begin_writing` without a finish, so that the record shows no
            // whole state inside the block. Swapping back finishes both.
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

fn swap_arrays(
    py: Python<'_>,
    model: &mut Model,
    params: &Bound<'_, PyDict>,
    (held, owner): (bool, Option<&mut Model>),
) -> Outcome<()> {
    let averages: Vec<(&String, &Active)> = (model.leaves.iter())
        .filter(|leaf| !model.classes[leaf.class].frozen)
        .filter_map(|leaf| leaf.active.as_ref().map(|active| (&leaf.name, active)))
        .collect();
    let mut objects = Vec::with_capacity(averages.len());
    for (name, _) in &averages {
        objects.push(params.get_item(name)?.ok_or_else(|| {
            let words = model.options.wording;
            Refusal::Names {
                tree: words.inputs,
                owner: words.owner,
                missing: vec![(*name).clone()],
                extra: Vec::new(),
                if_missing: words.if_missing,
                if_extra: words.if_extra,
            }
        })?);
    }
    let pairs = objects.iter().zip(&averages);
    let pairs = pairs.flat_map(|(object, (_, active))| [object, active.p.array.bind(py).as_any()]);
    let in_files = first_file_overlap(pairs.map(|object| (object, true)))?;
    let mut zeros = [0.0_f64];
    let zero = Pointer::of(zeros.as_mut_ptr());
    let mut occupants = Vec::with_capacity(2 * averages.len());
    let mut tasks = Vec::with_capacity(averages.len());
    for (object, (name, active)) in objects.iter().zip(&averages) {
        let what = || format!("parameter {}", Quoted(name));
        let leaf = owner.as_deref().and_then(|owner| owner.leaf(name).ok());
        let low = leaf.and_then(|leaf| leaf.active.as_ref()).and_then(Active::low);
        let low = low.filter(|low| low.shape == active.p.shape);
        let (array, storage) = match low {
            Some(_) => parameter_of(object, what, leaf.is_some_and(|leaf| leaf.bits))?,
            None => written(object, what)?,
        };
        if *array.shape() != *active.p.shape || storage.whole() != active.p.storage {
            return Err(Refusal::Value(format!(
                "{} must be {}, as its average is, got {}",
                what(),
                kind_of(active.p.storage, &active.p.shape),
                kind_of(storage, array.shape())
            )));
        }
        let average = active.p.recheck(py, "", || format!("the average of {}", Quoted(name)))?;
        occupants.push(Occupant { array, storage, written: true });
        occupants.push(active.p.occupant(py));

        let memory = Memory::of(array);
        let none = vec![0; memory.shape.len()];
        let mut pointers = [Pointer { address: memory.address, storage }; ARRAYS];
        let mut strides = [memory.strides; ARRAYS];
        (pointers[GRADIENT], strides[GRADIENT]) = (zero, &none);
        (pointers[STATE], strides[STATE]) = (average, &active.p.strides);
        let mut low_of = None;
        if let Some(low) = low {
            let pointer = low.recheck(py, "", || format!("the state of {}", Quoted(name)))?;
            (pointers[LOW], strides[LOW], low_of) = (pointer, &low.strides, Some(PARAMETER));
        }
        // SAFETY: the arrays are checked above, and for overlaps below, before the update runs.
        // `objects` and the model keep them alive. The caller guarantees that no other thread
        // resizes or writes them meanwhile. The gradient has strides of 0: every index is the one
        // element of `zeros`.
        let tensor = unsafe {
            let narrow = Narrow { step: 1, bases: std::ptr::null_mut(), low_of };
            match low_of {
                Some(_) => {
                    Tensor::narrow(memory.shape, pointers, strides, 1, Order::Memory, narrow)
                }
                None => Tensor::new(memory.shape, pointers, strides, 1, Order::Memory),
            }
        };
        tasks.push(Task { tensor, update: usize::from(storage.element() == Kind::F64) });
    }
    if let Some((earlier, later)) = first_overlap(&occupants).or(in_files) {
        let describe = |i: usize| {
            let role = if i.is_multiple_of(2) { "parameter" } else { "the average of" };
            format!("{role} {}", Quoted(averages[i / 2].0))
        };
        return Err(Refusal::Overlap {
            written: describe(earlier),
            other: describe(later),
            advice: "pass a copy of one (array.copy())",
        });
    }

    let swap = Numbers::from(Swap);
    let updates = [swap.at_step(Kind::F32, 1, 1.0)?, swap.at_step(Kind::F64, 1, 1.0)?];
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, num_threads().0);
    let mark = &mut model.held;
    py.detach(|| {
        fork::whole(|| {
            Plan::default().run(&mut tasks, &updates, Level::current(), threads)?;
            *mark = held;
            if let Some(owner) = owner {
                owner.held = held;
            }
            Ok(())
        })
    })
}
