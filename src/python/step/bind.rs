//! The last check of all arrays, and their binding to updates.
//!
//! No Python code runs here, nor from here to the last write, so no array changes after its check.

#![allow(unsafe_code)] // binds checked arrays by address

use std::collections::HashMap;

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, Pointer};
use thalweg::error::{Error, Quoted};
use thalweg::number::element::Kind;
use thalweg::read::norm;
use thalweg::rule::Numbers;
use thalweg::step::kept::Kept;
use thalweg::step::key::UpdateKey;
use thalweg::step::setting::{Clip, Setting};
use thalweg::update::tensor::{Narrow, Tensor};

use crate::array::checks::{gradient_of, same};
use crate::array::files::Place;
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::rows::{check_has_rows, check_indices, check_values};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::gradients::Given;
use crate::model::leaf::{Active, Leaf};
use crate::step::ahead::Ahead;
use crate::step::release::Release;
use crate::step::rows;
use crate::step::workspace::Workspace;
use crate::values::hyper::RowsMeaning;

/// Checks every array, and binds it to its update. The struct of each gradient is read here, once.
pub fn bind(
    py: Python<'_>,
    (model, owner): (&Model, Option<&Model>),
    work: &mut Workspace,
    numbers: &[Numbers],
    step: u64,
    setting: &Setting,
) -> Outcome<()> {
    let wording = model.options.wording;
    let files = Files::of(model);
    let mut release = Release::of(model);
    let Workspace { given, chosen, places, batch, sums } = work;
    let ahead = Ahead { leaves: &model.leaves, given, chosen };
    let gradients = chosen.iter().map(|leaf| (*leaf, &given[*leaf])).zip(places);
    let measures: Vec<bool> =
        numbers.iter().map(|numbers| numbers.measures().next().is_some()).collect();
    let mut below = 0;
    for (position, ((index, given), place)) in gradients.enumerate() {
        ahead.request(py, position);
        let leaf = &model.leaves[index];
        let Some(active) = &leaf.active else { continue };
        let (object, indices) = match given {
            Given::Object(object) => (object.bind(py), None),
            Given::Rows(rows) => (rows.values.bind(py), Some(&rows.indices[..])),
            Given::Missing | Given::Skipped => continue,
        };
        let (mut pointers, bases) = active.recheck(py, &leaf.name, wording)?;
        let what = || format!("{} {}", wording.input, Quoted(&leaf.name));
        let averaged = owner.and_then(|owner| owner.find_near(&leaf.name, index));
        let bits = leaf.bits || averaged.is_some_and(|leaf| leaf.bits);
        let rows = match indices {
            None => None,
            Some(indices) => Some((indices, checked_rows(model, (leaf, active), indices)?)),
        };
        let gradient = checked_gradient(object, what, (active, indices), bits)?;
        pointers[GRADIENT] = gradient.pointer;
        let low = averaged.map_or(Ok(None), |averaged| low_of(py, averaged, active))?;
        if let Some(written) = gradient.overlap(py, model, (&mut below, &files), *place) {
            return Err(Refusal::Overlap {
                written: model.describe(model.written.arrays[written]),
                other: what(),
                advice: "pass a copy of the gradient (gradient.copy())",
            });
        }

        let (measures, kept) = (measures[leaf.class], history_of(py, active));
        let key = UpdateKey {
            class: leaf.class,
            step: leaf.step + 1,
            kind: active.p.storage.element(),
            tensor: (measures || matches!(setting.clip, Clip::TensorNorm(_))).then_some(position),
            history: kept.map_or_else(Default::default, |kept| kept.bits()),
        };
        if rows.is_some() || active.row_steps().is_some() {
            let (leaf, given) = ((index, leaf), (&gradient.memory, gradient.pointer));
            let bound = rows::Bound { leaf, active, pointers, bases, kept, given };
            rows::push(py, (batch, sums), bound, rows, (key, setting), |batch, key| {
                let made = batch.coefficients(key, numbers, setting.intake());
                made.map_err(|error| refused(error, step, leaf.1))
            })?;
            if matches!(rows, Some((_, RowsMeaning::Dense))) {
                release.add(py, batch, active, None);
            }
            continue;
        }
        let arrays = (pointers, bases, leaf.step + 1);
        let tensor = tensor(arrays, active, (&gradient, low), measures || setting.measured);
        let update = batch
            .coefficients(key, numbers, setting.intake())
            .map_err(|error| refused(error, step, leaf))?;
        let reads = setting.reads() || setting.measured;
        batch.push(
            index,
            (tensor, kept),
            update,
            reads.then(|| gradient.read(active.p.storage.element())),
        );
        release.add(py, batch, active, Some((gradient.array, gradient.pointer.storage)));
    }
    Ok(())
}

/// The place of a leaf's history. The arrays of `active` are rechecked.
#[inline]
pub fn history_of(py: Python<'_>, active: &Active) -> Option<Kept> {
    if !active.form.keeps_history() {
        return None;
    }
    let history = active.history()?;
    // SAFETY: the optimizer keeps the array alive until the work is cleared. The caller guarantees
    // that no other thread resizes it meanwhile.
    unsafe { Memory::of(history.array.bind(py)).history(history.storage) }
}

/// The refusal of coefficients, which names the leaf if its history is refused.
fn refused(error: Error, step: u64, leaf: &Leaf) -> Refusal {
    match error {
        Error::History(_) => Refusal::Value(format!("state of {}: {error}", Quoted(&leaf.name))),
        error => Refusal::Core { error, step: Some(step) },
    }
}

/// The meaning of rows with these indices, which must be rows of the parameter.
fn checked_rows(
    model: &Model,
    (leaf, active): (&Leaf, &Active),
    indices: &[usize],
) -> Outcome<RowsMeaning> {
    let meaning = model.rows_meaning(leaf)?;
    check_has_rows(&active.p.shape, || format!("parameter {}", Quoted(&leaf.name)))?;
    let what = || format!("{} {}", model.options.wording.input, Quoted(&leaf.name));
    check_indices(indices, active.p.shape[0], what)?;
    Ok(meaning)
}

/// What a narrow parameter that is averaged lacks: a pointer, and strides.
fn low_of<'m>(
    py: Python<'_>,
    averaged: &'m Leaf,
    average: &Active,
) -> Outcome<Option<(Pointer, &'m [isize])>> {
    let low = averaged.active.as_ref().and_then(Active::low);
    let Some(low) = low.filter(|low| low.shape == average.p.shape) else { return Ok(None) };
    let pointer = low.recheck(py, "", || format!("the state of {}", Quoted(&averaged.name)))?;
    Ok(Some((pointer, &low.strides)))
}

/// Written arrays that map files, by device and inode, each with its position among the written
/// arrays. `None` if there are none.
struct Files<'m>(Option<ByFile<'m>>);

type ByFile<'m> = HashMap<(u64, u64), Vec<&'m (usize, Place)>>;

impl<'m> Files<'m> {
    fn of(model: &'m Model) -> Self {
        let mapped = &model.written.mapped;
        Files((!mapped.is_empty()).then(|| {
            let mut files = ByFile::new();
            for written in mapped {
                files.entry(written.1.file).or_default().push(written);
            }
            files
        }))
    }

    fn in_file(&self, place: Place) -> impl Iterator<Item = (usize, Place)> {
        let files = self.0.iter();
        files.filter_map(move |files| files.get(&place.file)).flatten().map(|written| **written)
    }
}

/// A gradient that fits its parameter.
struct Gradient<'a, 'py> {
    array: &'a Bound<'py, PyUntypedArray>,
    memory: Memory<'a>,
    pointer: Pointer,
}

fn checked_gradient<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    (active, indices): (&Active, Option<&[usize]>),
    bits: bool,
) -> Outcome<Gradient<'a, 'py>> {
    let (array, storage) = gradient_of(object, &what, bits)?;
    let memory = Memory::of(array);
    if let Some(indices) = indices {
        check_values(memory.shape, indices.len(), &active.p.shape, what)?;
    } else if !same(memory.shape, &active.p.shape) {
        let (got, expected) = (memory.shape.to_vec(), active.p.shape.to_vec());
        return Err(Refusal::Shape { what: what(), got, expected });
    }
    Ok(Gradient { array, memory, pointer: Pointer { address: memory.address, storage } })
}

impl<'a, 'py> Gradient<'a, 'py> {
    fn occupant(&self) -> Occupant<'a, 'py> {
        Occupant { array: self.array, storage: self.pointer.storage, written: false }
    }

    /// Position of a written array that has bytes in common with the gradient, in memory or, at
    /// `place`, in a file. `below` is kept for the next gradient.
    fn overlap(
        &self,
        py: Python<'_>,
        model: &Model,
        (below, files): (&mut usize, &Files<'_>),
        place: Option<Place>,
    ) -> Option<usize> {
        let (start, end) = self.memory.extent(self.pointer.storage);
        let gradient = self.occupant();
        let array = |written: usize| Some(model.written_array(written)?.occupant(py));
        let meets = |written: &usize| array(*written).is_some_and(|array| gradient.meets(&array));
        let conflicts = |place: Place, written: usize, there: Place| {
            let array = array(written)?;
            Place::conflict((&gradient, place), (&array, there)).then_some(written)
        };
        model.written.extents.meeting_near(below, start, end).find(meets).or_else(|| {
            let place = place?;
            files.in_file(place).find_map(|(written, there)| conflicts(place, written, there))
        })
    }

    /// The gradient as input of the read pass, in the parameter's element type.
    fn read(&self, kind: Kind) -> norm::Input<'static> {
        let Gradient { memory, pointer, .. } = self;
        // SAFETY: the array was checked in this step, and `given` keeps it alive until the work is
        // cleared. The caller guarantees that no other thread resizes or writes it meanwhile.
        unsafe {
            if pointer.storage == kind.into() && memory.c_contiguous() && memory.aligned() {
                norm::Input::dense(memory.len(), *pointer)
            } else {
                norm::Input::new(memory.shape, *pointer, memory.strides, kind)
            }
        }
    }
}

/// Binds a leaf's arrays and its gradient.
fn tensor(
    (mut pointers, bases, step): ([Pointer; ARRAYS], *mut u8, u64),
    active: &Active,
    (gradient, low): (&Gradient<'_, '_>, Option<(Pointer, &[isize])>),
    measured: bool,
) -> Tensor<'static> {
    let memory = &gradient.memory;
    let states = active.form.states();
    let plain = active.dense
        && low.is_none()
        && gradient.pointer.storage == active.p.storage
        && memory.aligned()
        && same(memory.strides, &active.p.strides);
    let logical = memory.c_contiguous();
    // Norms and measures are summed in logical order; without them, the order of memory is faster.
    let order = if measured || (plain && logical) { Order::Logical } else { Order::Memory };
    // SAFETY of all tensors: written arrays were checked when they were taken in and again just
    // now; they are aligned and overlap neither each other nor the gradient. The optimizer and
    // `given` keep all arrays alive until the work is cleared. The caller guarantees that no other
    // thread resizes or writes them meanwhile.
    if plain && (logical || !measured) {
        // SAFETY: as above.
        return unsafe { Tensor::dense(memory.len(), pointers, states, order) };
    }
    let (mut strides, mut low_of) = active.strides();
    strides[GRADIENT] = memory.strides;
    if let Some((pointer, low)) = low.filter(|_| low_of.is_none()) {
        (pointers[LOW], strides[LOW], low_of) = (pointer, low, Some(GRADIENT));
    }
    // SAFETY: as above.
    unsafe {
        if active.form.is_whole() && low_of.is_none() {
            Tensor::new(&active.p.shape, pointers, strides, states, order)
        } else {
            let narrow = Narrow { step, bases, low_of };
            Tensor::narrow(&active.p.shape, pointers, strides, states, order, narrow)
        }
    }
}
