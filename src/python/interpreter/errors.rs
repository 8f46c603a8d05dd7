//! Refusals: one enum, their messages, and one mapping to exceptions.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use pyo3::exceptions::{PyException, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use thalweg::checkpoint;
use thalweg::error::{Error, Quoted};

/// Why a call failed. Nothing was changed, except by a load that stopped midway.
#[derive(Debug)]
pub enum Refusal {
    /// The core refused, at a step if one is given.
    Core { error: Error, step: Option<u64> },
    /// An argument is not an ndarray, or it is a masked array.
    NotAnArray { what: String, kind: &'static str, got: String, advice: &'static str },
    /// An array of another library that NumPy cannot convert; `cause` is the library's exception.
    Unreadable { what: String, got: String, advice: String, cause: Box<PyErr> },
    /// An ndarray whose dtype is not accepted.
    Dtype { what: String, kind: String, got: String, advice: &'static str },
    /// An array whose shape differs from that of its parameter.
    Shape { what: String, got: Vec<usize>, expected: Vec<usize> },
    /// A read-only array that would be written.
    NotWritable { what: String, advice: &'static str },
    /// An array whose elements are not aligned.
    Misaligned { what: String },
    /// Elements of one array share memory.
    SelfOverlap { what: String },
    /// Two arrays share memory.
    Overlap { written: String, other: String, advice: &'static str },
    /// An array whose dtype, shape, memory or write permission differs from the last check.
    Changed { what: String, how: &'static str, advice: &'static str },
    /// A container no longer holds the array the optimizer was given.
    Rebound { name: String },
    /// Names in a tree that do not fit the parameters. `if_missing` is the advice if names are
    /// missing, `if_extra` the advice if there are only extra names.
    Names {
        tree: &'static str,
        owner: &'static str,
        missing: Vec<String>,
        extra: Vec<String>,
        if_missing: &'static str,
        if_extra: &'static str,
    },
    /// A tree without arrays.
    EmptyTree,
    /// Two leaves with the same name.
    DuplicateName { name: String },
    /// A key of a mapping that is neither a string nor an integer.
    Key { path: String, got: String },
    /// A tree nested too deeply; it may contain itself.
    Depth,
    /// A value of the wrong kind. `kind` is the accepted one, such as a number or a string.
    Kind { what: String, kind: &'static str, got: String },
    /// Gradients that are NaN, infinite or too large, under `nonfinite="raise"`: the number of such
    /// elements by name.
    NonFinite { counts: Vec<(String, u64)>, step: u64 },
    /// The object is in use.
    Busy,
    /// A step is open (`open_step`).
    Open,
    /// The step is closed.
    NotOpen,
    /// A parameter was updated in the open step already.
    Twice { name: String },
    /// The parameters are swapped with their averages.
    Held,
    /// A load stopped midway.
    Torn,
    /// A checkpoint that cannot be written or read.
    File(checkpoint::Error),
    /// Any other refused value, with the whole message.
    Value(String),
    /// An exception that Python code raised.
    Python(PyErr),
}

pub type Outcome<T> = Result<T, Refusal>;

/// What Python code returned for use in a message; `None` if it raised an `Exception`. An
/// interrupt, which is no `Exception`, is passed on.
pub fn if_said<T>(py: Python<'_>, said: PyResult<T>) -> PyResult<Option<T>> {
    match said {
        Ok(said) => Ok(Some(said)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(interrupt) => Err(interrupt),
    }
}

impl From<PyErr> for Refusal {
    fn from(error: PyErr) -> Self {
        Refusal::Python(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Core { error, step: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Core { error, step: None } => write!(f, "{error}"),
            Refusal::Core { error, step: Some(step) } => write!(f, "{error} at step {step}"),
            Refusal::NotAnArray { what, kind, got, advice } => {
                write!(f, "{what} must be {kind}, got {got}; {advice}")
            }
            Refusal::Dtype { what, kind, got, advice } => {
                write!(f, "{what} must have {kind}, got {got}; {advice}")
            }
            Refusal::Unreadable { what, got, advice, .. } => {
                write!(f, "{what} must be convertible to an ndarray, got {got}; {advice}")
            }
            Refusal::Shape { what, got, expected } => {
                let (got, expected) = (Shape(got), Shape(expected));
                write!(f, "{what} must have the shape of its parameter, {expected}, got {got}")
            }
            Refusal::NotWritable { what, advice } => write!(
                f,
                "{what} is read-only; it is updated in place, so pass a writable array ({advice})"
            ),
            Refusal::Misaligned { what } => {
                write!(f, "{what} is not aligned in memory; pass an aligned copy (array.copy())")
            }
            Refusal::SelfOverlap { what } => write!(
                f,
                "elements of {what} share memory (a broadcast or overlapping view); it is updated \
                 in place, so pass a copy (array.copy())"
            ),
            Refusal::Overlap { written, other, advice } => {
                write!(f, "{written} and {other} share memory; {advice}")
            }
            Refusal::Changed { what, how, advice } => {
                write!(f, "{what} has changed since it was bound: {how}; restore it{advice}")
            }
            Refusal::Rebound { name } => write!(
                f,
                "{} in params was replaced, but the optimizer updates the old array; assign in place \
                 (params[...][...] = value) instead, or adopt the new arrays with \
                 opt.rebind(params)",
                Quoted(name)
            ),
            Refusal::Names { tree, owner, missing, extra, if_missing, if_extra } => {
                write!(f, "{tree} do not fit the {owner}")?;
                names(f, "; missing: ", missing)?;
                names(f, "; unexpected: ", extra)?;
                f.write_str(if missing.is_empty() { if_extra } else { if_missing })
            }
            Refusal::EmptyTree => f.write_str("the tree must contain at least one array, got none"),
            Refusal::DuplicateName { name } => {
                write!(
                    f,
                    "two leaves of the tree have the name {}; rename one of them",
                    Quoted(name)
                )
            }
            Refusal::Key { path, got } => write!(
                f,
                "a key {}of the tree must be a string or an integer, got {got}",
                if path.is_empty() { String::new() } else { format!("at {} ", Quoted(path)) }
            ),
            Refusal::Depth => f.write_str(
                "the tree is nested more than 200 levels deep; perhaps it contains itself",
            ),
            Refusal::Kind { what, kind, got } => {
                write!(f, "{what} must be {kind}, got {got}")
            }
            Refusal::NonFinite { counts, step } => {
                write!(f, "non-finite or too large gradients at step {step}: ")?;
                first_of(f, counts.iter().map(|(name, n)| format!("{name} ({n})")))?;
                f.write_str("; nothing was changed (nonfinite=\"skip\" skips the step instead)")
            }
            Refusal::Busy => f.write_str(
                "this object is already in use, in another thread or up the call stack; one call at \
                 a time is allowed",
            ),
            Refusal::Open => f.write_str(
                "a step is open (opt.open_step()); leave its block first, which closes the step",
            ),
            Refusal::NotOpen => f.write_str(
                "this step is closed; open one with `with opt.open_step() as step:` and call it \
                 inside the block",
            ),
            Refusal::Twice { name } => write!(
                f,
                "parameter {} was already updated in this step; add up its gradients and pass them \
                 once",
                Quoted(name)
            ),
            Refusal::Held => f.write_str(
                "the parameters are swapped with their averages (ema.swapped() or opt.averaged()); leave \
                 its block first",
            ),
            Refusal::Torn => f.write_str(
                "loading was interrupted, so some arrays are loaded and others are not; load again",
            ),
            Refusal::File(error) => write!(f, "{error}"),
            Refusal::Value(message) => f.write_str(message),
            Refusal::Python(error) => write!(f, "{error}"),
        }
    }
}

/// A shape in Python's notation.
pub struct Shape<'a>(pub &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("()"),
            [n] => write!(f, "({n},)"),
            [first, rest @ ..] => {
                write!(f, "({first}")?;
                rest.iter().try_for_each(|n| write!(f, ", {n}"))?;
                f.write_char(')')
            }
        }
    }
}

fn names(f: &mut fmt::Formatter<'_>, title: &str, names: &[String]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    f.write_str(title)?;
    first_of(f, names.iter().map(|name| Quoted(name).to_string()))
}

/// Writes the first eight items, and the number of the others.
fn first_of(
    f: &mut fmt::Formatter<'_>,
    items: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    let more = items.len().saturating_sub(8);
    f.write_str(&items.take(8).collect::<Vec<_>>().join(", "))?;
    if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
}

impl From<Refusal> for PyErr {
    fn from(refusal: Refusal) -> PyErr {
        let refusal = match refusal {
            Refusal::Python(error) => return error,
            refusal => refusal,
        };
        let message = refusal.to_string();
        match refusal {
            Refusal::Unreadable { cause, .. } => {
                let error = PyTypeError::new_err(message);
                Python::attach(|py| error.set_cause(py, Some(*cause)));
                error
            }
            Refusal::NotAnArray { .. }
            | Refusal::Dtype { .. }
            | Refusal::Key { .. }
            | Refusal::Kind { .. } => PyTypeError::new_err(message),
            Refusal::Busy
            | Refusal::Open
            | Refusal::NotOpen
            | Refusal::Held
            | Refusal::File(checkpoint::Error::Locked { .. }) => {
                raise("BusyError", |class| class.call1((message,)))
            }
            Refusal::File(checkpoint::Error::Io { path, operation, source }) => {
                system_error(path, operation, &source)
            }
            Refusal::NonFinite { counts, step } => raise("NonFiniteError", |class| {
                let by_name = PyDict::new(class.py());
                for (name, count) in counts {
                    by_name.set_item(name, count)?;
                }
                class.call1((message, by_name, step))
            }),
            Refusal::Core { .. }
            | Refusal::Shape { .. }
            | Refusal::NotWritable { .. }
            | Refusal::Misaligned { .. }
            | Refusal::SelfOverlap { .. }
            | Refusal::Overlap { .. }
            | Refusal::Changed { .. }
            | Refusal::Rebound { .. }
            | Refusal::Twice { .. }
            | Refusal::Names { .. }
            | Refusal::EmptyTree
            | Refusal::DuplicateName { .. }
            | Refusal::Depth
            | Refusal::Torn
            | Refusal::File(_)
            | Refusal::Python(_)
            | Refusal::Value(_) => PyValueError::new_err(message),
        }
    }
}

/// The exception for an error of the operating system. `OSError` chooses its subclass by the
/// number.
fn system_error(path: PathBuf, operation: &str, source: &io::Error) -> PyErr {
    let said = what_system_says(source);
    match source.raw_os_error() {
        Some(number) => {
            let path = path.into_os_string();
            PyOSError::new_err((number, format!("{said} (cannot {operation} it)"), path))
        }
        None => PyOSError::new_err(format!(
            "cannot {operation} {}: {said}",
            Quoted(&path.to_string_lossy())
        )),
    }
}

/// The operating system's message, without the error number that Rust appends.
pub fn what_system_says(error: &io::Error) -> String {
    let said = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    number.and_then(|number| said.strip_suffix(&number)).unwrap_or(&said).to_owned()
}

/// An exception of a class from `thalweg.errors`.
fn raise(class: &str, make: impl FnOnce(Bound<'_, PyType>) -> PyResult<Bound<'_, PyAny>>) -> PyErr {
    Python::attach(|py| {
        static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let made = MODULE
            .get_or_try_init(py, || py.import("thalweg.errors").map(Bound::unbind))
            .and_then(|module| Ok(module.bind(py).getattr(class)?.cast_into::<PyType>()?))
            .and_then(make);
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    })
}
