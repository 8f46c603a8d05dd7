//! The last check of all arrays, and their binding to updates.
//!
//! No Python code runs here, nor from here to the last write, so no array changes after its check.

#![allow(unsafe_code)] // binds checked arrays by address

use std::collections::HashMap;

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, Pointer, STATE};
use thalweg::error::Quoted;
use thalweg::number::element::Kind;
use thalweg::read::norm;
use thalweg::rule::Numbers;
use thalweg::update::tensor::{Narrow, Tensor};

use crate::array::checks::{gradient_of, same};
use crate::array::files::Place;
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::gradients::Given;
use crate::model::leaf::{Active, Leaf};
use crate::step::ahead::Ahead;
use crate::step::batch::{Clip, Setting, UpdateKey};
use crate::step::release::Release;
use crate::step::workspace::Workspace;

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
    let Workspace { given, chosen, places, batch } = work;
    let ahead = Ahead { leaves: &model.leaves, given, chosen };
    let gradients = chosen.iter().map(|leaf| (*leaf, &given[*leaf])).zip(places);
    for (position, ((index, given), place)) in gradients.enumerate() {
        ahead.request(py, position);
        let leaf = &model.leaves[index];
        let Some(active) = &leaf.active else { continue };
        let Given::Object(object) = given else { continue };
        let object = object.bind(py);
        let (pointers, bases) = active.recheck(py, &leaf.name, wording)?;
        let what = || format!("{} {}", wording.input, Quoted(&leaf.name));
        let gradient = checked_gradient(object, what, active, bits_of(leaf, owner))?;
        let low = low_of(py, leaf, active, owner)?;
        if let Some(written) = gradient.overlap(py, model, &files, *place) {
            return Err(Refusal::Overlap {
                written: model.describe(model.written.arrays[written]),
                other: what(),
                advice: "pass a copy of the gradient (gradient.copy())",
            });
        }

        let key = UpdateKey {
            class: leaf.class,
            step: leaf.step + 1,
            kind: active.p.storage.element(),
            tensor: matches!(setting.clip, Clip::TensorNorm(_)).then_some(position),
        };
        let arrays = (pointers, bases, leaf.step + 1);
        let tensor = tensor(arrays, active, (&gradient, low), setting.measured);
        let update = batch
            .coefficients(key, numbers, setting.intake())
            .map_err(|error| Refusal::Core { error, step: Some(step) })?;
        let reads = setting.reads() || setting.measured;
        batch.push(index, tensor, update, reads.then(|| gradient.read(active.p.storage.element())));
        release.add(py, batch, active, (gradient.array, gradient.pointer.storage));
    }
    Ok(())
}

/// Whether an array of uint16 for this leaf has the bits of bfloat16 numbers.
fn bits_of(leaf: &Leaf, owner: Option<&Model>) -> bool {
    leaf.bits || owner_leaf(leaf, owner).is_some_and(|leaf| leaf.bits)
}

/// The leaf of this name in the optimizer whose parameters are averaged.
fn owner_leaf<'m>(leaf: &Leaf, owner: Option<&'m Model>) -> Option<&'m Leaf> {
    let owner = owner?;
    owner.index.get(&leaf.name).map(|i| &owner.leaves[*i])
}

/// What a narrow parameter that is averaged lacks: a pointer, and strides.
fn low_of<'m>(
    py: Python<'_>,
    leaf: &Leaf,
    average: &Active,
    owner: Option<&'m Model>,
) -> Outcome<Option<(Pointer, &'m [isize])>> {
    let active = owner_leaf(leaf, owner).and_then(|leaf| leaf.active.as_ref());
    let low = active.and_then(Active::low).filter(|low| low.shape == average.p.shape);
    let Some(low) = low else { return Ok(None) };
    let pointer = low.recheck(py, "", || format!("the state of {}", Quoted(&leaf.name)))?;
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
    active: &Active,
    bits: bool,
) -> Outcome<Gradient<'a, 'py>> {
    let (array, storage) = gradient_of(object, &what, bits)?;
    let memory = Memory::of(array);
    if !same(memory.shape, &active.p.shape) {
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
    /// `place`, in a file.
    fn overlap(
        &self,
        py: Python<'_>,
        model: &Model,
        files: &Files<'_>,
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
        model.written.extents.meeting(start, end).find(meets).or_else(|| {
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
    let mut strides = [&active.p.strides[..]; ARRAYS];
    pointers[GRADIENT] = gradient.pointer;
    strides[GRADIENT] = gradient.memory.strides;
    let form = &active.form;
    for (strides, state) in strides[STATE..].iter_mut().zip(&active.state[..form.states()]) {
        *strides = &state.strides;
    }
    let mut low_of = None;
    if let Some(low) = active.low() {
        (strides[LOW], low_of) = (&low.strides, Some(PARAMETER));
    } else if let Some((pointer, low)) = low {
        (pointers[LOW], strides[LOW], low_of) = (pointer, low, Some(GRADIENT));
    }
    let memory = &gradient.memory;
    let plain = active.dense
        && gradient.pointer.storage == active.p.storage
        && memory.aligned()
        && same(memory.strides, &active.p.strides);
    let states = form.states();
    let logical = memory.c_contiguous();
    // Norms are summed in logical order; without norms, the order of memory is faster.
    let order = if measured || (plain && logical) { Order::Logical } else { Order::Memory };
    // SAFETY: written arrays were checked when they were taken in and again just now; they are
    // aligned and overlap neither each other nor the gradient. The optimizer and `given` keep all
    // arrays alive until the work is cleared. The caller guarantees that no other thread resizes or
    // writes them meanwhile.
    unsafe {
        if !form.is_whole() || low_of.is_some() {
            let narrow = Narrow { step, bases, low_of };
            Tensor::narrow(&active.p.shape, pointers, strides, states, order, narrow)
        } else if plain && (logical || !measured) {
            Tensor::dense(memory.len(), pointers, states, order)
        } else {
            Tensor::new(&active.p.shape, pointers, strides, states, order)
        }
    }
}
