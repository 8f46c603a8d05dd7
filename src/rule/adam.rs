//! Adam, AdamW, AMSGrad and RAdam.

use super::hyperparameter::Choice::{self, Cautious, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{
    self, Beta1, Beta2, Eps, L2, Lr, UpdateRms, WeightDecay,
};
use super::measure::{Caution, Factors, Measure, Ratio, agreement};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;
use crate::number::functions::one_minus_power;

/// Hyperparameters of Adam (`l2`), AdamW (`weight_decay`), AMSGrad (a third state array) and RAdam
/// (`rectify`).
///
/// At step `t`, counted from 1 for each parameter, with `g <- ±scale·g + l2·p` and
/// `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// m <- mix(m, g,  β1)
/// v <- mix(v, g², β2)
/// u <- v, or max(u, v) for AMSGrad; NaN propagates
/// p <- p - ( d·p + [lr/(1-β1^t)]·m / ( √u·[1/√(1-β2^t)] + eps ) )
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// Square brackets are scalars, computed in `f64` once per step and rounded once. With `update_rms`,
/// `lr` is divided by `max(1, rms/update_rms)`, where `rms` is the root of [`Measure::Ratio`]; with
/// `cautious`, the change is zero where it does not have the sign of `g`, and else divided by the
/// [`Measure::Agreement`].
///
/// RAdam has other scalars. Until there are enough gradients for the variance of `v` to be finite,
/// it moves along the mean; then it shortens the step by `r`:
///
/// ```text
/// p <- p - ( d·p + [lr/(1-β1^t)]·m )                               if n ≤ 5, else
/// p <- p - ( d·p + [lr·r·√(1-β2^t)/(1-β1^t)]·m / ( √u + eps ) )
/// N  = 2/(1-β2) - 1
/// n  = N - 2t·β2^t/(1-β2^t)
/// r  = √( (n-4)(n-2)N / ((N-4)(N-2)n) )
/// ```
///
/// Sources: Kingma and Ba, *Adam: A Method for Stochastic Optimization*, algorithm 1; Loshchilov
/// and Hutter, *Decoupled Weight Decay Regularization*, algorithm 2; Reddi, Kale and Kumar, *On
/// the Convergence of Adam and Beyond*, algorithm 2; Liu et al., *On the Variance of the Adaptive
/// Learning Rate and Beyond*, algorithm 2.
///
/// Differences: `eps` is added to the bias-corrected root, as in PyTorch and optax; Keras and
/// scikit-learn add the paper's `ε̂` to the uncorrected root `√v`. AMSGrad takes the maximum of the
/// raw `v`, as in PyTorch and Keras; optax takes it of the corrected `v`, and the paper has no
/// correction. `independent` is the paper's `η_t·λ`; otherwise the decay is multiplied by `lr`, as
/// in PyTorch, optax and Keras. Decay uses the old `p`. RAdam adds `eps` to the uncorrected root, as
/// PyTorch does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Penalty added to the gradient as `l2·p`, at least 0.
    pub l2: f64,
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
    /// Rectify the step while the variance of the second moment is large: RAdam.
    pub rectify: bool,
}

impl Adam {
    /// RAdam, before users set any hyperparameter.
    pub const RECTIFIED: Self = Adam { rectify: true, ..Adam::NEW };
}

impl Default for Adam {
    /// Adam without decay: `lr` 1e-3, betas 0.9 and 0.999, `eps` 1e-8.
    fn default() -> Self {
        Adam::NEW
    }
}

impl Hyperparameters for Adam {
    const NEW: Self = Adam {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        l2: 0.0,
        weight_decay: 0.0,
        independent: false,
        update_rms: 0.0,
        cautious: false,
        maximize: false,
        factors: Factors::ONE,
        rectify: false,
    };

    type Step<E: Element> = AdamStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            Eps => Some(&mut self.eps),
            L2 => Some(&mut self.l2),
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

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<AdamStep<E>, Error> {
        let Adam { beta1, beta2, eps, .. } = *self;
        let lr = self.lr * self.factors.rate;
        let (first, second) = (one_minus_power(beta1, step), one_minus_power(beta2, step));
        let eps = rounded(Eps, eps, eps)?;
        let (step_size, correction, eps) = match self.rectify {
            false => (lr / first, 1.0 / second.sqrt(), eps),
            true => match rectification(beta2, step, second) {
                Some(factor) => (lr * factor * second.sqrt() / first, 1.0, eps),
                // The denominator is 1.
                None => (lr / first, 0.0, E::from_f64(1.0)),
            },
        };
        Ok(AdamStep {
            gradient: Gradient::new(intake, self.maximize, self.l2)?,
            first: Mix::new(beta1),
            second: Mix::new(beta2),
            step_size: rounded(Lr, lr, step_size)?,
            correction: E::from_f64(correction),
            eps,
            ratio: Ratio::new(second, self.eps),
            caution: Caution::new(self.cautious, self.factors),
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
        })
    }
}

/// The factor of RAdam's step, or `None` as long as the variance of the second moment is not finite.
/// `second` is `1-β2^t`.
fn rectification(beta2: f64, step: u64, second: f64) -> Option<f64> {
    let limit = 2.0 / (1.0 - beta2) - 1.0;
    let length = limit - 2.0 * step as f64 * (1.0 - second) / second;
    let factor = (length - 4.0) * (length - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * length);
    (length > 5.0).then(|| factor.sqrt())
}

/// The coefficients of one [`Adam`] update.
///
/// The [`Formula`] with two state numbers is Adam, the one with three is AMSGrad.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep<E> {
    gradient: Gradient<E>,
    first: Mix<E>,
    second: Mix<E>,
    step_size: E,
    correction: E,
    eps: E,
    ratio: Ratio<E>,
    caution: Caution<E>,
    descent: Descent<E>,
}

/// Usual coefficients: no penalty, no limit, no caution, and both betas at least 1/2.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(AdamStep<E>);

impl<E: Element> AdamStep<E> {
    /// Whether there is no penalty, no limit, no caution, and no beta below 1/2.
    fn is_usual(&self) -> bool {
        let from_new = self.first.from_new || self.second.from_new;
        self.gradient.is_usual() && !self.caution.on && !from_new
    }

    #[inline(always)]
    fn moments<const USUAL: bool>(&self, p: E, g: E, [m, v]: [E; 2]) -> [E; 2] {
        let flushed = [m.flush(E::FLOORS.average), v.flush(E::FLOORS.average_sq)];
        self.moments_of_flushed::<USUAL>(p, g, flushed)
    }

    #[inline(always)]
    fn moments_of_flushed<const USUAL: bool>(&self, p: E, g: E, [m, v]: [E; 2]) -> [E; 2] {
        let g = self.gradient.read::<USUAL>(p, g);
        let h = g.flush(E::FLOORS.square);
        let m = self.first.of::<USUAL>(m, g);
        let v = self.second.of::<USUAL>(v, h * h);
        [m, v]
    }

    #[inline(always)]
    fn change(&self, m: E, u: E) -> E {
        self.step_size * m / (u.sqrt() * self.correction + self.eps)
    }

    #[inline(always)]
    fn descend(&self, p: E, m: E, u: E) -> E {
        self.descent.apply::<true>(p, self.change(m, u))
    }

    #[inline(always)]
    fn descend_with_caution(&self, p: E, g: E, m: E, u: E) -> E {
        let change = self.caution.apply(self.change(m, u), self.gradient.read::<false>(p, g));
        self.descent.apply::<false>(p, change)
    }

    /// The quantity of a measure, from the unmodified gradient and the new state.
    #[inline(always)]
    fn measured(&self, measure: Measure, g: E, m: E, u: E) -> E {
        let g = self.gradient.read::<false>(E::ZERO, g);
        match measure {
            Measure::Agreement => agreement(m, g),
            Measure::Ratio => self.ratio.of(g, u),
        }
    }

    /// The moments with the largest second moment so far.
    #[inline(always)]
    fn maximum<const USUAL: bool>(&self, p: E, g: E, [m, v, u]: [E; 3]) -> [E; 3] {
        let [m, v] = self.moments::<USUAL>(p, g, [m, v]);
        let u = u.flush(E::FLOORS.average_sq);
        // A NaN in `u` or `v` reaches the result.
        #[allow(clippy::eq_op)] // `u != u` is the NaN test that vectorises
        let u = if u > v || u != u { u } else { v };
        [m, v, u]
    }
}

impl<E: Element> Step<E> for AdamStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled and squared.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 2> for AdamStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        self.is_usual().then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        let [m, v] = self.moments::<false>(p, g, state);
        (self.descend_with_caution(p, g, m, v), [m, v])
    }

    #[inline(always)]
    fn measure(&self, measure: Measure, g: E, state: [E; 2]) -> E {
        let [m, v] = self.moments::<false>(E::ZERO, g, state);
        self.measured(measure, g, m, v)
    }
}

impl<E: Element> Formula<E, 2> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 2]) -> (E, [E; 2]) {
        let state = self.state(p, g, state);
        (self.parameter(p, state), state)
    }

    const IN_PARTS: bool = true;

    #[inline(always)]
    fn state(&self, p: E, g: E, state: [E; 2]) -> [E; 2] {
        self.0.moments::<true>(p, g, state)
    }

    const FLOORS: [E; 2] = [E::FLOORS.average, E::FLOORS.average_sq];

    #[inline(always)]
    fn state_of_flushed(&self, p: E, g: E, state: [E; 2]) -> [E; 2] {
        self.0.moments_of_flushed::<true>(p, g, state)
    }

    #[inline(always)]
    fn parameter(&self, p: E, [m, v]: [E; 2]) -> E {
        self.0.descend(p, m, v)
    }
}

impl<E: Element> Formula<E, 3> for AdamStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        self.is_usual().then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 3]) -> (E, [E; 3]) {
        let [m, v, u] = self.maximum::<false>(p, g, state);
        (self.descend_with_caution(p, g, m, u), [m, v, u])
    }

    #[inline(always)]
    fn measure(&self, measure: Measure, g: E, state: [E; 3]) -> E {
        let [m, _, u] = self.maximum::<false>(E::ZERO, g, state);
        self.measured(measure, g, m, u)
    }
}

impl<E: Element> Formula<E, 3> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, state: [E; 3]) -> (E, [E; 3]) {
        let state = self.state(p, g, state);
        (self.parameter(p, state), state)
    }

    const IN_PARTS: bool = true;

    #[inline(always)]
    fn state(&self, p: E, g: E, state: [E; 3]) -> [E; 3] {
        self.0.maximum::<true>(p, g, state)
    }

    #[inline(always)]
    fn parameter(&self, p: E, [m, _, u]: [E; 3]) -> E {
        self.0.descend(p, m, u)
    }
}
