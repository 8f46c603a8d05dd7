//! Exponential moving averages of parameters.

use super::{Mix, Rule, one_minus_power};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;
use crate::rule::Hyperparameter::Decay;

/// The coefficients of one update of an average; the "parameter" of the rule is the average, the
/// "gradient" what is averaged.
///
/// ```text
/// a <- decay·a + (1-decay)·x       as a step of rate r = 1-decay from a to x
/// r  = (1-decay)/(1-decay^t)       with bias correction, at update t
/// ```
///
/// With bias correction the corrected average itself is kept. It is `c = e/(1-decay^t)` with
/// `e <- decay·e + (1-decay)·x` from `e = 0`, and a line of algebra gives
/// `c <- c + r·(x-c)`: the first update has rate 1, and later ones need no division.
///
/// The step is taken from the nearer end, so `x = a` is a fixed point. Magnitudes of `x` and `a`
/// below the floors of gradients and averages count as zero.
///
/// Source: Kingma and Ba, *Adam*, section 3, for the correction.
#[derive(Clone, Copy, Debug)]
pub struct Average<E> {
    mix: Mix<E>,
}

impl<E: Element> Average<E> {
    /// Update number `step`, counted from 1, with a decay in `[0, 1)`.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a decay out of range, [`Error::Step`] for step 0.
    pub fn at_step(step: u64, decay: f64, bias_correction: bool) -> Result<Self, Error> {
        let decay = Decay.check(decay, E::KIND)?;
        if step == 0 {
            return Err(Error::Step);
        }
        in_default_mode(|| {
            let rate = 1.0 - decay;
            let rate = if bias_correction { rate / one_minus_power(decay, step) } else { rate };
            Ok(Average { mix: Mix::with_rate(rate) })
        })
    }
}

impl<E: Element> Rule<E, 0> for Average<E> {
    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        let (a, x) = (p.flush(E::FLOORS.average), g.flush(E::FLOORS.grad));
        (self.mix.of::<false>(a, x), [])
    }
}
