//! RMSprop.

use super::hyperparameter::Choice::{self, Centered, Maximize};
use super::hyperparameter::Hyperparameter::{self, Alpha, Eps, L2, Lr, Momentum};
use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of RMSprop.
///
/// With `g <- ±scale·g + l2·p` and `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// v <- mix(v, g², alpha)
/// a <- mix(a, g, alpha) if centered, else 0
/// h <- g / ( √max(v - a², 0) + eps )
/// b <- momentum·b + h;  without a buffer b <- h
/// p <- p - lr·b
/// ```
///
/// Source: Tieleman and Hinton, *Neural Networks for Machine Learning*, lecture 6.5; Graves,
/// *Generating Sequences With Recurrent Neural Networks*, equations 38 to 41, for the centered form.
///
/// Differences: `eps` is outside the root, as in PyTorch; Graves, Keras and optax add it inside.
/// Rounding can make `v - a²` negative, which counts as zero here; PyTorch's result is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the averages, in `[0, 1)`.
    pub alpha: f64,
    /// Added to the root; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Penalty added to the gradient as `l2·p`, at least 0.
    pub l2: f64,
    /// Momentum, in `[0, 1]`.
    pub momentum: f64,
    /// Divide by the deviation from the average gradient, which has a state array.
    pub centered: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for RmsProp {
    /// Without momentum: `lr` 1e-2, `alpha` 0.99, `eps` 1e-8.
    fn default() -> Self {
        RmsProp::NEW
    }
}

impl Hyperparameters for RmsProp {
    const NEW: Self = RmsProp {
        lr: 1e-2,
        alpha: 0.99,
        eps: 1e-8,
        l2: 0.0,
        momentum: 0.0,
        centered: false,
        maximize: false,
    };

    type Step<E: Element> = RmsPropStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Alpha => Some(&mut self.alpha),
            Eps => Some(&mut self.eps),
            L2 => Some(&mut self.l2),
            Momentum => Some(&mut self.momentum),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        match choice {
            Centered => Some(&mut self.centered),
            Maximize => Some(&mut self.maximize),
            _ => None,
        }
    }

    fn coefficients<E: Element>(
        &self,
        _step: u64,
        intake: Intake,
    ) -> Result<RmsPropStep<E>, Error> {
        let RmsProp { lr, eps, .. } = *self;
        Ok(RmsPropStep {
            gradient: Gradient::new(intake, self.maximize, self.l2)?,
            average: Mix::new(self.alpha),
            eps: rounded(Eps, eps, eps)?,
            momentum: E::from_f64(self.momentum),
            centered: self.centered,
            least: if self.centered { E::ZERO } else { E::ZERO - E::INFINITY },
            lr: rounded(Lr, lr, lr)?,
        })
    }
}

/// The coefficients of one [`RmsProp`] update.
///
/// The [`Formula`] with one state number is plain, the one with three is centered and has momentum.
/// With two, the second is the average if the rule is centered, else the momentum buffer.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropStep<E> {
    gradient: Gradient<E>,
    average: Mix<E>,
    eps: E,
    momentum: E,
    centered: bool,
    /// The least variance: 0 if centered, else negative infinity.
    least: E,
    lr: E,
}

impl<E: Element> RmsPropStep<E> {
    /// The average of squares.
    #[inline(always)]
    fn squares(&self, g: E, v: E) -> E {
        let h = g.flush(E::FLOORS.square);
        self.average.of::<false>(v.flush(E::FLOORS.average_sq), h * h)
    }

    /// The average of gradients.
    #[inline(always)]
    fn mean(&self, g: E, a: E) -> E {
        self.average.of::<false>(a.flush(E::FLOORS.average), g)
    }

    /// The variance, from the average of squares and the average; a NaN is kept.
    #[inline(always)]
    fn variance(v: E, a: E, least: E) -> E {
        let a = a.flush(E::FLOORS.square);
        let variance = v - a * a;
        if variance < least { least } else { variance }
    }

    #[inline(always)]
    fn divided(&self, g: E, variance: E) -> E {
        g / (variance.sqrt() + self.eps)
    }

    #[inline(always)]
    fn moved(&self, h: E, b: E) -> E {
        self.momentum * b.flush(E::FLOORS.average) + h
    }

    #[inline(always)]
    fn descend(&self, p: E, b: E) -> E {
        p - self.lr * b
    }
}

impl<E: Element> Step<E> for RmsPropStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled and squared.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 1> for RmsPropStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [v]: [E; 1]) -> (E, [E; 1]) {
        let g = self.gradient.read::<false>(p, g);
        let v = self.squares(g, v);
        (self.descend(p, self.divided(g, v)), [v])
    }
}

impl<E: Element> Formula<E, 2> for RmsPropStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [v, other]: [E; 2]) -> (E, [E; 2]) {
        let g = self.gradient.read::<false>(p, g);
        let v = self.squares(g, v);
        // With a branch around the variance, the loop does not vectorise.
        let a = if self.centered { self.mean(g, other) } else { E::ZERO };
        let h = self.divided(g, Self::variance(v, a, self.least));
        let b = if self.centered { h } else { self.moved(h, other) };
        (self.descend(p, b), [v, if self.centered { a } else { b }])
    }
}

impl<E: Element> Formula<E, 3> for RmsPropStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [v, a, b]: [E; 3]) -> (E, [E; 3]) {
        let g = self.gradient.read::<false>(p, g);
        let (v, a) = (self.squares(g, v), self.mean(g, a));
        let b = self.moved(self.divided(g, Self::variance(v, a, E::ZERO)), b);
        (self.descend(p, b), [v, a, b])
    }
}
