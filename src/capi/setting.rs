//! The settings and results of a step.

use std::sync::LazyLock;

use thalweg::error::Error;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::num_threads;
use thalweg::number::element::Kind;
use thalweg::rule::Hyperparameter;
use thalweg::step::setting::{Clip, Policy, Setting};

use crate::refusal::Refusal;
use crate::versioned::{Versioned, read};

/// `thalweg_step`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // the header has them
pub struct Step {
    pub size: usize,
    pub scale: f64,
    pub max_norm: f64,
    pub max_value: f64,
    pub nonfinite: i32,
    pub threads: i32,
    pub grad_norm: f64,
    pub clip: f64,
    pub refused: u64,
    pub overflowed: u64,
}

// SAFETY: numbers, the first of them the size.
unsafe impl Versioned for Step {
    const NAME: &'static str = "thalweg_step";
}

/// What a step found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Norm of the gradients, if they were read.
    pub grad_norm: Option<f64>,
    /// The factor of a limit on it.
    pub clip: f64,
    /// Number of refused elements.
    pub refused: u64,
    /// Number of parameters that left their range.
    pub overflowed: u64,
}

impl Step {
    /// The struct of a caller; defaults for null.
    ///
    /// # Safety
    ///
    /// `address` is null, or of such a struct, which nothing changes for `'a`.
    pub unsafe fn given<'a>(address: *const Step) -> Result<&'a Step, Refusal> {
        static DEFAULT: LazyLock<Step> = LazyLock::new(Step::default);
        match address.is_null() {
            true => Ok(&DEFAULT),
            // SAFETY: the caller's promise.
            false => unsafe { read(address) },
        }
    }

    /// The response to gradients that are not finite.
    pub fn policy(&self) -> Result<Policy, Refusal> {
        match self.nonfinite {
            0 => Ok(Policy::Raise),
            1 => Ok(Policy::Skip),
            2 => Ok(Policy::Ignore),
            got => Err(Refusal::invalid(format!(
                "nonfinite must be THALWEG_RAISE, THALWEG_SKIP or THALWEG_IGNORE, got {got}"
            ))),
        }
    }

    /// The most threads; `None` for as many as are useful.
    pub fn threads(&self) -> Result<Option<usize>, Refusal> {
        let threads = usize::try_from(self.threads).map_err(|_| {
            Refusal::invalid(format!("threads must be at least 0, got {}", self.threads))
        })?;
        Ok((threads > 0).then_some(threads))
    }

    /// The factor on the gradients.
    pub fn scale(&self) -> Result<f64, Refusal> {
        let scale = if self.scale == 0.0 { 1.0 } else { self.scale };
        Ok(Hyperparameter::Scale.check(scale, Kind::F64)?)
    }

    /// A limit, if it is not 0.
    pub fn limit(name: &'static str, value: f64) -> Result<Option<f64>, Refusal> {
        match value {
            0.0 => Ok(None),
            value if value > 0.0 => Ok(Some(value)),
            value => {
                let allowed = "greater than 0, or 0 for no limit".to_owned();
                Err(Error::Hyperparameter { name, value, allowed }.into())
            }
        }
    }

    /// The settings for the core.
    pub fn setting(&self) -> Result<Setting, Refusal> {
        let max_norm = Step::limit("max_norm", self.max_norm)?;
        let max_value = Step::limit("max_value", self.max_value)?;
        let clip = match (max_norm, max_value) {
            (None, None) => Clip::No,
            (Some(max_norm), None) => Clip::Norm(max_norm),
            (None, Some(max_value)) => Clip::Value(max_value),
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid("a step has one limit: max_norm or max_value"));
            }
        };
        Ok(Setting {
            level: Level::current(),
            threads: self.threads()?.unwrap_or_else(|| num_threads().0),
            policy: self.policy()?,
            clip,
            scale: self.scale()?,
            measured: false,
        })
    }

    /// Writes the results.
    ///
    /// # Safety
    ///
    /// `address` is null, or of such a struct.
    pub unsafe fn write(address: *mut Step, found: &Found) {
        if !address.is_null() {
            // SAFETY: the caller's promise.
            let step = unsafe { &mut *address };
            step.grad_norm = found.grad_norm.unwrap_or(-1.0);
            (step.clip, step.refused, step.overflowed) =
                (found.clip, found.refused, found.overflowed);
        }
    }
}
