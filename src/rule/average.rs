//! Exponential moving averages of parameters.

use super::hyperparameter::Choice;
use super::hyperparameter::Hyperparameter::{self, Decay};
use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Intake, Mix};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::functions::one_minus_power;

/// Hyperparameters of a moving average. The "parameter" of this rule is the average; its "gradient"
/// is the averaged quantity.
///
/// ```text
/// a <- decay·a + (1-decay)·x       a step of rate r = 1-decay from a to x
/// r  = (1-decay)/(1-decay^t)       with bias correction, at update t
/// ```
///
/// With bias correction the array holds the corrected average itself, which is
/// `c = e/(1-decay^t)` with `e <- decay·e + (1-decay)·x` from `e = 0`. That is equivalent to
/// `c <- c + r·(x-c)`: the first update has rate 1, and no update divides an element.
///
/// The step starts from the nearer of `a` and `x`, so `x = a` is a fixed point. Magnitudes of `x`
/// and `a` below the floors of gradients and averages count as zero.
///
/// Source: Kingma and Ba, *Adam*, section 3, for the correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// Decay of the average, in `[0, 1)`.
    pub decay: f64,
    /// Correct the bias: the initial content of the array has no weight.
    pub bias_correction: bool,
}

/// The coefficients of one update of an [`Average`].
#[derive(Clone, Copy, Debug)]
pub struct AverageStep<E> {
    mix: Mix<E>,
}

impl Hyperparameters for Average {
    const NEW: Self = Average { decay: 0.0, bias_correction: false };

    type Step<E: Element> = AverageStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        (key == Decay).then_some(&mut self.decay)
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        (choice == Choice::BiasCorrection).then_some(&mut self.bias_correction)
    }

    /// The averaged quantity is not scaled or clipped.
    fn coefficients<E: Element>(
        &self,
        step: u64,
        _intake: Intake,
    ) -> Result<AverageStep<E>, Error> {
        let rate = 1.0 - self.decay;
        let rate =
            if self.bias_correction { rate / one_minus_power(self.decay, step) } else { rate };
        Ok(AverageStep { mix: Mix::with_rate(rate) })
    }
}

impl<E: Element> Step<E> for AverageStep<E> {}

impl<E: Element> Formula<E, 0> for AverageStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        let (a, x) = (p.flush(E::FLOORS.average), g.flush(E::FLOORS.grad));
        (self.mix.of::<false>(a, x), [])
    }
}
