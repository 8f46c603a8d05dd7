//! Prefetches of what the checks of the next tensors read.
//!
//! In a training loop, the work between two steps has emptied the caches. The checks of a tensor
//! then wait for memory again and again: for its leaf, from there for the array objects, from there
//! for shapes and strides. So each of these is requested some tensors early. Measured with 1,000
//! tensors after a matrix product: a step takes 0.83 of the time; a repeated one takes as long.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::array::prefetch;

use crate::array::memory::Memory;
use crate::model::gradients::Given;
use crate::model::leaf::Leaf;

/// Number of tensors between a request and the check, for each stage of requests: enough for the
/// stage before it to arrive.
const STAGES: [usize; 4] = [16, 10, 5, 2];

/// The tensors of a step, in the order of their checks.
pub struct Ahead<'a> {
    pub leaves: &'a [Leaf],
    pub given: &'a [Given],
    pub chosen: &'a [usize],
}

impl Ahead<'_> {
    /// Requests the next parts for the tensors after `position`.
    #[inline]
    pub fn request(&self, py: Python<'_>, position: usize) {
        let later = STAGES.map(|tensors| self.chosen.get(position + tensors).copied());
        let active = |leaf: Option<usize>| self.leaves[leaf?].active.as_ref();
        if let Some(leaf) = later[0] {
            prefetch::at(&raw const self.leaves[leaf]);
        }
        if let Some(active) = active(later[1]) {
            active.state.iter().for_each(|state| prefetch::at(state));
            Memory::prefetch(&active.p.array);
            prefetch::at(active.p.shape.as_ptr());
            prefetch::at(active.p.strides.as_ptr());
        }
        if let Some(Given::Object(object)) = later[1].map(|leaf| &self.given[leaf]) {
            Memory::prefetch(object);
        }
        if let Some(active) = active(later[2]) {
            Memory::prefetch_layout(active.p.array.bind(py));
            for state in &active.state {
                Memory::prefetch(&state.array);
                prefetch::at(state.shape.as_ptr());
                prefetch::at(state.strides.as_ptr());
            }
        }
        if let Some(Given::Object(object)) = later[2].map(|leaf| &self.given[leaf])
            && let Ok(array) = object.bind(py).cast::<PyUntypedArray>()
        {
            Memory::prefetch_layout(array);
        }
        if let Some(active) = active(later[3]) {
            active.state.iter().for_each(|state| Memory::prefetch_layout(state.array.bind(py)));
        }
    }
}
