//! SGD and SGDW, with or without momentum.

use super::hyperparameter::Choice::{self, Independent, Maximize, Nesterov};
use super::hyperparameter::Hyperparameter::{self, Dampening, L2, Lr, Momentum, WeightDecay};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of SGD (`l2`) and SGDW (`weight_decay`).
///
/// At step `t`, counted from 1 for each parameter, with `g <- ±scale·g + l2·p`:
///
/// ```text
/// b <- g at t = 1, else momentum·b + (1-dampening)·g
/// h <- g + momentum·b with Nesterov's form, else b;  without a buffer h <- g
/// p <- p - ( d·p + lr·h )
/// d  = lr·weight_decay, or weight_decay if independent
/// ```
///
/// With zero momentum, dampening is ignored and a buffer, if there is one, holds the gradient.
///
/// Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, algorithm 1; Sutskever
/// et al., *On the importance of initialization and momentum in deep learning*.
///
/// Difference: the former paper multiplies by `lr` inside the momentum buffer; thalweg and PyTorch
/// multiply outside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Momentum, in `[0, 1]`; with 1 and no dampening the buffer is the sum of the gradients.
    pub momentum: f64,
    /// Dampening, in `[0, 1]`.
    pub dampening: f64,
    /// Nesterov's form; requires momentum above 0 and dampening 0.
    pub nesterov: bool,
    /// Penalty added to the gradient as `l2·p`, at least 0.
    pub l2: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
    pub independent: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Sgd {
    /// Plain SGD with this learning rate: no momentum, no decay.
    pub const fn new(lr: f64) -> Self {
        Sgd {
            lr,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            l2: 0.0,
            weight_decay: 0.0,
            independent: false,
            maximize: false,
        }
    }
}

impl Hyperparameters for Sgd {
    const NEW: Self = Sgd::new(0.0);

    type Step<E: Element> = SgdStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Momentum => Some(&mut self.momentum),
            Dampening => Some(&mut self.dampening),
            L2 => Some(&mut self.l2),
            WeightDecay => Some(&mut self.weight_decay),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        match choice {
            Nesterov => Some(&mut self.nesterov),
            Independent => Some(&mut self.independent),
            Maximize => Some(&mut self.maximize),
            _ => None,
        }
    }

    /// Nesterov's form is defined for momentum above 0 and dampening 0.
    fn check(&self) -> Result<(), Error> {
        let refuse = |name, value, allowed: &str| {
            Err(Error::Hyperparameter { name, value, allowed: allowed.to_owned() })
        };
        if self.nesterov && self.momentum == 0.0 {
            return refuse(Momentum.name(), self.momentum, "greater than 0 with nesterov=True");
        }
        if self.nesterov && self.dampening != 0.0 {
            return refuse(Dampening.name(), self.dampening, "0 with nesterov=True");
        }
        Ok(())
    }

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<SgdStep<E>, Error> {
        let Sgd { lr, momentum, dampening, .. } = *self;
        Ok(SgdStep {
            gradient: Gradient::new(intake, self.maximize, self.l2)?,
            replace: step == 1 || momentum == 0.0,
            momentum: E::from_f64(momentum),
            intake: E::from_f64(1.0 - dampening),
            nesterov: self.nesterov,
            lr: rounded(Lr, lr, lr)?,
            descent: Descent::new(lr, self.weight_decay, self.independent)?,
        })
    }
}

/// The coefficients of one [`Sgd`] update.
///
/// The [`Formula`] without state is plain SGD, the one with a state number is SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep<E> {
    gradient: Gradient<E>,
    replace: bool,
    momentum: E,
    intake: E,
    nesterov: bool,
    lr: E,
    descent: Descent<E>,
}

/// Usual coefficients: no penalty, no limit; with momentum, a buffer that holds an average already,
/// and not Nesterov's form.
#[derive(Clone, Copy, Debug)]
pub struct Usual<E>(SgdStep<E>);

impl<E: Element> SgdStep<E> {
    #[inline(always)]
    fn plain<const USUAL: bool>(&self, p: E, g: E) -> E {
        let g = self.gradient.read::<USUAL>(p, g);
        self.descent.apply::<USUAL>(p, self.lr * g)
    }

    #[inline(always)]
    fn with_momentum<const USUAL: bool>(&self, p: E, g: E, b: E) -> (E, E) {
        let g = self.gradient.read::<USUAL>(p, g);
        let moved = self.momentum * b.flush(E::FLOORS.average) + self.intake * g;
        let b = if !USUAL && self.replace { g } else { moved };
        let h = if !USUAL && self.nesterov { g + self.momentum * b } else { b };
        (self.descent.apply::<USUAL>(p, self.lr * h), b)
    }
}

impl<E: Element> Step<E> for SgdStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::INFINITY)
    }
}

impl<E: Element> Formula<E, 0> for SgdStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        self.gradient.is_usual().then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        (self.plain::<false>(p, g), [])
    }
}

impl<E: Element> Formula<E, 0> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
        (self.0.plain::<true>(p, g), [])
    }
}

impl<E: Element> Formula<E, 1> for SgdStep<E> {
    type Usual = Usual<E>;

    fn usual(&self) -> Option<Usual<E>> {
        let usual = self.gradient.is_usual() && !self.replace && !self.nesterov;
        usual.then_some(Usual(*self))
    }

    #[inline(always)]
    fn update(&self, p: E, g: E, [b]: [E; 1]) -> (E, [E; 1]) {
        let (p, b) = self.with_momentum::<false>(p, g, b);
        (p, [b])
    }
}

impl<E: Element> Formula<E, 1> for Usual<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [b]: [E; 1]) -> (E, [E; 1]) {
        let (p, b) = self.0.with_momentum::<true>(p, g, b);
        (p, [b])
    }
}
