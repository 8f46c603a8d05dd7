//! Weight decay alone.

use super::hyperparameter::Hyperparameter::WeightDecay;
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Intake};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of `p <- p - rate·p`; the gradient is not used.
///
/// Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, equation 1. This is the
/// decay term of the other rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    /// Decay rate, finite and at least 0.
    pub rate: f64,
}

/// The coefficients of one [`Decay`].
#[derive(Clone, Copy, Debug)]
pub struct DecayStep<E> {
    descent: Descent<E>,
}

impl Hyperparameters for Decay {
    const NEW: Self = Decay { rate: 0.0 };

    type Step<E: Element> = DecayStep<E>;

    /// Coefficients do not depend on the step.
    fn coefficients<E: Element>(&self, _step: u64, _intake: Intake) -> Result<DecayStep<E>, Error> {
        let descent =
            WeightDecay.check(self.rate, E::KIND).and_then(|rate| Descent::new(1.0, rate, true));
        let descent = descent.map_err(|error| match error {
            Error::Hyperparameter { value, allowed, .. } => {
                Error::Hyperparameter { name: "rate", value, allowed }
            }
            other => other,
        })?;
        Ok(DecayStep { descent })
    }
}

impl<E: Element> Step<E> for DecayStep<E> {}

impl<E: Element> Formula<E, 0> for DecayStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, _g: E, []: [E; 0]) -> (E, [E; 0]) {
        (self.descent.apply::<false>(p, E::ZERO), [])
    }
}
