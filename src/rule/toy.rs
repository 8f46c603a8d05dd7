//! A rule for tests only: it shows the work needed to add one.

use super::hyperparameter::Choice::{self, Maximize};
use super::hyperparameter::Hyperparameter::{self, Lr, Momentum, WeightDecay};
use super::spec::{Hyperparameters, Step};
use super::terms::{Descent, Formula, Gradient, Intake, Mix, rounded};
use crate::error::Error;
use crate::number::element::Element;

/// Hyperparameters of a descent along an average of gradients, with `g <- ±scale·g`
/// and `mix(x, y, β) = β·x + (1-β)·y`:
///
/// ```text
/// a <- mix(a, g, momentum)
/// p <- p - ( lr·weight_decay·p + lr·a )
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Toy {
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the average, in `[0, 1]`.
    pub momentum: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Ascend instead of descend.
    pub maximize: bool,
}

/// The coefficients of one [`Toy`] update.
#[derive(Clone, Copy, Debug)]
pub struct ToyStep<E> {
    gradient: Gradient<E>,
    average: Mix<E>,
    lr: E,
    descent: Descent<E>,
}

impl Hyperparameters for Toy {
    const NEW: Self = Toy { lr: 1e-3, momentum: 0.9, weight_decay: 0.0, maximize: false };

    type Step<E: Element> = ToyStep<E>;

    fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        match key {
            Lr => Some(&mut self.lr),
            Momentum => Some(&mut self.momentum),
            WeightDecay => Some(&mut self.weight_decay),
            _ => None,
        }
    }

    fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        (choice == Maximize).then_some(&mut self.maximize)
    }

    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<ToyStep<E>, Error> {
        Ok(ToyStep {
            gradient: Gradient::new(intake, self.maximize, 0.0)?,
            average: Mix::new(self.momentum),
            lr: rounded(Lr, self.lr, self.lr)?,
            descent: Descent::new(self.lr, self.weight_decay, false)?,
        })
    }
}

impl<E: Element> Step<E> for ToyStep<E> {
    #[inline(always)]
    fn admits(&self, magnitude: E) -> bool {
        self.gradient.admits(magnitude, E::INFINITY)
    }
}

impl<E: Element> Formula<E, 1> for ToyStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, g: E, [a]: [E; 1]) -> (E, [E; 1]) {
        let g = self.gradient.read::<false>(p, g);
        let a = self.average.of::<false>(a.flush(E::FLOORS.average), g);
        (self.descent.apply::<false>(p, self.lr * a), [a])
    }
}
