//! Dicts whose entries come in a known order, as those of trees do.

#![allow(unsafe_code)] // takes the entries of a dict one by one

use std::ptr::null_mut;

use pyo3::ffi::{Py_ssize_t, PyDict_Next};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Looks up one key after the other. A key at the place where it is expected, after the key before
/// it, is found without its hash.
pub struct Lookup<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    place: Py_ssize_t,
}

impl<'a, 'py> Lookup<'a, 'py> {
    pub fn of(dict: &'a Bound<'py, PyDict>) -> Self {
        Lookup { dict, place: 0 }
    }

    /// The value of the next key. As with `dict.get_item`, Python code runs if the key is no string
    /// and is not at its place; it may change the dict.
    pub fn next(&mut self, key: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (mut found, mut value) = (null_mut(), null_mut());
        // SAFETY: `place` has been 0 or is from the last call, after which the dict may have
        // changed: places past its end are refused. The dict holds the value until the reference is
        // taken, since no code runs in between.
        unsafe {
            let dict = self.dict.as_ptr();
            if PyDict_Next(dict, &raw mut self.place, &raw mut found, &raw mut value) != 0
                && found == key.as_ptr()
            {
                return Ok(Some(Bound::from_borrowed_ptr(self.dict.py(), value)));
            }
        }
        self.dict.get_item(key)
    }
}
