//! Adam with Nesterov's momentum.

use super::hyperparameter::Choice::{self, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{self, Beta1, Beta2, Eps, Lr, WeightDecay};
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
    /// Ascend instead of descend.
    pub maximize: bool,
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
        maximize: false,
    };

    type Step<E: Element> = NAdamStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            Eps => Some(&mut self.eps),
            WeightDecay => Some(&mut self.weight_decay),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        match choice {
            Independent => Some(&mut self.independent),
            Maximize => Some(&mut self.maximize),
            _ => None,
        }
    }

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<NAdamStep<E>, Error> {
        let NAdam { lr, beta1, beta2, eps, .. } = *self;
        let first = one_minus_power(beta1, step);
        // `1 - β1^(t+1)`, also for the largest step.
        let next = first + (1.0 - first) * (1.0 - beta1);
        Ok(NAdamStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            first: Mix::new(beta1),
            second: Mix::new(beta2),
            by_average: rounded(Lr, lr, lr * beta1 / next)?,
            by_gradient: rounded(Lr, lr, lr * (1.0 - beta1) / first)?,
            correction: E::from_f64(1.0 / one_minus_power(beta2, step).sqrt()),
            eps: rounded(Eps, eps, eps)?,
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
    descent: Descent<E>,
}

/// Usual coefficients: no limit, and both betas at least 1/2.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(NAdamStep<E>);

impl<E: Element> NAdamStep<E> {
    #[inline(always)]
    fn apply<const USUAL: bool>(&self, p: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
        let g = self.gradient.read::<USUAL>(p, g);
        let h = g.flush(E::FLOORS.square);
        let m = self.first.of::<USUAL>(m.flush(E::FLOORS.average), g);
        let v = self.second.of::<USUAL>(v.flush(E::FLOORS.average_sq), h * h);
        let ahead = self.by_average * m + self.by_gradient * g;
        let change = ahead / (v.sqrt() * self.correction + self.eps);
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
        let usual = self.gradient.is_usual() && !self.first.from_new && !self.second.from_new;
        usual.then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        self.apply::<false>(p, g, state)
    }
}

impl<E: Element> Formula<E, 2> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        self.0.apply::<true>(p, g, state)
    }
}
