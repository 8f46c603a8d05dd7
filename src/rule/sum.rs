//! Weighted sums of gradients.

use super::{Gradient, Rule, rounded};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;
use crate::rule::Hyperparameter;

/// The coefficients of one addition to a sum of gradients; the "parameter" of the rule is the sum.
///
/// ```text
/// s <- weight·g       the first time
/// s <- s + weight·g   after that
/// ```
///
/// The first addition does not read the sum, so that there is nothing to set to zero before it.
/// Magnitudes of `weight·g` below the floor of gradients count as zero, as in every rule.
#[derive(Clone, Copy, Debug)]
pub struct Sum<E> {
    gradient: Gradient<E>,
    first: bool,
}

impl<E: Element> Sum<E> {
    /// Addition number `step`, counted from 1, of a gradient times `weight`.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a weight that is not finite and above 0, [`Error::Step`] for
    /// step 0.
    pub fn at_step(step: u64, weight: f64) -> Result<Self, Error> {
        let weight = Hyperparameter::Weight.check(weight, E::KIND)?;
        if step == 0 {
            return Err(Error::Step);
        }
        in_default_mode(|| {
            rounded::<E>(Hyperparameter::Weight, weight, weight)?;
            Ok(Sum { gradient: Gradient::new(weight.into(), false, 0.0)?, first: step == 1 })
        })
    }
}

impl<E: Element> Rule<E, 0> for Sum<E> {
    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        let g = self.gradient.read::<true>(p, g);
        (if self.first { g } else { p + g }, [])
    }
}
