//! Schedule-free AdamW.

use super::hyperparameter::Choice::{self, Independent, Maximize};
use super::hyperparameter::Hyperparameter::{
    self, Beta1, Beta2, Eps, Lr, R, WeightDecay, WeightLrPower,
};
use super::spec::{History, Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::{Error, Number};
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;
use crate::number::functions::{one_minus_power, power};

/// Hyperparameters of schedule-free AdamW.
///
/// The parameter `p` is the point `y = (1-β1)·z + β1·x` at which gradients are taken: between `z`,
/// which descends, and `x`, the weighted average of the `z`, which is never stored. At step `t`,
/// counted from 1 for each parameter, with `g <- ±scale·g` and `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// h <- max(h, lr);   w = t^r·h^weight_lr_power;   s <- s + w;   c = w/s, or 0 if s = 0
/// z  = p at t = 1
/// v <- mix(v, g², β2)
/// u  = d·p + [lr]·g / ( √v·[1/√(1-β2^t)] + eps )
/// p <- p + ( [c + (1-c)·(1 - β1/b)]·(z - p) - [1 - β1·(1-c)]·u );   b <- β1
/// z <- z - u
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// Square brackets are scalars, computed in `f64` once per step and rounded once. `h`, `s` and `b`,
/// the β1 of the last step, are the [`History`] of the parameter. Where the factor of `z - p` is
/// above 1/2, the step starts from `z`: `z + ( [factor - 1]·(z - p) - … )`.
///
/// Source: Defazio et al., *The Road Less Scheduled*, algorithm 1.
///
/// Difference: `schedulefree.AdamWScheduleFree` has no `b`, so a β1 that changes moves its `x`. It
/// counts steps and learning rates for a group of parameters, not for each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleFree {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Weight of the average in the point of the gradients, in `(0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Power of the step in the weight of the average, at least 0.
    pub r: f64,
    /// Power of the largest learning rate in the weight of the average, at least 0.
    pub weight_lr_power: f64,
    /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
    pub independent: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
    /// The largest learning rate, the sum of the weights, and the last β1; not read at step 1.
    pub history: History,
}

impl Default for ScheduleFree {
    /// Without decay: `lr` 0.0025, betas 0.9 and 0.999, `eps` 1e-8, `r` 0, `weight_lr_power` 2.
    fn default() -> Self {
        ScheduleFree::NEW
    }
}

/// The scalars of a step that depend on its history.
struct Weighing {
    /// The share of this step in the average.
    share: f64,
    /// β1 of this step, divided by that of the last.
    ratio: f64,
    history: History,
}

impl ScheduleFree {
    fn weigh(&self, step: u64) -> Result<Weighing, Error> {
        let [largest, sum, last] =
            if step == 1 { [0.0, 0.0, self.beta1] } else { checked(self.history)? };
        let largest = if self.lr > largest { self.lr } else { largest };
        let weight = power(step as f64, self.r) * power(largest, self.weight_lr_power);
        let sum = sum + weight;
        if !sum.is_finite() {
            let allowed = format!(
                "small enough for the sum of {}^r · {}^weight_lr_power to be finite",
                Number(step as f64),
                Number(largest)
            );
            let (name, value) = match self.r {
                0.0 => (WeightLrPower.name(), self.weight_lr_power),
                r => (R.name(), r),
            };
            return Err(Error::Hyperparameter { name, value, allowed });
        }
        Ok(Weighing {
            share: if sum == 0.0 { 0.0 } else { weight / sum },
            ratio: self.beta1 / last,
            history: [largest, sum, self.beta1],
        })
    }
}

/// The history, if a step can have left it.
fn checked(history: History) -> Result<History, Error> {
    let [largest, sum, last] = history;
    let counts = |x: f64| x.is_finite() && x >= 0.0;
    if counts(largest) && counts(sum) && last > 0.0 && last < 1.0 {
        Ok(history)
    } else {
        Err(Error::History(history))
    }
}

impl Hyperparameters for ScheduleFree {
    const NEW: Self = ScheduleFree {
        lr: 0.0025,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        r: 0.0,
        weight_lr_power: 2.0,
        independent: false,
        maximize: false,
        history: [0.0; 3],
    };

    type Step<E: Element> = ScheduleFreeStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Beta1 => Some(&mut self.beta1),
            Beta2 => Some(&mut self.beta2),
            Eps => Some(&mut self.eps),
            WeightDecay => Some(&mut self.weight_decay),
            R => Some(&mut self.r),
            WeightLrPower => Some(&mut self.weight_lr_power),
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

    fn history(&mut self) -> Option<&mut History> {
        Some(&mut self.history)
    }

    fn history_after(&self, step: u64) -> Result<History, Error> {
        in_default_mode(|| Ok(self.weigh(step)?.history))
    }

    /// With a β1 of 0 the average has no part in the parameter, and could not be found again.
    fn check(&self) -> Result<(), Error> {
        if self.beta1 == 0.0 {
            let allowed = "greater than 0 (the share of the average in the parameter, from which \
                           it is recovered)";
            let (name, allowed) = (Beta1.name(), allowed.to_owned());
            return Err(Error::Hyperparameter { name, value: self.beta1, allowed });
        }
        Ok(())
    }

    fn coefficients<E: Element>(
        &self,
        step: u64,
        intake: Intake,
    ) -> Result<ScheduleFreeStep<E>, Error> {
        let ScheduleFree { lr, beta1, beta2, eps, .. } = *self;
        let Weighing { share, ratio, .. } = self.weigh(step)?;
        let towards = share + (1.0 - share) * (1.0 - ratio);
        rounded::<E>(Beta1, beta1, towards)?;
        Ok(ScheduleFreeStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            second: Mix::new(beta2),
            average: Mix::with_rate(towards),
            first: step == 1,
            lr: rounded(Lr, lr, lr)?,
            correction: E::from_f64(1.0 / one_minus_power(beta2, step).sqrt()),
            eps: rounded(Eps, eps, eps)?,
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
            part: E::from_f64(1.0 - beta1 * (1.0 - share)),
        })
    }
}

/// The coefficients of one [`ScheduleFree`] update.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleFreeStep<E> {
    gradient: Gradient<E>,
    second: Mix<E>,
    average: Mix<E>,
    /// Whether `z` begins at the parameter.
    first: bool,
    lr: E,
    correction: E,
    eps: E,
    descent: Descent<E>,
    /// The part of the descent that the parameter takes.
    part: E,
}

/// Usual coefficients: no limit, a β2 of at least 1/2, and a step after the first that is nearer to
/// the parameter than to `z`.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(ScheduleFreeStep<E>);

impl<E: Element> ScheduleFreeStep<E> {
    #[inline(always)]
    fn apply<const USUAL: bool>(&self, p: E, g: E, [z, v]: [E; 2]) -> (E, [E; 2]) {
        let g = self.gradient.read::<USUAL>(p, g);
        let h = g.flush(E::FLOORS.square);
        let z = if !USUAL && self.first { p } else { z };
        let v = self.second.of::<USUAL>(v.flush(E::FLOORS.average_sq), h * h);
        let change = self.lr * g / (v.sqrt() * self.correction + self.eps);
        let down = self.descent.change(p, change);
        let (base, towards) = self.average.parts::<USUAL>(p, z, E::FLOORS.average);
        (base + (towards - self.part * down), [z - down, v])
    }
}

impl<E: Element> Step<E> for ScheduleFreeStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled and squared.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 2> for ScheduleFreeStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        let usual = self.gradient.is_usual()
            && !self.second.from_new
            && !self.average.from_new
            && !self.first;
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
