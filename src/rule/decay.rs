//! Weight decay by itself.

use super::{Descent, Rule};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;
use crate::rule::Hyperparameter::WeightDecay;

/// The coefficients of `p <- p - rate·p`; the gradient is not used.
///
/// Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, equation 1: the decay
/// of every rule, taken out of it.
#[derive(Clone, Copy, Debug)]
pub struct Decay<E> {
    descent: Descent<E>,
}

impl<E: Element> Decay<E> {
    /// Decay by `rate`, which is finite and at least 0.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a rate out of range.
    pub fn new(rate: f64) -> Result<Self, Error> {
        let descent = WeightDecay
            .check(rate, E::KIND)
            .and_then(|rate| in_default_mode(|| Descent::new(1.0, rate, true)));
        let descent = descent.map_err(|error| match error {
            Error::Hyperparameter { value, allowed, .. } => {
                Error::Hyperparameter { name: "rate", value, allowed }
            }
            other => other,
        })?;
        Ok(Decay { descent })
    }
}

impl<E: Element> Rule<E, 0> for Decay<E> {
    #[inline(always)]
    fn update(&self, p: E, _g: E, []: [E; 0]) -> (E, [E; 0]) {
        (self.descent.apply::<false>(p, E::ZERO), [])
    }
}
