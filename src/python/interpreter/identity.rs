//! Check that containers still hold the same objects.
//!
//! Users can write to the groups and the state of `thalweg.torch`. A check in Python before each
//! step takes longer than the step of a small model.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Depth of the containers that are compared; objects in deeper ones must be the same.
const LEVELS: usize = 4;

/// Whether containers hold the same objects as copies of them, in the same order. Containers are
/// dicts and lists; `copies` may nest copies of inner ones. No Python code is run.
#[pyfunction]
pub fn holds(containers: &Bound<'_, PyAny>, copies: &Bound<'_, PyAny>) -> bool {
    same(containers, copies, LEVELS)
}

fn same(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>, levels: usize) -> bool {
    if one.is(other) || levels == 0 {
        return one.is(other);
    }
    if let (Ok(one), Ok(other)) = (one.cast::<PyDict>(), other.cast::<PyDict>()) {
        let pairs = || one.iter().zip(other.iter());
        return one.len() == other.len()
            && pairs().all(|((k, v), (key, value))| k.is(&key) && same(&v, &value, levels - 1));
    }
    if let (Ok(one), Ok(other)) = (one.cast::<PyList>(), other.cast::<PyList>()) {
        let mut pairs = one.iter().zip(other.iter());
        return one.len() == other.len() && pairs.all(|(v, value)| same(&v, &value, levels - 1));
    }
    false
}
