//! The arrays beside a parameter: the state of its rule, and what narrow storages need.

use std::sync::Arc;

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use thalweg::array::pointer::MAX_STATE;
use thalweg::array::storage::{Storage, e5m3};
use thalweg::rule::{Content, Format, HISTORY, StateSpec};

use crate::array::checks::plain;
use crate::values::hyper::ROW_STEPS;

/// The name of what a narrow parameter lacks.
pub const LOW: &str = "low";
/// The name of what the rule keeps of a parameter's earlier steps.
pub const KEPT: &str = "history";

/// The arrays beside a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The state arrays that parameters of the optimizer can have; this one has the first `states`.
    specs: Arc<[StateSpec]>,
    states: usize,
    storages: [Storage; MAX_STATE],
    low: bool,
    history: bool,
    row_steps: bool,
}

/// An array's name, dtype and shape.
pub type DescribedPart<'py> = (&'static str, &'static str, Bound<'py, PyTuple>);

/// One of these arrays.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub name: &'static str,
    pub storage: Storage,
    shape: Shape,
}

/// The shape of an array, and its order in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// As the parameter.
    Like,
    /// The parameter's shape, in logical order.
    Logical,
    /// One entry for each block of the parameter's elements.
    Blocks,
    /// A history.
    History,
    /// One entry for each row of the parameter.
    Rows,
}

impl Form {
    /// The form of a parameter of this storage with the first `states` of these state arrays.
    pub fn new(
        specs: &Arc<[StateSpec]>,
        states: usize,
        format: Format,
        (parameter, len): (Storage, usize),
    ) -> Self {
        let whole = parameter.whole();
        let mut storages = [whole; MAX_STATE];
        for (storage, spec) in storages.iter_mut().zip(&specs[..states]) {
            *storage = format.storage(spec.content, whole, len);
        }
        let low = !parameter.is_whole();
        let history = specs.iter().any(|spec| spec.content == Content::Point);
        Form { specs: Arc::clone(specs), states, storages, low, history, row_steps: false }
    }

    /// The same, with or without numbers of updates of rows.
    pub fn counting_rows(self, row_steps: bool) -> Self {
        Form { row_steps, ..self }
    }

    /// The number of state arrays of the rule; they come first.
    pub fn states(&self) -> usize {
        self.states
    }

    fn specs(&self) -> &[StateSpec] {
        &self.specs[..self.states]
    }

    /// Whether every array is whole.
    pub fn is_whole(&self) -> bool {
        !self.low && self.storages.iter().all(|storage| storage.is_whole())
    }

    /// The arrays, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let state = self.specs().iter().zip(self.storages).map(|(spec, storage)| {
            let shape = if storage == Storage::E5M3 { Shape::Logical } else { Shape::Like };
            Part { name: spec.name, storage, shape }
        });
        let low = self.low.then_some(Part { name: LOW, storage: Storage::Low, shape: Shape::Like });
        let history = Part { name: KEPT, storage: Storage::F64, shape: Shape::History };
        let history = self.keeps_history().then_some(history);
        let counts = Part { name: ROW_STEPS, storage: Storage::Count, shape: Shape::Rows };
        let counts = self.row_steps.then_some(counts);
        let beside = low.into_iter().chain(history).chain(counts);
        state.chain(self.blocked().map(Part::bases)).chain(beside)
    }

    /// The state array that is kept in blocks.
    fn blocked(&self) -> Option<&StateSpec> {
        let mut states = self.specs().iter().zip(self.storages);
        states.find(|(_, storage)| *storage == Storage::E5M3).map(|(spec, _)| spec)
    }

    /// The position of the exponents of blocks among the arrays.
    pub fn bases(&self) -> Option<usize> {
        self.blocked().map(|_| self.states())
    }

    /// The position of what a narrow parameter lacks among the arrays.
    pub fn low(&self) -> Option<usize> {
        self.low.then(|| self.states() + usize::from(self.blocked().is_some()))
    }

    /// Whether there is what the rule keeps of earlier steps.
    #[inline]
    pub fn keeps_history(&self) -> bool {
        self.history
    }

    /// The position of what the rule keeps of earlier steps among the arrays.
    pub fn history(&self) -> Option<usize> {
        self.keeps_history().then(|| self.parts().position(|part| part.name == KEPT)).flatten()
    }

    /// The position of the numbers of updates of rows among the arrays, the last one.
    pub fn row_steps(&self) -> Option<usize> {
        self.row_steps.then(|| self.parts().count() - 1)
    }

    /// The arrays beside this parameter, described.
    pub fn described<'py>(
        &self,
        parameter: &Bound<'py, PyUntypedArray>,
    ) -> PyResult<Vec<DescribedPart<'py>>> {
        let part = |part: Part| Ok((part.name, part.storage.numpy(), part.shape(parameter)?));
        self.parts().map(part).collect()
    }

    /// The name of the array at a position.
    pub fn name(&self, position: usize) -> &'static str {
        self.parts().nth(position).map_or("", |part| part.name)
    }
}

impl Part {
    fn bases(of: &StateSpec) -> Self {
        Part { name: of.base, storage: Storage::E5M3, shape: Shape::Blocks }
    }

    /// The shape of the array beside this parameter.
    fn shape<'py>(&self, parameter: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyTuple>> {
        match self.shape {
            Shape::Blocks => PyTuple::new(parameter.py(), [parameter.len().div_ceil(e5m3::BLOCK)]),
            Shape::History => PyTuple::new(parameter.py(), [HISTORY]),
            Shape::Rows => PyTuple::new(parameter.py(), parameter.shape().first()),
            Shape::Like | Shape::Logical => PyTuple::new(parameter.py(), parameter.shape()),
        }
    }

    /// Zeros for the array beside this parameter, as a plain ndarray.
    pub fn zeros<'py>(
        &self,
        parameter: &Bound<'py, PyUntypedArray>,
    ) -> PyResult<Bound<'py, PyUntypedArray>> {
        let py = parameter.py();
        let (numpy, dtype) = (py.import("numpy")?, self.storage.numpy());
        let zeros = match self.shape {
            Shape::Like => {
                let keywords = PyDict::new(py);
                keywords.set_item("dtype", dtype)?;
                numpy.call_method("zeros_like", (plain(parameter)?,), Some(&keywords))?
            }
            Shape::Logical | Shape::Blocks | Shape::History | Shape::Rows => {
                numpy.call_method1("zeros", (self.shape(parameter)?, dtype))?
            }
        };
        Ok(zeros.cast_into::<PyUntypedArray>()?)
    }
}
