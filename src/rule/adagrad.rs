//! Adagrad.

use super::hyperparameter::Choice::{self, Maximize};
use super::hyperparameter::Hyperparameter::{self, Eps, InitialAccumulatorValue, L2, Lr, LrDecay};
use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Gradient, Intake, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of Adagrad.
///
/// At step `t`, counted from 1 for each parameter, with `g <- ±scale·g + l2·p`:
///
/// ```text
/// s <- initial_accumulator_value + g² at t = 1, else s + g²; at most the largest number
/// p <- p - [lr/(1 + (t-1)·lr_decay)]·g / ( √s + eps )
/// ```
///
/// The square bracket is a scalar, computed in `f64` once per step and rounded once. The first
/// update does not read the sum, so the array needs no initialisation.
///
/// Source: Duchi, Hazan and Singer, *Adaptive Subgradient Methods for Online Learning and Stochastic
/// Optimization*, figure 1, with diagonal matrices.
///
/// Differences: `lr_decay` is PyTorch's. optax and Keras begin the sum at 0.1, and optax adds `eps`
/// inside the root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Added to the root; at least 1e-15 for `f32`, 1e-120 for `f64`.
    pub eps: f64,
    /// Penalty added to the gradient as `l2·p`, at least 0.
    pub l2: f64,
    /// Decay of the learning rate, at least 0: step `t` has `lr/(1 + (t-1)·lr_decay)`.
    pub lr_decay: f64,
    /// The sum before the first update, at least 0.
    pub initial_accumulator_value: f64,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Adagrad {
    /// `lr` 1e-2, `eps` 1e-10, a sum that begins at 0.
    fn default() -> Self {
        Adagrad::NEW
    }
}

impl Hyperparameters for Adagrad {
    const NEW: Self = Adagrad {
        lr: 1e-2,
        eps: 1e-10,
        l2: 0.0,
        lr_decay: 0.0,
        initial_accumulator_value: 0.0,
        maximize: false,
    };

    type Step<E: Element> = AdagradStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Eps => Some(&mut self.eps),
            L2 => Some(&mut self.l2),
            LrDecay => Some(&mut self.lr_decay),
            InitialAccumulatorValue => Some(&mut self.initial_accumulator_value),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        (choice == Maximize).then_some(&mut self.maximize)
    }

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<AdagradStep<E>, Error> {
        let Adagrad { lr, eps, initial_accumulator_value: initial, .. } = *self;
        let step_size = lr / (1.0 + (step - 1) as f64 * self.lr_decay);
        let initial = rounded::<E>(InitialAccumulatorValue, initial, initial)?;
        Ok(AdagradStep {
            gradient: Gradient::new(intake, self.maximize, self.l2)?,
            initial: (step == 1).then_some(initial.flush(E::FLOORS.average_sq)),
            step_size: rounded(Lr, lr, step_size)?,
            eps: rounded(Eps, eps, eps)?,
        })
    }
}

/// The coefficients of one [`Adagrad`] update.
#[derive(Clone, Copy, Debug)]
pub struct AdagradStep<E> {
    gradient: Gradient<E>,
    /// In place of the sum, at the first update.
    initial: Option<E>,
    step_size: E,
    eps: E,
}

impl<E: Element> Step<E> for AdagradStep<E> {
    /// Whether a gradient of this magnitude is finite, and stays finite when scaled and squared.
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::SQUARE_LIMIT)
    }
}

impl<E: Element> Formula<E, 1> for AdagradStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [s]: [E; 1]) -> (E, [E; 1]) {
        let g = self.gradient.read::<false>(p, g);
        let h = g.flush(E::FLOORS.square);
        let s = self.initial.unwrap_or(s.flush(E::FLOORS.average_sq)) + h * h;
        let s = if s > E::MAX { E::MAX } else { s };
        let change = self.step_size * g / (s.sqrt() + self.eps);
        (p - change, [s])
    }
}
