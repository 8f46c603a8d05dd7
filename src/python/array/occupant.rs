//! An array among others that must not overlap.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::number::element::Kind;

use crate::array::memory::Memory;

/// An array among others that must not overlap.
#[derive(Clone, Copy)]
pub struct Occupant<'a, 'py> {
    pub array: &'a Bound<'py, PyUntypedArray>,
    pub kind: Kind,
    pub written: bool,
}

impl Occupant<'_, '_> {
    /// Whether two arrays have a byte in common.
    pub fn meets(&self, other: &Occupant<'_, '_>) -> bool {
        Memory::of(self.array).meets(self.kind, &Memory::of(other.array), other.kind)
    }
}
