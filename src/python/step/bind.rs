//! Checked arrays bound to their updates.
//!
//! No Python code runs here, nor from here to the last write: what is checked is what is written.

#![allow(unsafe_code)] // binds checked arrays by address

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use crate::array::checks::{gradient_of, same};
use crate::array::memory::Memory;
use crate::array::overlap::Occupant;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::leaf::Active;
use crate::model::model::Model;
use crate::model::tree::Given;
use crate::step::batch::{Clip, Setting, UpdateKey};
use crate::step::collect::overlap;
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, Pointer, STATE};
use thalweg::error::Quoted;
use thalweg::number::element::Kind;
use thalweg::read::norm;
use thalweg::rule::Rule;
use thalweg::update::tensor::Tensor;

/// Checks every array and binds it to its update.
pub fn bind(
    py: Python<'_>,
    model: &mut Model,
    numbers: &[Rule],
    step: u64,
    setting: &Setting,
) -> Outcome<()> {
    let words = model.options.words;
    for position in 0..model.work.chosen.len() {
        let index = model.work.chosen[position];
        let leaf = &model.leaves[index];
        let Some(active) = &leaf.active else { continue };
        let Given::Object(object) = &model.work.given[index] else { continue };
        let object = object.bind(py);
        let written = active.recheck(py, &leaf.name, words)?;
        let gradient =
            checked_gradient(object, || format!("{} {}", words.input, Quoted(&leaf.name)), active)?;
        for position in gradient.extents(model) {
            let Some(array) = model.written_array(position) else { continue };
            if gradient.occupant().meets(&array.occupant(py)) {
                return Err(overlap(model, position, index));
            }
        }

        let key = UpdateKey {
            class: leaf.class,
            step: leaf.step + 1,
            kind: active.p.kind,
            tensor: matches!(setting.clip, Clip::TensorNorm(_)).then_some(position),
        };
        let tensor = tensor(written, active, &gradient, setting.watch);
        let batch = &mut model.work.batch;
        let update = batch
            .coefficients(key, numbers, setting.intake())
            .map_err(|error| Refusal::Core { error, step: Some(step) })?;
        let reads = setting.reads() || setting.watch;
        batch.push(index, tensor, update, reads.then(|| gradient.read(active.p.kind)));
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
    what: impl Fn() -> String,
    active: &Active,
) -> Outcome<Gradient<'a, 'py>> {
    let (array, kind) = gradient_of(object, &what)?;
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
    watch: bool,
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
    let logical = memory.c_contiguous();
    // Norms are summed in logical order; without them the order of memory is faster.
    let order = if watch || (plain && logical) { Order::Logical } else { Order::Memory };
    // SAFETY: written arrays were checked when they were taken in and again just now; they are
    // aligned and overlap neither each other nor the gradient. The optimizer and `given` keep all
    // alive until `clear`. That nobody resizes or writes them from another thread is the caller's
    // duty.
    unsafe {
        if plain && (logical || !watch) {
            Tensor::dense(memory.len(), pointers, states, order)
        } else {
            Tensor::new(&active.p.shape, pointers, strides, states, order)
        }
    }
}
