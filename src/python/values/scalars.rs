//! Scalars for the schedules of `python/thalweg/schedule`: functions and checks.

use pyo3::prelude::*;

use crate::values::hyper::{real, whole};
use thalweg::number::functions;

/// What is left of a fall along half a cosine.
#[pyfunction]
pub fn half_cosine(done: f64, left: f64) -> f64 {
    functions::half_cosine(done, left)
}

/// A power.
#[pyfunction]
pub fn power(base: f64, exponent: f64) -> f64 {
    functions::power(base, exponent)
}

/// A number as a float.
#[pyfunction]
pub fn check_number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(real(name, value)?)
}

/// A whole number of at least `least` as an int.
#[pyfunction]
pub fn check_whole(name: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<u64> {
    Ok(whole(value, name, least)?)
}
