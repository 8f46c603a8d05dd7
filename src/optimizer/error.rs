//! The reasons to refuse a step, a save or a load. Nothing has changed then.

use std::fmt;

use crate::checkpoint;
use crate::error::{self, Quoted};

/// The reason a step, a save or a load was refused. Nothing has changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A hyperparameter, a step or a state that the core refuses; of a parameter, if it has a name.
    Core {
        /// The parameter.
        name: Option<String>,
        /// The reason.
        error: error::Error,
    },
    /// Gradients that are not finite, or whose squares are not.
    NonFinite {
        /// The parameters, with the number of elements that are refused.
        counts: Vec<(String, u64)>,
        /// The step that was not taken.
        step: u64,
    },
    /// A parameter does not fit.
    Param {
        /// Its name.
        name: String,
        /// The reason.
        what: String,
    },
    /// Settings that the rule does not have, or that exclude each other.
    Settings(String),
    /// A group or schedule changes a choice, which is the same for all parameters.
    Choice(&'static str),
    /// A file cannot be written or read.
    File(checkpoint::Error),
    /// The content of a file does not fit the optimizer.
    Content(String),
}

impl Error {
    /// A parameter does not fit.
    pub(super) fn of(name: &str, what: impl Into<String>) -> Self {
        Error::Param { name: name.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Core { name: None, error } => error.fmt(f),
            Error::Core { name: Some(name), error } => write!(f, "{}: {error}", Quoted(name)),
            Error::NonFinite { counts, step } => {
                let named = |(name, count): &(String, u64)| format!("{count} of {}", Quoted(name));
                let counts: Vec<String> = counts.iter().map(named).collect();
                write!(
                    f,
                    "step {step} was not taken, because elements of gradients are not finite, or their \
                     squares are not: {}; check the loss, lower the learning rate, or use Policy::Skip",
                    counts.join(", ")
                )
            }
            Error::Param { name, what } => write!(f, "{}: {what}", Quoted(name)),
            Error::Choice(name) => write!(
                f,
                "{name} is the same for all parameters and steps: set it where the optimizer is made"
            ),
            Error::File(error) => error.fmt(f),
            Error::Settings(what) | Error::Content(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<error::Error> for Error {
    fn from(error: error::Error) -> Self {
        Error::Core { name: None, error }
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        Error::File(error)
    }
}
