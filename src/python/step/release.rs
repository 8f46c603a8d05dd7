//! Which mapped arrays of a step are let go of behind it.

#![allow(unsafe_code)] // promises that extents are mappings of files

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use crate::array::checks::kind_of;
use crate::array::files::Maps;
use crate::array::memory::Memory;
use crate::model::model::Model;
use crate::model::tree::Given;
use thalweg::machine::pages::Span;
use thalweg::number::element::Kind;

/// The array's extent, and its stride where `in_order` is true and it is in C order.
fn span(memory: &Memory<'_>, kind: Kind, in_order: bool) -> Span {
    let stride = (in_order && memory.c_contiguous()).then(|| kind.size());
    Span { extent: memory.extent(kind), stride }
}

impl Model {
    /// Has the batch that is bound let go of pages, if the optimizer's arrays are that large.
    ///
    /// The table of mappings tells which arrays map files, and where it is missing none is let go of.
    pub fn prepare_release(&mut self, py: Python<'_>) {
        if !self.record.as_ref().is_some_and(|record| record.releases) {
            return;
        }
        let (mut maps, mut found) = (Maps::default(), Vec::new());
        for (position, leaf) in self.work.batch.leaves().iter().enumerate() {
            let (Some(active), Given::Object(gradient)) =
                (&self.leaves[*leaf].active, &self.work.given[*leaf])
            else {
                continue;
            };
            let in_order = self.work.batch.in_lines(position)
                && Memory::of(active.p.array.bind(py)).c_contiguous();
            for checked in active.arrays() {
                let array = checked.array.bind(py);
                if maps.is_shared(array) {
                    found.push((position, span(&Memory::of(array), checked.kind, in_order), false));
                }
            }
            let Ok(gradient) = gradient.bind(py).cast::<PyUntypedArray>() else { continue };
            if let Some(kind) = kind_of(gradient)
                && maps.is_shared(gradient)
            {
                found.push((position, span(&Memory::of(gradient), kind, in_order), true));
            }
        }
        for (position, span, is_gradient) in found {
            // SAFETY: the table says that it is a shared mapping of a file, and the arrays are held
            // until the batch is cleared. That nobody unmaps them is the caller's duty.
            unsafe { self.work.batch.release(position, span, is_gradient) };
        }
    }
}
