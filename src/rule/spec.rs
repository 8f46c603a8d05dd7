//! What a row of the table of rules says, and what a rule's hyperparameters can do.

use super::hyperparameter::{Choice, Hyperparameter};
use super::terms::Intake;
use crate::error::Error;
use crate::number::element::Element;

/// The hyperparameters of a rule, as numbers of one update.
pub trait Hyperparameters: Copy {
    /// Before anything is set: numbers and choices that users give are put in their places.
    const NEW: Self;

    /// The coefficients, for one element type.
    type Step<E: Element>;

    /// The place of a hyperparameter, if the rule has it.
    fn number(&mut self, _key: Hyperparameter) -> Option<&mut f64> {
        None
    }

    /// The place of a choice, if the formula has it.
    fn choice(&mut self, _choice: Choice) -> Option<&mut bool> {
        None
    }

    /// Refuses numbers that contradict a choice.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`].
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The coefficients of update number `step`, counted from 1, of gradients that come in as `intake`
    /// says: a scale, or a scale and a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a value out of range, [`Error::Step`] for step 0.
    fn at_step<E: Element>(
        &self,
        step: u64,
        intake: impl Into<Intake>,
    ) -> Result<Self::Step<E>, Error>;
}

/// The coefficients of a rule.
pub(crate) trait Step<E: Element> {
    /// Whether the rule can take a gradient of this magnitude.
    #[inline(always)]
    fn admits(&self, _magnitude: E) -> bool {
        true
    }
}

/// A state array of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateSpec {
    /// Its name.
    pub name: &'static str,
    /// Which parameters have it.
    pub when: When,
}

/// Which parameters have a state array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// All, if this was chosen.
    Chosen(Choice),
    /// Those for which this is not the number 0.
    Nonzero(Hyperparameter),
}
