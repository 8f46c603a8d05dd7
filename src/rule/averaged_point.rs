//! The averaged point of a schedule-free parameter, in its place.

use super::hyperparameter::Hyperparameter::Beta1;
use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Intake, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// `k <- p;  p <- p - [(1-β1)/β1]·(z - p)`: the average `x` of `p = (1-β1)·z + β1·x`. `z` takes the
/// gradient's position, and the one state number `k` keeps the bits of `p`. Where `z = p`, `p` stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AveragedPoint {
    /// The β1 of the last step, in `(0, 1)`.
    pub beta1: f64,
}

/// The coefficients of an [`AveragedPoint`].
#[derive(Clone, Copy, Debug)]
pub struct AveragedPointStep<E> {
    beyond: E,
}

impl Hyperparameters for AveragedPoint {
    const NEW: Self = AveragedPoint { beta1: 0.9 };

    type Step<E: Element> = AveragedPointStep<E>;

    /// Coefficients do not depend on the step.
    fn coefficients<E: Element>(
        &self,
        _step: u64,
        _intake: Intake,
    ) -> Result<AveragedPointStep<E>, Error> {
        let beta1 = Beta1.check(self.beta1, E::KIND)?;
        Ok(AveragedPointStep { beyond: rounded(Beta1, beta1, (1.0 - beta1) / beta1)? })
    }
}

impl<E: Element> Step<E> for AveragedPointStep<E> {}

impl<E: Element> Formula<E, 1> for AveragedPointStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, z: E, [_]: [E; 1]) -> (E, [E; 1]) {
        (p - self.beyond * (z - p).flush(E::FLOORS.average), [p])
    }
}
