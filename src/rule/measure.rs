//! Measures of a tensor before its update, and the factors that they put on its step.

use crate::number::element::Element;

/// A mean over the elements of a tensor, each element the square of a quantity.
///
/// With the gradient `g` after the intake:
///
/// ```text
/// Agreement   1 where the direction of the step has the sign of g, else 0
/// Ratio       g / max(√v/√(1-β2^t), eps)
/// ```
///
/// Sources: Liang et al., *Cautious Optimizers: Improving Training with One Line of Code*,
/// algorithm 2, for the agreement; Wortsman et al., *Stable and low-precision training for
/// large-scale vision-language models*, algorithm 2 (StableAdamW), for the ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The part of the elements whose change is applied by a cautious rule.
    Agreement,
    /// The mean square of the update, before it is multiplied by the learning rate.
    Ratio,
}

/// The factors that measures put on a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// On the learning rate.
    pub rate: f64,
    /// On the changes that agree with the gradient.
    pub agreeing: f64,
}

impl Factors {
    /// The factors before anything is measured.
    pub const ONE: Self = Factors { rate: 1.0, agreeing: 1.0 };
}

impl Measure {
    /// Every measure.
    pub const ALL: [Measure; 2] = [Measure::Agreement, Measure::Ratio];
}

/// The change of a cautious rule: only where it has the sign of the gradient, and there multiplied by
/// a factor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caution<E> {
    pub(super) on: bool,
    factor: E,
}

impl<E: Element> Caution<E> {
    pub(super) fn new(on: bool, factors: Factors) -> Self {
        Caution { on, factor: E::from_f64(factors.agreeing) }
    }

    #[inline(always)]
    pub(super) fn apply(&self, change: E, g: E) -> E {
        // A NaN is kept.
        if self.on { if_agreed(change, g, self.factor) * change } else { change }
    }
}

/// One if a direction has the sign of the gradient, else zero.
#[inline(always)]
pub(super) fn agreement<E: Element>(direction: E, g: E) -> E {
    if_agreed(direction, g, E::ONE)
}

/// `value` if `x` and `g` have the same sign, else zero. Written as choices of numbers: with `&&` and
/// `||`, loops do not use full vectors.
#[inline(always)]
fn if_agreed<E: Element>(x: E, g: E, value: E) -> E {
    let up = if g > E::ZERO { x } else { E::ZERO };
    let down = if g < E::ZERO { x } else { E::ZERO };
    let agreed = if up > E::ZERO { value } else { E::ZERO };
    if down < E::ZERO { value } else { agreed }
}

/// The gradient, divided by the root of its second moment, which is at least `eps`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio<E> {
    correction: E,
    eps: E,
}

impl<E: Element> Ratio<E> {
    /// `second` is `1-β2^t`.
    pub(super) fn new(second: f64, eps: f64) -> Self {
        Ratio { correction: E::from_f64(1.0 / second.sqrt()), eps: E::from_f64(eps) }
    }

    /// The quotient, from the second moment; a NaN is kept.
    #[inline(always)]
    pub(super) fn of(&self, g: E, v: E) -> E {
        let root = v.sqrt() * self.correction;
        let root = if root < self.eps { self.eps } else { root };
        g.flush(E::FLOORS.square) / root
    }
}
