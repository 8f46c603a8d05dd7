//! Rows of a gradient, given as `thalweg.Rows`.

#![allow(unsafe_code)] // takes a slice of a checked array

use numpy::PyUntypedArray;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use thalweg::array::storage::{Storage, e5m3};

use crate::array::memory::Memory;
use crate::array::storage::storage_of;
use crate::interpreter::errors::{Outcome, Refusal, Shape};

/// Rows of a gradient: their indices, copied, and an object that should be the array of their
/// values.
#[derive(Debug)]
pub struct GivenRows {
    pub indices: Vec<usize>,
    pub values: Py<PyAny>,
}

impl GivenRows {
    /// The rows in `object`; `None` if it is something else. May run Python code.
    pub fn of(object: &Bound<'_, PyAny>, what: impl Fn() -> String) -> Outcome<Option<Self>> {
        static ROWS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = object.py();
        if object.is_instance_of::<PyUntypedArray>()
            || !object.is_instance(ROWS.import(py, "thalweg.rows", "Rows")?)?
        {
            return Ok(None);
        }
        let values = object.getattr(intern!(py, "values"))?.unbind();
        let indices = object.getattr(intern!(py, "indices"))?;
        let copied = indices.cast::<PyUntypedArray>().ok().and_then(copy_of);
        let Some(copied) = copied else {
            return Err(Refusal::Value(format!(
                "indices of {} must be a contiguous int64 array with one axis; make the rows again \
                 (thalweg.Rows(indices, values))",
                what()
            )));
        };
        let index = |(position, index): (usize, i64)| {
            usize::try_from(index).map_err(|_| out_of_range(&what(), index, position, None))
        };
        let indices = copied.into_iter().enumerate().map(index).collect::<Outcome<_>>()?;
        Ok(Some(GivenRows { indices, values }))
    }
}

/// Refuses indices that are no rows of a parameter of this height.
pub fn check_indices(indices: &[usize], height: usize, what: impl Fn() -> String) -> Outcome<()> {
    match indices.iter().position(|index| *index >= height) {
        None => Ok(()),
        Some(at) => Err(out_of_range(&what(), indices[at] as i64, at, Some(height))),
    }
}

/// Refuses rows of a parameter of this shape that has none; `what` is the parameter.
pub fn check_has_rows(shape: &[usize], what: impl Fn() -> String) -> Outcome<()> {
    match shape {
        [] => Err(Refusal::Value(format!(
            "{} must have at least one axis to be updated by rows, got shape {}; give its gradient \
             as an array",
            what(),
            Shape(shape)
        ))),
        _ => Ok(()),
    }
}

/// Refuses rows of a parameter of this shape that share blocks of its state; `way` is the way out.
pub fn check_whole_blocks(shape: &[usize], what: impl Fn() -> String, way: &str) -> Outcome<()> {
    let width = shape[1..].iter().product::<usize>();
    if width.is_multiple_of(e5m3::BLOCK) {
        return Ok(());
    }
    Err(Refusal::Value(format!(
        "rows of {} must have a multiple of {1} elements to be updated alone, because {1} elements \
         of its state in bytes share an exponent, got {width}; {way}",
        what(),
        e5m3::BLOCK
    )))
}

/// Refuses values whose shape is not that of `count` rows of a parameter.
pub fn check_values(
    values: &[usize],
    count: usize,
    parameter: &[usize],
    what: impl Fn() -> String,
) -> Outcome<()> {
    match values {
        [first, row @ ..] if *first == count && row == &parameter[1..] => Ok(()),
        _ => {
            let expected: Vec<usize> = [count].iter().chain(&parameter[1..]).copied().collect();
            Err(Refusal::Value(format!(
                "values of {} must have shape {}, a row of the parameter for each index, got {}",
                what(),
                Shape(&expected),
                Shape(values)
            )))
        }
    }
}

fn out_of_range(what: &str, index: i64, position: usize, height: Option<usize>) -> Refusal {
    let accepted = match height {
        None => "at least 0".to_owned(),
        Some(height) => format!("at least 0 and below {height}, the number of its rows"),
    };
    Refusal::Value(format!(
        "indices of {what} must be {accepted}, got {index} at position {position}"
    ))
}

/// The numbers of an array of int64 with one axis.
fn copy_of(array: &Bound<'_, PyUntypedArray>) -> Option<Vec<i64>> {
    let memory = Memory::of(array);
    let fits = storage_of(array) == Some(Storage::Count)
        && memory.shape.len() == 1
        && memory.c_contiguous()
        && memory.aligned();
    // SAFETY: the array has that many aligned numbers of this type, as was just checked. The caller
    // guarantees that no other thread resizes or writes it meanwhile.
    fits.then(|| unsafe { slice_of(&memory) }.to_vec())
}

/// # Safety
///
/// The array is contiguous, aligned, of int64, and nothing writes or resizes it for `'a`.
unsafe fn slice_of<'a>(memory: &Memory<'a>) -> &'a [i64] {
    match memory.len() {
        0 => &[],
        // SAFETY: the caller's promise.
        len => unsafe { std::slice::from_raw_parts(memory.address.cast(), len) },
    }
}
