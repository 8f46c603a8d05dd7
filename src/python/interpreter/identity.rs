//! Check that a dict of dicts still holds the same objects.
//!
//! Users can write to the state of `thalweg.torch`, a dict. A check in Python before each step
//! takes longer than the step of a small model.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Whether `state` has exactly these entries, in this order, compared by identity. An entry is a
/// key, a value, and, if the value is a dict, a copy of it, whose keys and values are compared too.
/// No Python code is run.
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
