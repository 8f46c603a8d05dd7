//! Adam with Nesterov's momentum.

use super::hyperparameter::Choice::{self, Cautious, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{self, Beta1, Beta2, Eps, Lr, UpdateRms, WeightDecay};
use super::measure::{Caution, Factors, Measure, Ratio, agreement};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::functions::one_minus_power;

/// Hyperparameters of Adam with Nesterov's momentum.
///
/// At step `t`, counted from 1 for each parameter, with `g <- ±scale·g` and
/// `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// m <- mix(m, g,  β1)
/// v <- mix(v, g², β2)
/// p <- p - ( d·p + ( [lr·β1/(1-β1^(t+1))]·m + [lr·(1-β1)/(1-β1^t)]·g )
///                  / ( √v·[1/√(1-β2^t)] + eps ) )
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// Square brackets are scalars, computed in `f64` once per step and rounded once.
///
/// Source: Dozat, *Incorporating Nesterov Momentum into Adam*, algorithm 2, with a constant β1.
///
/// Difference: the paper and PyTorch let β1 grow with the step (`momentum_decay`); optax does not.
/// The paper also multiplies the corrected `v` by β2; PyTorch, optax and Keras do not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NAdam {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
    pub independent: bool,
    /// Limit on the root mean square of the update, by which the learning rate is reduced, at least
    /// 0; 0 for no limit.
    pub update_rms: f64,
    /// Apply only changes that have the sign of the gradient, divided by their part of the elements.
    pub cautious: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
    /// The factors of measures.
    pub factors: Factors,
}

impl Default for NAdam {
    /// Without decay: `lr` 1e-3, betas 0.9 and 0.999, `eps` 1e-8.
    fn default() -> Self {
        NAdam::NEW
    }
}

impl Hyperparameters for NAdam {
    const NEW: Self = NAdam {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        independent: false,
        update_rms: 0.0,
        cautious: false,
        maximize: false,
        factors: Factors::ONE,
    };

    type Step<E: Element> = NAdamStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            Eps => Some(&mut self.eps),
            WeightDecay => Some(&mut self.weight_decay),
            UpdateRms => Some(&mut self.update_rms),
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

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<NAdamStep<E>, Error> {
        let NAdam { beta1, beta2, eps, .. } = *self;
        let lr = self.lr * self.factors.rate;
        let (first, second) = (one_minus_power(beta1, step), one_minus_power(beta2, step));
        // `1 - β1^(t+1)`, also for the largest step.
        let next = first + (1.0 - first) * (1.0 - beta1);
        Ok(NAdamStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            first: Mix::new(beta1),
            second: Mix::new(beta2),
            by_average: rounded(Lr, lr, lr * beta1 / next)?,
            by_gradient: rounded(Lr, lr, lr * (1.0 - beta1) / first)?,
            correction: E::from_f64(1.0 / second.sqrt()),
            eps: rounded(Eps, eps, eps)?,
            ratio: Ratio::new(second, eps),
            caution: Caution::new(self.cautious, self.factors),
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
        })
    }
}

/// The coefficients of one [`NAdam`] update.
#[derive(Clone, Copy, Debug)]
pub struct NAdamStep<E> {
    gradient: Gradient<E>,
    first: Mix<E>,
    second: Mix<E>,
    by_average: E,
    by_gradient: E,
    correction: E,
    eps: E,
    ratio: Ratio<E>,
    caution: Caution<E>,
    descent: Descent<E>,
}

/// Usual coefficients: no limit, no caution, and both betas at least 1/2.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(NAdamStep<E>);

impl<E: Element> NAdamStep<E> {
    #[inline(always)]
    fn moments<const USUAL: bool>(&self, g: E, [m, v]: [E; 2]) -> [E; 2] {
        let h = g.flush(E::FLOORS.square);
        let m = self.first.of::<USUAL>(m.flush(E::FLOORS.average), g);
        let v = self.second.of::<USUAL>(v.flush(E::FLOORS.average_sq), h * h);
        [m, v]
    }

    /// The direction of the step.
    #[inline(always)]
    fn ahead(&self, g: E, m: E) -> E {
        self.by_average * m + self.by_gradient * g
    }

    #[inline(always)]
    fn apply<const USUAL: bool>(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        let g = self.gradient.read::<USUAL>(p, g);
        let [m, v] = self.moments::<USUAL>(g, state);
        let change = self.ahead(g, m) / (v.sqrt() * self.correction + self.eps);
        let change = if USUAL { change } else { self.caution.apply(change, g) };
        (self.descent.apply::<USUAL>(p, change), [m, v])
    }
}

impl<E: Element> Step<E> for NAdamStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled and squared.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 2> for NAdamStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        let from_new = self.first.from_new || self.second.from_new;
        let usual = self.gradient.is_usual() && !self.caution.on && !from_new;
        usual.then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        self.apply::<false>(p, g, state)
    }

    #[inline(always)]
    fn measure(&self, measure: Measure, g: E, state: [E; 2]) -> E {
        let g = self.gradient.read::<false>(E::ZERO, g);
        let [m, v] = self.moments::<false>(g, state);
        match measure {
            Measure::Agreement => agreement(self.ahead(g, m), g),
            Measure::Ratio => self.ratio.of(g, v),
        }
    }
}

impl<E: Element> Formula<E, 2> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        self.0.apply::<true>(p, g, state)
    }
}
