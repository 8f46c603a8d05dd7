//! Terms shared by the rules: the intake of a gradient, the step of an average, the descent of a
//! parameter.

use super::hyperparameter::Hyperparameter;
use super::measure::Measure;
use crate::error::{Error, Number};
use crate::number::element::Element;

/// The update of one element with `N` state numbers.
pub trait Formula<E: Element, const N: usize>: Copy + Send + Sync {
    /// The form for usual coefficients; `Self` if there is no separate form.
    type Usual: Formula<E, N>;

    /// The usual form, if these coefficients take the usual side of every branch; the loop around
    /// it then has no branches. Measured in cache: with SSE2 it takes 0.75 of the time, with AVX2
    /// the same time.
    fn usual(&self) -> Option<Self::Usual> {
        None
    }

    /// The new parameter and state, from the old ones and the unmodified gradient.
    ///
    /// Implementations are `#[inline(always)]` and branch only on coefficients, so that the loop
    /// around them vectorises.
    fn update(&self, p: E, g: E, state: [E; N]) -> (E, [E; N]);

    /// Whether [`Formula::state`] and [`Formula::parameter`] do the same in two parts.
    const IN_PARTS: bool = false;

    /// The first part: the new state.
    #[inline(always)]
    fn state(&self, p: E, g: E, state: [E; N]) -> [E; N] {
        self.update(p, g, state).1
    }

    /// Magnitudes below which the first part takes state numbers for zero.
    const FLOORS: [E; N] = [E::ZERO; N];

    /// The first part of state numbers that are zero or not below their floors.
    #[inline(always)]
    fn state_of_flushed(&self, p: E, g: E, state: [E; N]) -> [E; N] {
        self.state(p, g, state)
    }

    /// The quantity of a measure, from the unmodified gradient and the old state. Only called for
    /// coefficients that need the measure.
    #[inline(always)]
    fn measure(&self, _measure: Measure, _g: E, _state: [E; N]) -> E {
        E::ZERO
    }

    /// The second part: the new parameter, from the old one and the new state. Only called if the
    /// update is in parts.
    #[inline(always)]
    fn parameter(&self, p: E, _state: [E; N]) -> E {
        p
    }
}

/// The operations on a gradient before a rule uses it: `g <- scale·g`, then `g` is clipped to
/// `[-max_value, max_value]`.
///
/// An `f64` converts to a scale without a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intake {
    /// Factor, at least 0.
    pub scale: f64,
    /// Largest magnitude after clipping, above 0; infinity means no limit.
    pub max_value: f64,
}

impl From<f64> for Intake {
    fn from(scale: f64) -> Self {
        Intake { scale, max_value: f64::INFINITY }
    }
}

/// The gradient term of a rule: `g <- ±clip(scale·g) + l2·p`, with the negative sign to maximise.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<E> {
    floor: E,
    factor: E,
    limit: E,
    /// The negative limit.
    least: E,
    l2: E,
}

impl<E: Element> Gradient<E> {
    /// Clips to the limit; NaN is kept.
    #[inline(always)]
    fn clipped(&self, g: E) -> E {
        let g = if g > self.limit { self.limit } else { g };
        if g < self.least { self.least } else { g }
    }

    pub(super) fn new(intake: Intake, maximize: bool, l2: f64) -> Result<Self, Error> {
        let Intake { scale, max_value } = intake;
        let floors = E::FLOORS;
        let limit = E::from_f64(max_value).flush(floors.tiny);
        Ok(Gradient {
            // Compared with the unscaled gradient, so that the product is not subnormal either.
            floor: E::from_f64((floors.grad.to_f64() / scale).max(floors.tiny.to_f64())),
            factor: rounded(Hyperparameter::Scale, scale, if maximize { -scale } else { scale })?,
            limit,
            least: E::ZERO - limit,
            l2: rounded(Hyperparameter::L2, l2, l2)?,
        })
    }

    /// Whether there is neither penalty nor limit.
    pub(super) fn is_usual(&self) -> bool {
        self.l2 == E::ZERO && self.limit == E::INFINITY
    }

    /// Whether a gradient of this magnitude is finite and, after the intake, below `bound`.
    #[inline(always)]
    pub(super) fn admits(&self, magnitude: E, bound: E) -> bool {
        let scaled = self.factor.abs() * magnitude;
        let taken = if scaled > self.limit { self.limit } else { scaled };
        magnitude < E::INFINITY && taken < bound
    }

    #[inline(always)]
    pub(super) fn read<const USUAL: bool>(&self, p: E, g: E) -> E {
        let g = self.factor * g.flush(self.floor);
        let g = if USUAL { g } else { self.clipped(g) };
        if USUAL || self.l2 == E::ZERO { g } else { g + self.l2 * p.flush(E::FLOORS.grad) }
    }
}

/// `β·x + (1-β)·y`, computed as a step from the nearer end: `x + (1-β)·(y-x)` for `β ≥ 1/2`, else
/// `y - β·(y-x)`. The weights sum to one exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix<E> {
    pub(super) from_new: bool,
    rate: E,
}

impl<E: Element> Mix<E> {
    pub(super) fn new(beta: f64) -> Self {
        let from_new = beta < 0.5;
        Mix { from_new, rate: E::from_f64(if from_new { -beta } else { 1.0 - beta }) }
    }

    /// As [`Mix::new`] for `β = 1 - rate`, when `rate` is known more precisely than `β`.
    pub(super) fn with_rate(rate: f64) -> Self {
        let from_new = rate > 0.5;
        Mix { from_new, rate: E::from_f64(if from_new { rate - 1.0 } else { rate }) }
    }

    #[inline(always)]
    pub(super) fn of<const USUAL: bool>(&self, x: E, y: E) -> E {
        let base = if !USUAL && self.from_new { y } else { x };
        base + self.rate * (y - x)
    }

    /// The two terms of [`Mix::of`], for a rule that has a third; a distance below `floor` is zero.
    #[inline(always)]
    pub(super) fn parts<const USUAL: bool>(&self, x: E, y: E, floor: E) -> (E, E) {
        let base = if !USUAL && self.from_new { y } else { x };
        (base, self.rate * (y - x).flush(floor))
    }
}

/// `p <- p - (rate·p + change)`. Decay and change are added first, so `p` is rounded once, and a
/// decay too small to move `p` alone still counts. A rate of zero omits the decay term.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descent<E> {
    /// Negative zero if there is no decay.
    rate: E,
    /// The smallest magnitude that decays; NaN, which no magnitude reaches, if there is no decay.
    floor: E,
}

impl<E: Element> Descent<E> {
    /// The rate is `weight_decay` if `independent`, else `lr·weight_decay`.
    pub(super) fn new(lr: f64, weight_decay: f64, independent: bool) -> Result<Self, Error> {
        let rate = if independent { weight_decay } else { lr * weight_decay };
        let rate = rounded(Hyperparameter::WeightDecay, weight_decay, rate)?;
        Ok(if rate == E::ZERO {
            Descent { rate: E::from_f64(-0.0), floor: E::from_f64(f64::NAN) }
        } else {
            Descent { rate, floor: E::FLOORS.grad }
        })
    }

    /// `rate·p + change`, for a rule that subtracts it from more than the parameter.
    #[inline(always)]
    pub(super) fn change(&self, p: E, change: E) -> E {
        if self.rate == E::ZERO { change } else { self.rate * p.flush(E::FLOORS.grad) + change }
    }

    /// The new parameter. `USUAL` has no branch: without decay it adds negative zero, which changes
    /// no number, and a NaN in `p` reaches the result by the subtraction. Beside branches, this form
    /// takes 1.07 times as long.
    #[inline(always)]
    pub(super) fn apply<const USUAL: bool>(&self, p: E, change: E) -> E {
        if USUAL {
            let decaying = if p.abs() >= self.floor { p } else { E::ZERO };
            p - (self.rate * decaying + change)
        } else {
            p - self.change(p, change)
        }
    }
}

/// Rounds a coefficient to the element type and refuses an infinite result. `given` is the
/// hyperparameter value to report.
pub(super) fn rounded<E: Element>(
    name: Hyperparameter,
    given: f64,
    coefficient: f64,
) -> Result<E, Error> {
    let rounded = E::from_f64(coefficient);
    if rounded.abs() == E::INFINITY {
        let allowed = format!(
            "small enough for the coefficient {} to be finite in {}",
            Number(coefficient.abs()),
            E::KIND.name()
        );
        return Err(Error::Hyperparameter { name: name.name(), value: given, allowed });
    }
    Ok(rounded)
}
