//! The memory limit, measured on NumPy arrays, for benchmarks.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::interpreter::errors::Refusal;
use crate::interpreter::exit::Presence;
use thalweg::error::Error;
use thalweg::machine::levels::Level;
use thalweg::machine::memory_limit::{Word, stream};
use thalweg::machine::threads::num_threads;

/// Combines the bits of one to four written arrays with those of the array that is read (exclusive
/// or), on the threads of a step. Arrays are contiguous, of one dimension and float32 or float64.
#[pyfunction(name = "stream")]
pub fn stream_arrays(
    py: Python<'_>,
    written: Vec<Bound<'_, PyAny>>,
    read: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let _presence = Presence::begin(py);
    match read.extract::<PyReadonlyArray1<'_, f32>>() {
        Ok(read) => run(py, &written, &read),
        Err(_) => run(py, &written, &read.extract::<PyReadonlyArray1<'_, f64>>()?),
    }
}

fn run<E: Word + numpy::Element>(
    py: Python<'_>,
    written: &[Bound<'_, PyAny>],
    read: &PyReadonlyArray1<'_, E>,
) -> PyResult<()> {
    // Borrowing refuses arrays that are read-only or given twice.
    let arrays = written.iter().map(|array| array.extract::<PyReadwriteArray1<'_, E>>());
    let mut arrays = arrays.collect::<PyResult<Vec<_>>>()?;
    let slices = arrays.iter_mut().map(|array| Ok(array.as_slice_mut()?));
    let mut slices = slices.collect::<PyResult<Vec<&mut [E]>>>()?;
    let read = read.as_slice()?;
    let (level, threads) = (Level::current(), num_threads().0);
    let done = py.detach(|| match &mut slices[..] {
        [a] => stream([a], read, level, threads),
        [a, b] => stream([a, b], read, level, threads),
        [a, b, c] => stream([a, b, c], read, level, threads),
        [a, b, c, d] => stream([a, b, c, d], read, level, threads),
        other => Err(Error::State { got: other.len(), expected: &[1, 2, 3, 4] }),
    });
    Ok(done.map_err(Refusal::from)?)
}
