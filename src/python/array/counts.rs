//! An array of float64 that shows numbers of updates to Python.

#![allow(unsafe_code)] // takes a slice of a checked array

use std::sync::atomic::{AtomicU64, Ordering};

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use crate::array::memory::Memory;
use crate::array::storage::storage_of;
use crate::interpreter::errors::{Outcome, Refusal};
use thalweg::number::element::Kind;

/// The first numbers of an array, as bits. Tensors of torch may share them.
pub struct ShownCounts<'a>(&'a [AtomicU64]);

impl<'a> ShownCounts<'a> {
    /// The caller guarantees that the array is not resized meanwhile.
    pub fn of(array: &'a Bound<'_, PyUntypedArray>, len: usize) -> Outcome<Self> {
        let memory = Memory::of(array);
        let address = memory.address.cast::<AtomicU64>();
        let fits = storage_of(array) == Some(Kind::F64.into())
            && memory.len() >= len
            && memory.writable()
            && memory.c_contiguous()
            && address.is_aligned();
        if !fits {
            return Err(Refusal::Value(format!(
                "shown counts must be a writable array of {len} float64 or more"
            )));
        }
        // SAFETY: the array has that many numbers, as was just checked, and is kept by the caller.
        Ok(ShownCounts(unsafe { std::slice::from_raw_parts(address, len) }))
    }

    pub fn show(&self, position: usize, count: u64) {
        self.0[position].store((count as f64).to_bits(), Ordering::Relaxed);
    }

    pub fn shows(&self, position: usize, count: u64) -> bool {
        f64::from_bits(self.0[position].load(Ordering::Relaxed)) == count as f64
    }
}
