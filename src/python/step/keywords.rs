//! The keyword arguments of a step, checked.

use pyo3::prelude::*;
use thalweg::step::setting::Clip;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::values::hyper::{flag, real};
use thalweg::error::Number;

pub fn scale_argument(given: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(real("scale", given)?)
}

pub fn partial_argument(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(flag("partial", given)?)
}

pub fn stats_argument(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(flag("stats", given)?)
}

/// A limit, if it is above 0. It may be infinite.
pub fn limit(name: &str, given: &Bound<'_, PyAny>) -> Outcome<f64> {
    let limit = real(name, given)?;
    if limit > 0.0 {
        return Ok(limit);
    }
    Err(Refusal::Value(format!("{name} must be greater than 0, got {}", Number(limit))))
}

/// The clip of a step, from at most one limit.
pub fn clip_argument(limits: &[(&'static str, Option<&Bound<'_, PyAny>>)]) -> Outcome<Clip> {
    let mut given = Vec::new();
    for (name, object) in limits.iter().copied() {
        if let Some(object) = object {
            given.push((name, limit(name, object)?));
        }
    }
    match given[..] {
        [] => Ok(Clip::No),
        [("max_norm", limit)] => Ok(Clip::Norm(limit)),
        [("max_tensor_norm", limit)] => Ok(Clip::TensorNorm(limit)),
        [(_, limit)] => Ok(Clip::Value(limit)),
        [(one, _), (other, _), ..] => {
            Err(Refusal::Value(format!("{one} and {other} cannot be combined; pass one of them")))
        }
    }
}
