//! Conversion of hyperparameters and other scalar arguments from Python.
//!
//! A hyperparameter is a number or a schedule, a callable of the step.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use pyo3::exceptions::PyOverflowError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};

use crate::array::foreign::is_a_refusal;
use crate::interpreter::errors::{Outcome, Refusal, if_said};
use crate::interpreter::types::type_name;
use thalweg::error::Quoted;
use thalweg::machine::threads::THREADS_MAX;
use thalweg::number::element::Kind;
use thalweg::rule::{Format, Hyperparameter, Numbers};

/// A number, or a callable that returns one for the 1-based step.
#[derive(Debug)]
pub enum Value {
    Number(f64),
    Schedule(Py<PyAny>),
}

impl Value {
    pub fn extract(object: &Bound<'_, PyAny>, key: Hyperparameter, kind: Kind) -> Outcome<Self> {
        if object.is_callable() {
            return Ok(Value::Schedule(object.clone().unbind()));
        }
        let number = number(object, || key.name().to_owned())?;
        Ok(Value::Number(key.check(number, kind)?))
    }
}

/// A Python number as `f64`. Booleans are refused; integers out of range become infinite.
pub fn number(object: &Bound<'_, PyAny>, what: impl Fn() -> String) -> Outcome<f64> {
    let refuse =
        || described(object).map(|got| Refusal::Kind { what: what(), kind: "a number", got });
    if is_bool(object)? {
        return Err(refuse()?);
    }
    match object.extract::<f64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
            Ok(if object.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        Err(error) if is_a_refusal(object.py(), &error) => Err(refuse()?),
        Err(error) => Err(error.into()),
    }
}

/// The number given as the argument `name`.
pub fn real(name: &str, object: &Bound<'_, PyAny>) -> Outcome<f64> {
    number(object, || name.to_owned())
}

/// A whole number of at least `least`.
pub fn whole(object: &Bound<'_, PyAny>, what: &str, least: u64) -> Outcome<u64> {
    whole_in(object, what, least..=u64::MAX)
}

/// A number of threads, from 1 to [`THREADS_MAX`].
pub fn number_of_threads(object: &Bound<'_, PyAny>, what: &str) -> Outcome<usize> {
    Ok(whole_in(object, what, 1..=THREADS_MAX as u64)? as usize)
}

fn whole_in(object: &Bound<'_, PyAny>, what: &str, range: RangeInclusive<u64>) -> Outcome<u64> {
    if is_bool(object)? || !object.hasattr("__index__")? {
        let (what, got) = (what.to_owned(), described(object)?);
        return Err(Refusal::Kind { what, kind: "a whole number", got });
    }
    let number = match object.extract::<u64>() {
        Ok(number) => Some(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(number) = number.filter(|number| range.contains(number)) {
        return Ok(number);
    }
    let (least, most, got) = (range.start(), range.end(), representation(object)?);
    let most = if *most == u64::MAX { "2**64 - 1".to_owned() } else { most.to_string() };
    let message = format!("{what} must be a whole number from {least} to {most}, got {got}");
    Err(Refusal::Value(message))
}

/// A boolean of Python or NumPy.
pub fn flag(name: &str, object: &Bound<'_, PyAny>) -> Outcome<bool> {
    if is_bool(object)? {
        return Ok(object.is_truthy()?);
    }
    Err(Refusal::Kind { what: name.to_owned(), kind: "True or False", got: described(object)? })
}

/// A string.
pub fn text(name: &str, object: &Bound<'_, PyAny>) -> Outcome<String> {
    match object.extract::<String>() {
        Ok(text) => Ok(text),
        Err(error) if is_a_refusal(object.py(), &error) => {
            Err(Refusal::Kind { what: name.to_owned(), kind: "a string", got: described(object)? })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the object is a boolean of Python or NumPy.
fn is_bool(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static BOOL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(object.is_instance_of::<PyBool>()
        || object.is_instance(BOOL.import(object.py(), "numpy", "bool_")?)?)
}

/// `repr(object)`, cut after 60 characters.
pub fn representation(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = if_said(object.py(), object.repr().and_then(|text| text.extract::<String>()))?;
    let text = text.unwrap_or_else(|| "?".to_owned());
    Ok(match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    })
}

fn described(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(format!("{} of type {}", representation(object)?, type_name(object)))
}

/// Hyperparameters shared by a class of parameters.
#[derive(Debug)]
pub struct Class {
    pub frozen: bool,
    /// The format of state.
    pub format: Format,
    /// The meaning of a gradient that has rows; `None` refuses it.
    pub rows: Option<RowsMeaning>,
    /// Whether each row of a parameter has a number of updates of its own.
    pub row_steps: bool,
    values: Vec<(Hyperparameter, Value)>,
    lr_scales: Vec<Value>,
}

impl Class {
    /// From `{"frozen": bool, "state": format, "rows": meaning, "row_steps": bool, "lr_scale": (...),
    /// name: number or callable}`. `kinds` are the element types of the parameters in the class.
    pub fn extract(given: &Bound<'_, PyDict>, kinds: &[Kind]) -> Outcome<Self> {
        let frozen = given.get_item("frozen")?.map_or(Ok(false), |frozen| frozen.extract())?;
        let format =
            given.get_item(FORMAT)?.map_or(Ok(Format::default()), |given| format(&given))?;
        let rows = given.get_item(ROWS)?.map_or(Ok(None), |given| rows_meaning(&given))?;
        let row_steps =
            given.get_item(ROW_STEPS)?.map_or(Ok(false), |given| flag(ROW_STEPS, &given))?;
        let (values, lr_scales) = (Vec::new(), Vec::new());
        let mut class = Class { frozen, format, rows, row_steps, values, lr_scales };
        // The strictest type decides. Without parameters that train, any value that fits float64 is
        // accepted.
        let float32 = !frozen && kinds.contains(&Kind::F32);
        let strictest = if float32 { Kind::F32 } else { Kind::F64 };
        for (key, object) in given {
            let key: String = key.extract()?;
            if ["frozen", FORMAT, ROWS, ROW_STEPS].contains(&&*key) {
                continue;
            } else if key == Hyperparameter::LrScale.name() {
                for scale in object.cast::<PyTuple>().map_err(PyErr::from)? {
                    let value = Value::extract(&scale, Hyperparameter::LrScale, Kind::F64)?;
                    class.lr_scales.push(value);
                }
            } else {
                let key = named(&key)?;
                class.values.push((key, Value::extract(&object, key, strictest)?));
            }
        }
        Ok(class)
    }

    fn value(&self, key: Hyperparameter) -> Option<&Value> {
        self.values.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether the hyperparameter is given and is not the number 0. True for a schedule.
    pub fn is_nonzero(&self, key: Hyperparameter) -> bool {
        self.value(key).is_some_and(|value| !matches!(value, Value::Number(0.0)))
    }

    /// Refuses numbers that contradict a choice, and steps of rows that do not move alone. The values
    /// of schedules are checked at each step.
    pub fn check(&self, mut numbers: Numbers) -> Outcome<()> {
        if self.row_steps && self.rows != Some(RowsMeaning::Lazy) {
            return Err(Refusal::Value(
                "row_steps=True needs rows='lazy': with other rows, all rows of a parameter have \
                 the same number of updates"
                    .to_owned(),
            ));
        }
        for key in Hyperparameter::ALL {
            let number = match self.value(key) {
                Some(Value::Number(number)) => *number,
                Some(Value::Schedule(_)) | None => key.harmless(),
            };
            set(&mut numbers, key, number);
        }
        Ok(numbers.check()?)
    }

    /// The learning rate at a step, multiplied by all scales.
    pub fn lr(&self, schedules: &mut Schedules<'_>) -> Outcome<f64> {
        let mut lr = match self.value(Hyperparameter::Lr) {
            Some(value) => schedules.number(value, Hyperparameter::Lr)?,
            None => 0.0,
        };
        for scale in &self.lr_scales {
            lr *= schedules.number(scale, Hyperparameter::LrScale)?;
        }
        Ok(lr)
    }

    /// Sets the numbers of a step.
    pub fn fill(&self, numbers: &mut Numbers, schedules: &mut Schedules<'_>) -> Outcome<()> {
        for (key, value) in &self.values {
            set(numbers, *key, schedules.number(value, *key)?);
        }
        set(numbers, Hyperparameter::Lr, self.lr(schedules)?);
        Ok(())
    }

    /// The callables, for the garbage collector.
    pub fn schedules(&self) -> impl Iterator<Item = &Py<PyAny>> {
        let values = self.values.iter().map(|(_, value)| value).chain(&self.lr_scales);
        values.filter_map(|value| match value {
            Value::Schedule(schedule) => Some(schedule),
            Value::Number(_) => None,
        })
    }
}

/// The key of the format of state.
const FORMAT: &str = "state";

/// The format of state with this name.
pub fn format(given: &Bound<'_, PyAny>) -> Outcome<Format> {
    let name = text(FORMAT, given)?;
    let found = Format::ALL.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| {
        Refusal::Value(format!(
            "state must be 'full', 'bfloat16' or 'compact', got {}",
            Quoted(&name)
        ))
    })
}

/// The meaning of a gradient that has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsMeaning {
    /// Only these rows of parameter and state change.
    Lazy,
    /// The other rows have a gradient of zero.
    Dense,
}

/// The key of the meaning of rows.
const ROWS: &str = "rows";

/// The key of numbers of updates for each row, and the name of their array.
pub const ROW_STEPS: &str = "row_steps";

/// The meaning of rows with this name, or `None`.
pub fn rows_meaning(given: &Bound<'_, PyAny>) -> Outcome<Option<RowsMeaning>> {
    if given.is_none() {
        return Ok(None);
    }
    match &*text(ROWS, given)? {
        "lazy" => Ok(Some(RowsMeaning::Lazy)),
        "dense" => Ok(Some(RowsMeaning::Dense)),
        other => Err(Refusal::Value(format!(
            "rows must be 'lazy', 'dense' or None, got {}",
            Quoted(other)
        ))),
    }
}

/// Sets a hyperparameter, if the rule has it.
pub fn set(numbers: &mut Numbers, key: Hyperparameter, number: f64) {
    if let Some(place) = numbers.number(key) {
        *place = number;
    }
}

/// The hyperparameter of that name.
pub fn named(name: &str) -> Outcome<Hyperparameter> {
    Hyperparameter::ALL
        .into_iter()
        .find(|key| key.name() == name)
        .ok_or_else(|| Refusal::Value(format!("{} is not a hyperparameter", Quoted(name))))
}

/// The values of schedules at one step; each callable is called once.
pub struct Schedules<'py> {
    py: Python<'py>,
    step: u64,
    called: HashMap<*mut pyo3::ffi::PyObject, f64>,
}

impl<'py> Schedules<'py> {
    pub fn new(py: Python<'py>, step: u64) -> Self {
        Schedules { py, step, called: HashMap::new() }
    }

    fn number(&mut self, value: &Value, key: Hyperparameter) -> Outcome<f64> {
        let schedule = match value {
            Value::Number(number) => return Ok(*number),
            Value::Schedule(schedule) => schedule,
        };
        let number = match self.called.get(&schedule.as_ptr()) {
            Some(number) => *number,
            None => {
                let what = || format!("{} at step {}", key.name(), self.step);
                let result = schedule
                    .bind(self.py)
                    .call1((self.step,))
                    .map_err(|error| noted(self.py, error, &format!("in {}", what())))?;
                let number = number(&result, what)?;
                self.called.insert(schedule.as_ptr(), number);
                number
            }
        };
        key.check(number, Kind::F64).map_err(|error| Refusal::Core { error, step: Some(self.step) })
    }
}

/// The exception with a note (PEP 678), which a traceback shows below its message.
fn noted(py: Python<'_>, error: PyErr, note: &str) -> PyErr {
    let exception = error.value(py);
    let noted = if_said(py, exception.call_method1(intern!(py, "add_note"), (note,)));
    // Python 3.10 has no `add_note`, so `__notes__` is set instead. An exception that accepts no
    // note is reported without it.
    let put = |_| if_said(py, exception.setattr(intern!(py, "__notes__"), [note]));
    match noted.and_then(|noted| if noted.is_none() { put(()).map(drop) } else { Ok(()) }) {
        Ok(()) => error,
        Err(interrupt) => interrupt,
    }
}
