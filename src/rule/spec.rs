//! Traits of a rule's hyperparameters and coefficients, and the description of its state arrays.

use super::hyperparameter::{Choice, Hyperparameter};
use super::measure::Factors;
use super::terms::Intake;
use crate::array::storage::Storage;
use crate::error::Error;
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;

/// What a rule keeps of the earlier steps of a parameter, beside its state arrays; zeros at first.
pub type History = [f64; HISTORY];

/// Number of elements of a [`History`].
pub const HISTORY: usize = 3;

/// The hyperparameters of a rule, with their values for one update.
pub trait Hyperparameters: Copy {
    /// The values before users set any.
    const NEW: Self;

    /// The coefficients, for one element type.
    type Step<E: Element>;

    /// The value of a hyperparameter, or `None` if the rule lacks it.
    fn number(&mut self, _key: Hyperparameter) -> Option<&mut f64> {
        None
    }

    /// The value of a choice, or `None` if the formula lacks it.
    fn choice(&mut self, _choice: Choice) -> Option<&mut bool> {
        None
    }

    /// The factors that measures of a tensor put on the step, or `None` if the rule measures nothing.
    fn factors(&mut self) -> Option<&mut Factors> {
        None
    }

    /// The history of the parameter before the update, or `None` if the rule keeps none.
    fn history(&mut self) -> Option<&mut History> {
        None
    }

    /// The history after update number `step`.
    ///
    /// # Errors
    ///
    /// [`Error::History`] and [`Error::Hyperparameter`], as [`Hyperparameters::at_step`].
    fn history_after(&self, _step: u64) -> Result<History, Error> {
        Ok(History::default())
    }

    /// Refuses hyperparameters that contradict a choice.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`].
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The coefficients of update number `step`, at least 1, from numbers in range; rules implement
    /// this, and [`Hyperparameters::at_step`] calls it.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a number whose coefficient is too large for the element type.
    fn coefficients<E: Element>(&self, step: u64, intake: Intake) -> Result<Self::Step<E>, Error>;

    /// The coefficients of update number `step`, counted from 1. `intake` is applied to the
    /// gradients first.
    ///
    /// # Errors
    ///
    /// [`Error::Hyperparameter`] for a value out of range, [`Error::History`] for a history that no
    /// step left, [`Error::Step`] for step 0.
    fn at_step<E: Element>(
        &self,
        step: u64,
        intake: impl Into<Intake>,
    ) -> Result<Self::Step<E>, Error> {
        let mut numbers = *self;
        for key in Hyperparameter::ALL {
            if let Some(number) = numbers.number(key) {
                key.check(*number, E::KIND)?;
            }
        }
        self.check()?;
        if step == 0 {
            return Err(Error::Step);
        }
        in_default_mode(|| self.coefficients(step, intake.into()))
    }
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
    /// The name of the exponents of its blocks, if it has the storage `E5M3`.
    pub base: &'static str,
    /// What it holds.
    pub content: Content,
    /// Parameters that have it.
    pub when: When,
}

/// The numbers of a state array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An average of gradients, of either sign.
    Average,
    /// An average of squares.
    Square,
    /// A point that moves as the parameter does. A parameter that has one has a [`History`] too.
    Point,
    /// A running maximum. It would keep the largest error of an average that is dithered.
    Maximum,
    /// An average whose square is subtracted from an average of squares. If both are dithered, the
    /// difference is mostly error.
    Mean,
    /// A sum, in which errors of dither would add up.
    Sum,
}

impl Content {
    /// Whether a state array of a parameter can have this storage; `whole` is the storage that
    /// keeps every digit of the parameter.
    pub fn allows(self, storage: Storage, whole: Storage) -> bool {
        let narrow = match self {
            Content::Average => storage == Storage::Dithered,
            Content::Square => matches!(storage, Storage::Dithered | Storage::E5M3),
            Content::Point | Content::Maximum | Content::Mean | Content::Sum => false,
        };
        storage == whole || narrow && whole == Storage::F32
    }
}

/// The way in which users choose to keep state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Every digit of the parameter.
    #[default]
    Full,
    /// Two bytes for each number.
    Bfloat16,
    /// Two bytes for each average, one for each average of squares, if there are enough elements.
    Compact,
}

/// The smallest number of elements for which [`Format::Compact`] differs from [`Format::Full`].
pub const COMPACT_MIN: usize = 4_096;

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Full, Format::Bfloat16, Format::Compact];

    /// The name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Full => "full",
            Format::Bfloat16 => "bfloat16",
            Format::Compact => "compact",
        }
    }

    /// Refuses a format that these state arrays of the rule with this name cannot have.
    ///
    /// # Errors
    ///
    /// What it must be, and why.
    pub fn check(self, rule: &str, state: &[StateSpec]) -> Result<(), String> {
        let refusal = |accepted: &str, because: &str| {
            Err(format!("state must be {accepted}, got '{}': {because}", self.name()))
        };
        let keeps = |content| state.iter().any(|spec| spec.content == content);
        match self {
            Format::Full => Ok(()),
            _ if keeps(Content::Maximum) => refusal(
                "'full' with amsgrad=True",
                "a running maximum would keep the largest error of a rounded average",
            ),
            _ if keeps(Content::Mean) => refusal(
                "'full' with centered=True",
                "a difference of two rounded averages would be mostly error",
            ),
            _ if keeps(Content::Sum) => {
                refusal("'full'", "errors of rounding would add up in a sum")
            }
            Format::Compact if !keeps(Content::Square) => refusal(
                "'full' or 'bfloat16'",
                &format!("{rule} has no average of squares to keep in a byte"),
            ),
            Format::Bfloat16 | Format::Compact => Ok(()),
        }
    }

    /// The storage of a state array of `len` elements; `whole` is the storage that keeps every digit
    /// of the parameter.
    pub fn storage(self, content: Content, whole: Storage, len: usize) -> Storage {
        match (self, content) {
            (Format::Compact, _) if len < COMPACT_MIN => whole,
            (Format::Compact, Content::Square) => Storage::E5M3,
            (Format::Bfloat16, Content::Square) => Storage::Dithered,
            (Format::Bfloat16 | Format::Compact, Content::Average) => Storage::Dithered,
            (Format::Full, _)
            | (_, Content::Point | Content::Maximum | Content::Mean | Content::Sum) => whole,
        }
    }
}

/// Parameters that have a state array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// All parameters.
    Always,
    /// All parameters if this choice is set.
    Chosen(Choice),
    /// Parameters for which this hyperparameter is not 0.
    Nonzero(Hyperparameter),
}
