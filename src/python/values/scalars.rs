//! Scalar functions and argument checks for `python/thalweg/schedule`.

use pyo3::prelude::*;

use crate::values::hyper::{real, whole};
use thalweg::number::functions;

/// `(1 + cos(π·done))/2`. `left` is `1 - done`, computed by the caller without cancellation.
#[pyfunction]
pub fn half_cosine(done: f64, left: f64) -> f64 {
    functions::half_cosine(done, left)
}

/// `base` to the power of `exponent`.
#[pyfunction]
pub fn power(base: f64, exponent: f64) -> f64 {
    functions::power(base, exponent)
}

/// The number `value` as a float.
#[pyfunction]
pub fn check_number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(real(name, value)?)
}

/// The whole number `value`, of at least `least`, as an int.
#[pyfunction]
pub fn check_whole(name: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<u64> {
    Ok(whole(value, name, least)?)
}
