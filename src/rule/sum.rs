//! Weighted sums of gradients.

use super::hyperparameter::Hyperparameter;
use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Gradient, Intake, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// A weighted sum of gradients; it has no hyperparameters. The "parameter" of this rule is the sum,
/// and the weight is the scale of the intake.
///
/// ```text
/// s <- weight·g       first update
/// s <- s + weight·g   later updates
/// ```
///
/// The first update does not read the sum, so the array needs no initialisation. Magnitudes of
/// `weight·g` below the floor of gradients count as zero, as in every rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum;

/// The coefficients of one addition to a [`Sum`].
#[derive(Clone, Copy, Debug)]
pub struct SumStep<E> {
    gradient: Gradient<E>,
    first: bool,
}

impl Hyperparameters for Sum {
    const NEW: Self = Sum;

    type Step<E: Element> = SumStep<E>;

    /// `intake.scale`, the weight, must be finite and above 0.
    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<SumStep<E>, Error> {
        let weight = Hyperparameter::Weight.check(intake.scale, E::KIND)?;
        rounded::<E>(Hyperparameter::Weight, weight, weight)?;
        Ok(SumStep { gradient: Gradient::new(weight.into(), false, 0.0)?, first: step == 1 })
    }
}

impl<E: Element> Step<E> for SumStep<E> {}

impl<E: Element> Formula<E, 0> for SumStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        let g = self.gradient.read::<true>(p, g);
        (if self.first { g } else { p + g }, [])
    }
}
