//! Arrays in a check for overlaps.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::array::storage::Storage;

use crate::array::memory::Memory;

/// An array in a check for overlaps, and whether it is written.
#[derive(Clone, Copy)]
pub struct Occupant<'a, 'py> {
    pub array: &'a Bound<'py, PyUntypedArray>,
    pub storage: Storage,
    pub written: bool,
}

impl Occupant<'_, '_> {
    /// Whether two arrays have a byte in common.
    pub fn meets(&self, other: &Occupant<'_, '_>) -> bool {
        Memory::of(self.array).meets(self.storage, &Memory::of(other.array), other.storage)
    }
}
