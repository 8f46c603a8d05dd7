//! AdaBelief.

use super::hyperparameter::Choice::{self, Cautious, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{self, Beta1, Beta2, Eps, EpsRoot, Lr, WeightDecay};
use super::measure::{Caution, Factors, Measure, agreement};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::functions::one_minus_power;

/// Hyperparameters of AdaBelief.
///
/// At step `t`, counted from 1 for each parameter, with `g <- ±scale·g` and
/// `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// m <- mix(m, g,      β1)
/// s <- mix(s, (g-m)², β2) + eps_root
/// p <- p - ( d·p + [lr/(1-β1^t)]·m / ( √s·[1/√(1-β2^t)] + eps ) )
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// Square brackets are scalars, computed in `f64` once per step and rounded once.
///
/// Source: Zhuang et al., *AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
/// Gradients*, algorithm 2.
///
/// Difference: the paper has one ε for `eps` and `eps_root`; optax has both, as here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaBelief {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the average of squared deviations, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Added to the average of squared deviations at each step, and kept in it; at least 0.
    pub eps_root: f64,
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

impl Default for AdaBelief {
    /// Without decay: `lr` 1e-3, betas 0.9 and 0.999, `eps` 1e-15, `eps_root` 1e-16.
    fn default() -> Self {
        AdaBelief::NEW
    }
}

impl Hyperparameters for AdaBelief {
    const NEW: Self = AdaBelief {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-15,
        eps_root: 1e-16,
        weight_decay: 0.0,
        independent: false,
        cautious: false,
        maximize: false,
        factors: Factors::ONE,
    };

    type Step<E: Element> = AdaBeliefStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            Eps => Some(&mut self.eps),
            EpsRoot => Some(&mut self.eps_root),
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

    fn coefficients<E: Element>(
        &self,
        step: u64,
        intake: Intake,
    ) -> Result<AdaBeliefStep<E>, Error> {
        let AdaBelief { lr, beta1, beta2, eps, eps_root, .. } = *self;
        Ok(AdaBeliefStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            first: Mix::new(beta1),
            second: Mix::new(beta2),
            eps_root: rounded::<E>(EpsRoot, eps_root, eps_root)?.flush(E::FLOORS.average_sq),
            step_size: rounded(Lr, lr, lr / one_minus_power(beta1, step))?,
            correction: E::from_f64(1.0 / one_minus_power(beta2, step).sqrt()),
            eps: rounded(Eps, eps, eps)?,
            caution: Caution::new(self.cautious, self.factors),
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
        })
    }
}

/// The coefficients of one [`AdaBelief`] update.
#[derive(Clone, Copy, Debug)]
pub struct AdaBeliefStep<E> {
    gradient: Gradient<E>,
    first: Mix<E>,
    second: Mix<E>,
    eps_root: E,
    step_size: E,
    correction: E,
    eps: E,
    caution: Caution<E>,
    descent: Descent<E>,
}

impl<E: Element> AdaBeliefStep<E> {
    #[inline(always)]
    fn average(&self, m: E, g: E) -> E {
        self.first.of::<false>(m.flush(E::FLOORS.average), g)
    }
}

impl<E: Element> Step<E> for AdaBeliefStep<E> {
    /// Whether a gradient of this magnitude is finite and stays finite when scaled, also the square
    /// of its difference from an average of such gradients.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::from_f64(0.5) * E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 2> for AdaBeliefStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [m, s]: [E; 2]) -> (E, [E; 2]) {
        let g = self.gradient.read::<false>(p, g);
        let m = self.average(m, g);
        let h = (g - m).flush(E::FLOORS.square);
        let s = self.second.of::<false>(s.flush(E::FLOORS.average_sq), h * h) + self.eps_root;
        let change = self.step_size * m / (s.sqrt() * self.correction + self.eps);
        (self.descent.apply::<false>(p, self.caution.apply(change, g)), [m, s])
    }

    #[inline(always)]
    fn measure(&self, _measure: Measure, g: E, [m, _]: [E; 2]) -> E {
        let g = self.gradient.read::<false>(E::ZERO, g);
        agreement(self.average(m, g), g)
    }
}
