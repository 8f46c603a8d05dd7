//! The settings of a step.

use crate::machine::levels::Level;
use crate::rule::Intake;

/// The response to gradients that are NaN, infinite or too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// An error that names them; nothing is written.
    #[default]
    Raise,
    /// Nothing is written.
    Skip,
    /// The update, with what follows from them.
    Ignore,
}

/// The limit on gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// None.
    No,
    /// Norm of all gradients together.
    Norm(f64),
    /// Norm of each gradient.
    TensorNorm(f64),
    /// Magnitude of each element.
    Value(f64),
}

/// The settings for running a batch.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The CPU level.
    pub level: Level,
    /// The most threads.
    pub threads: usize,
    /// The response to gradients that a rule cannot take.
    pub policy: Policy,
    /// The limit on gradients.
    pub clip: Clip,
    /// A factor on the gradients.
    pub scale: f64,
    /// Whether the update computes norms in its pass, for which tensors are in logical order.
    pub measured: bool,
}

impl Setting {
    /// Whether the gradients must be read before the update.
    pub fn reads(&self) -> bool {
        self.policy != Policy::Ignore || matches!(self.clip, Clip::Norm(_) | Clip::TensorNorm(_))
    }

    /// The scale and the element limit of gradients, before any clip by norm.
    pub fn intake(&self) -> Intake {
        let max_value = match self.clip {
            Clip::Value(max_value) => max_value,
            _ => f64::INFINITY,
        };
        Intake { scale: self.scale, max_value }
    }
}
