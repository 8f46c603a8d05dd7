//! Lion.

use super::hyperparameter::Choice::{self, Cautious, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{self, Beta1, Beta2, Lr, WeightDecay};
use super::measure::{Caution, Factors, Measure, agreement};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of Lion.
///
/// With `g <- ±scale·g` and `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// c <- mix(m, g, β1)
/// m <- mix(m, g, β2)
/// p <- p - ( d·p + lr·sign(c) )
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// The sign of zero is zero.
///
/// Source: Chen et al., *Symbolic Discovery of Optimization Algorithms*, algorithm 2.
///
/// Difference: `independent` decays by `weight_decay` itself; the paper multiplies it by `lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Learning rate, at least 0: the change of each parameter in a step.
    pub lr: f64,
    /// Weight of the average in the direction, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the average, in `[0, 1)`.
    pub beta2: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
    pub independent: bool,
    /// Apply only changes that have the sign of the gradient, divided by their part of the elements.
    pub cautious: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
    /// The factors of measures.
    pub factors: Factors,
}

impl Default for Lion {
    /// Lion without decay: `lr` 1e-4, betas 0.9 and 0.99.
    fn default() -> Self {
        Lion::NEW
    }
}

impl Hyperparameters for Lion {
    const NEW: Self = Lion {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.0,
        independent: false,
        cautious: false,
        maximize: false,
        factors: Factors::ONE,
    };

    type Step<E: Element> = LionStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            WeightDecay => Some(&mut self.weight_decay),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        match choice {
            Independent => Some(&mut self.independent),
            Cautious => Some(&mut self.cautious),
            Maximize => Some(&mut self.maximize),
            _ => None,
        }
    }

    fn factors(&mut self) -> Option<&mut Factors> {
        Some(&mut self.factors)
    }

    fn coefficients<E: Element>(&self, _step: u64, intake: Intake) -> Result<LionStep<E>, Error> {
        let Lion { lr, beta1, beta2, .. } = *self;
        Ok(LionStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            direction: Mix::new(beta1),
            average: Mix::new(beta2),
            lr: rounded(Lr, lr, lr)?,
            caution: Caution::new(self.cautious, self.factors),
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
        })
    }
}

/// The coefficients of one [`Lion`] update.
#[derive(Clone, Copy, Debug)]
pub struct LionStep<E> {
    gradient: Gradient<E>,
    direction: Mix<E>,
    average: Mix<E>,
    lr: E,
    caution: Caution<E>,
    descent: Descent<E>,
}

/// Usual coefficients: no limit, no caution, and both betas at least 1/2.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(LionStep<E>);

impl<E: Element> LionStep<E> {
    #[inline(always)]
    fn apply<const USUAL: bool>(&self, p: E, g: E, m: E) -> (E, E) {
        let g = self.gradient.read::<USUAL>(p, g);
        let m = m.flush(E::FLOORS.average);
        let c = self.direction.of::<USUAL>(m, g);
        // Zero and NaN are their own direction.
        let change = if c > E::ZERO { self.lr } else { c };
        let change = if c < E::ZERO { E::ZERO - self.lr } else { change };
        let change = if USUAL { change } else { self.caution.apply(change, g) };
        (self.descent.apply::<USUAL>(p, change), self.average.of::<USUAL>(m, g))
    }
}

impl<E: Element> Step<E> for LionStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::INFINITY)
    }
}

impl<E: Element> Formula<E, 1> for LionStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        let from_new = self.direction.from_new || self.average.from_new;
        let usual = self.gradient.is_usual() && !self.caution.on && !from_new;
        usual.then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
        let (p, m) = self.apply::<false>(p, g, m);
        (p, [m])
    }

    #[inline(always)]
    fn measure(&self, _measure: Measure, g: E, [m]: [E; 1]) -> E {
        let g = self.gradient.read::<false>(E::ZERO, g);
        agreement(self.direction.of::<false>(m.flush(E::FLOORS.average), g), g)
    }
}

impl<E: Element> Formula<E, 1> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
        let (p, m) = self.0.apply::<true>(p, g, m);
        (p, [m])
    }
}
