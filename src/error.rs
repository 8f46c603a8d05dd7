//! The reasons to refuse an update. When an update returns one of these errors, it has written
//! nothing.

use std::fmt::{self, Write as _};

use crate::number::element::Kind;

/// The reason an update was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A hyperparameter is outside its range.
    Hyperparameter {
        /// The name that users write.
        name: &'static str,
        /// The given value.
        value: f64,
        /// The allowed range, in words.
        allowed: String,
    },
    /// The history of a parameter is not one that a step leaves.
    History([f64; 3]),
    /// The step number is 0; steps count from 1.
    Step,
    /// An array of a tensor has another length or shape than the parameter.
    Shape {
        /// The role of the array.
        array: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The parameter's shape.
        expected: Vec<usize>,
    },
    /// The number of state arrays does not fit the rule.
    State {
        /// The number of arrays given.
        got: usize,
        /// The numbers of arrays that the rule can have.
        expected: &'static [usize],
    },
    /// The coefficients are for another element type than the parameter's.
    Kind {
        /// The parameter's type.
        got: Kind,
        /// The coefficients' type.
        expected: Kind,
    },
    /// The update cannot report norms: its rule does not train, or a tensor is not bound in logical
    /// order.
    Norms,
    /// Another process cannot take the step, or has other tensors.
    Peers,
    /// The requested CPU level is unknown or not supported by this machine.
    Level {
        /// The origin of the name, such as an environment variable.
        source: &'static str,
        /// The given name.
        name: String,
        /// The levels of this machine.
        available: Vec<&'static str>,
    },
    /// A thread count that is not a whole number or is out of range.
    Threads {
        /// The given text.
        given: String,
        /// The origin of the text, such as an environment variable.
        source: &'static str,
        /// The largest count allowed.
        most: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Hyperparameter { name, value, allowed } => {
                write!(f, "{name} must be {allowed}, got {}", Number(*value))
            }
            Error::History(history) => {
                let numbers = history.map(|number| Number(number).to_string()).join(", ");
                write!(
                    f,
                    "history must be what the last step left (np.zeros(3) only before step 1), got \
                     [{numbers}]"
                )
            }
            Error::Step => write!(f, "step must be at least 1, got 0"),
            Error::Shape { array, got, expected } => {
                write!(f, "{array} must have the shape of its parameter, {expected:?}, got {got:?}")
            }
            Error::State { got, expected } => {
                let expected: Vec<String> = expected.iter().map(usize::to_string).collect();
                write!(f, "the number of state arrays must be {}, got {got}", expected.join(" or "))
            }
            Error::Kind { got, expected } => {
                write!(
                    f,
                    "the parameter must be {}, the type of the coefficients, got {}",
                    expected.name(),
                    got.name()
                )
            }
            Error::Norms => f.write_str(
                "norms of an update need a rule that trains and tensors bound in logical order",
            ),
            Error::Peers => f.write_str("another process cannot take the step"),
            Error::Level { source, name, available } => write!(
                f,
                "{source} must be one of {} on this machine, got {}",
                available.join(", "),
                Quoted(name)
            ),
            Error::Threads { given, source, most } => {
                write!(f, "{source} must be a whole number from 1 to {most}, got {}", Quoted(given))
            }
        }
    }
}

impl std::error::Error for Error {}

/// Displays a number as Python writes it.
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() { f.write_str("nan") } else { write!(f, "{:?}", self.0) }
    }
}

/// Displays a name as Python writes a string.
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

/// Returns [`Error::Shape`] if an array's shape differs from its parameter's.
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
