//! Release of the pages of mapped arrays behind a step.

#![allow(unsafe_code)] // guarantees that extents are mappings of files

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::array::storage::Storage;
use thalweg::machine::pages::Span;
use thalweg::step::batch::Batch;

use crate::array::files::Maps;
use crate::array::memory::Memory;
use crate::model::Model;
use crate::model::leaf::Active;

/// Registers pages for release with a batch, if the optimizer's record asks for it.
pub struct Release {
    /// The table of mappings, which tells the arrays that map files; if the system has none, no
    /// pages are released. `None` if the record does not ask for release.
    maps: Option<Maps>,
}

impl Release {
    pub fn of(model: &Model) -> Self {
        let releases = model.record.as_ref().is_some_and(|record| record.releases);
        Release { maps: releases.then(Maps::default) }
    }

    /// Adds the arrays of the tensor that was pushed last, and its gradient if it is an array.
    #[inline]
    pub fn add(
        &mut self,
        py: Python<'_>,
        batch: &mut Batch,
        active: &Active,
        gradient: Option<(&Bound<'_, PyUntypedArray>, Storage)>,
    ) {
        if self.maps.is_some() {
            self.add_mapped(py, batch, active, gradient);
        }
    }

    fn add_mapped(
        &mut self,
        py: Python<'_>,
        batch: &mut Batch,
        active: &Active,
        gradient: Option<(&Bound<'_, PyUntypedArray>, Storage)>,
    ) {
        let Some(maps) = &mut self.maps else { return };
        let in_order = batch.in_lines() && Memory::of(active.p.array.bind(py)).c_contiguous();
        let arrays =
            active.arrays().map(|checked| (checked.array.bind(py), checked.storage, false));
        let positions = active.p.shape.iter().product::<usize>();
        let gradient = gradient.map(|(gradient, storage)| (gradient, storage, true));
        for (array, storage, is_gradient) in arrays.chain(gradient) {
            if maps.is_shared(array) {
                let memory = Memory::of(array);
                // Exponents of blocks are fewer than the positions of the update.
                let span = span(&memory, storage, in_order && memory.len() == positions);
                // SAFETY: the table says that the extent is a shared mapping of a file, and the
                // arrays are held until the batch is cleared. The caller guarantees that nothing
                // unmaps them meanwhile.
                unsafe { batch.release(span, is_gradient) };
            }
        }
    }
}

/// The array's extent; and its stride, if the array is in C order and the update visits elements in
/// C order (`in_order`).
fn span(memory: &Memory<'_>, storage: Storage, in_order: bool) -> Span {
    let stride = (in_order && memory.c_contiguous()).then(|| storage.size());
    Span { extent: memory.extent(storage), stride }
}
