//! Whether a dict of dicts still has the very objects that it had.
//!
//! State of `thalweg.torch` is a dict that anyone may write to. To ask it in Python before each step
//! would take longer than the step of a small model.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Whether `state` has these entries, and no other: of each its key, its value, and if that is a dict
/// a copy of it, of whose keys and values none may be another object by now. No Python code is run.
#[pyfunction]
pub fn holds(state: &Bound<'_, PyAny>, entries: &Bound<'_, PyList>) -> PyResult<bool> {
    let Ok(state) = state.cast::<PyDict>() else { return Ok(false) };
    if state.len() != entries.len() {
        return Ok(false);
    }
    for ((key, value), entry) in state.iter().zip(entries.iter()) {
        let entry = entry.cast_into::<PyTuple>()?;
        if !key.is(entry.get_borrowed_item(0)?) || !value.is(entry.get_borrowed_item(1)?) {
            return Ok(false);
        }
        let copy = entry.get_borrowed_item(2)?;
        if let (Ok(value), Ok(copy)) = (value.cast::<PyDict>(), copy.cast::<PyDict>())
            && !has_same(value, &copy)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_same(one: &Bound<'_, PyDict>, other: &Bound<'_, PyDict>) -> bool {
    let pairs = || one.iter().zip(other.iter());
    one.len() == other.len() && pairs().all(|((k, v), (key, value))| k.is(&key) && v.is(&value))
}
