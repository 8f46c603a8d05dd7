//! Every way an update can be refused. Nothing has been written when one of these is returned.

use std::fmt::{self, Write as _};

use crate::number::element::Kind;

/// Why an update was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A hyperparameter is outside its range.
    Hyperparameter {
        /// Its name, as users write it.
        name: &'static str,
        /// The value that was given.
        value: f64,
        /// The range, in words.
        allowed: String,
    },
    /// `step` counts from one.
    Step,
    /// Arrays of one tensor differ in length or shape.
    Shape {
        /// Which array.
        array: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The parameter's shape.
        expected: Vec<usize>,
    },
    /// The number of state arrays does not fit the rule.
    State {
        /// How many were given.
        got: usize,
        /// How many it may keep.
        expected: &'static [usize],
    },
    /// The coefficients are for parameters of another type.
    Kind {
        /// The parameter's type.
        got: Kind,
        /// The coefficients' type.
        expected: Kind,
    },
    /// Norms were asked for of an update that has none.
    Norms,
    /// The requested CPU level does not exist or this machine lacks it.
    Level {
        /// Where the name came from.
        source: &'static str,
        /// The name that was given.
        name: String,
        /// The names this machine has.
        available: Vec<&'static str>,
    },
    /// A thread count that is no number, or out of range.
    Threads {
        /// What was given.
        given: String,
        /// Where it came from.
        source: &'static str,
        /// The largest that is taken.
        most: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Hyperparameter { name, value, allowed } => {
                write!(f, "{name} must be {allowed}, got {}", Number(*value))
            }
            Error::Step => write!(f, "step is the 1-based number of the update, got 0"),
            Error::Shape { array, got, expected } => {
                write!(f, "{array} has shape {got:?}, the parameter has {expected:?}")
            }
            Error::State { got, expected } => {
                let expected: Vec<String> = expected.iter().map(usize::to_string).collect();
                write!(f, "the rule keeps {} state arrays, got {got}", expected.join(" or "))
            }
            Error::Kind { got, expected } => {
                write!(
                    f,
                    "the parameter is {}, the coefficients are for {}",
                    got.name(),
                    expected.name()
                )
            }
            Error::Norms => f.write_str(
                "norms of an update need a rule that trains and tensors bound in logical order",
            ),
            Error::Level { source, name, available } => write!(
                f,
                "{source} is {}, which is not available here; this machine has {}",
                Quoted(name),
                available.join(", ")
            ),
            Error::Threads { given, source, most } => {
                write!(
                    f,
                    "{source} must be a whole number of at least 1 and at most {most}, got {}",
                    Quoted(given)
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// A number as Python writes it.
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() { f.write_str("nan") } else { write!(f, "{:?}", self.0) }
    }
}

/// A name as Python writes a string.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') && !self.0.contains('"') { '"' } else { '\'' };
        f.write_char(quote)?;
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c == quote => write!(f, "\\{c}")?,
                c => f.write_char(c)?,
            }
        }
        f.write_char(quote)
    }
}

/// Refuses an array of another shape than its parameter's.
pub(crate) fn check_shape(
    array: &'static str,
    got: &[usize],
    expected: &[usize],
) -> Result<(), Error> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::Shape { array, got: got.to_vec(), expected: expected.to_vec() })
    }
}
