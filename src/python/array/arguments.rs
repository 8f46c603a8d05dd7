//! Array arguments of the functions, checked: one array each, or sequences of equal length.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::array::checks::{gradient_of, written};
use crate::array::foreign::as_array;
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::overlap::{first_file_overlap, first_overlap};
use crate::interpreter::errors::{Outcome, Refusal};
use thalweg::array::pointer::{ARRAYS, GRADIENT, PARAMETER, Pointer};
use thalweg::array::storage::Storage;

/// Arguments by tensor: `rows[i]` holds the parameter, the gradient and the state of tensor `i`.
pub struct Rows<'py> {
    names: Vec<&'static str>,
    sequence: bool,
    rows: Vec<Vec<Bound<'py, PyAny>>>,
}

impl<'py> Rows<'py> {
    /// From arguments with their names, in the order parameter, gradient, state.
    pub fn new(arguments: &[(&'static str, &Bound<'py, PyAny>)]) -> Outcome<Self> {
        let names: Vec<&'static str> = arguments.iter().map(|(name, _)| *name).collect();
        let columns: Vec<Option<Vec<_>>> =
            arguments.iter().map(|(_, argument)| entries(argument)).collect();
        let sequence = columns[PARAMETER].is_some();
        let len = columns[PARAMETER].as_ref().map_or(1, Vec::len);
        let mut rows: Vec<Vec<Bound<'py, PyAny>>> = vec![Vec::new(); len];
        for (column, (name, argument)) in columns.into_iter().zip(arguments) {
            match column {
                None if !sequence => rows[0].push((*argument).clone()),
                Some(column) if sequence && column.len() == len => {
                    rows.iter_mut().zip(column).for_each(|(row, array)| row.push(array));
                }
                other => {
                    let count = |n: Option<usize>| {
                        n.map_or("one array".to_owned(), |n| format!("a sequence of length {n}"))
                    };
                    return Err(Refusal::Value(format!(
                        "{name} must be {}, as {} is, got {}",
                        count(sequence.then_some(len)),
                        names[PARAMETER],
                        count(other.map(|column| column.len())),
                    )));
                }
            }
        }
        let mut found = Rows { names, sequence, rows };
        for row in 0..found.rows.len() {
            let what = || found.describe(row, GRADIENT);
            if let Some(array) = as_array(&found.rows[row][GRADIENT], what)? {
                found.rows[row][GRADIENT] = array;
            }
        }
        Ok(found)
    }

    /// The name in messages: "exp_avg", or "exp_avg[2]" in a sequence.
    pub fn describe(&self, row: usize, column: usize) -> String {
        let name = self.names[column];
        if self.sequence { format!("{name}[{row}]") } else { name.to_owned() }
    }

    /// All arrays by tensor, if each fits and no written array overlaps another.
    pub fn check(&self) -> Outcome<Vec<Arrays<'_>>> {
        let objects = self.rows.iter().flat_map(|row| row.iter().enumerate());
        let in_files = first_file_overlap(objects.map(|(column, o)| (o, column != GRADIENT)))?;
        let mut tensors = Vec::with_capacity(self.rows.len());
        let mut occupants = Vec::with_capacity(self.rows.len() * self.names.len());
        for (i, row) in self.rows.iter().enumerate() {
            tensors.push(check(row, |column| self.describe(i, column), &mut occupants)?);
        }
        let overlap = first_overlap(&occupants).or(in_files);
        let Some((earlier, later)) = overlap else { return Ok(tensors) };
        let describe = |i| self.describe(i / self.names.len(), i % self.names.len());
        Err(Refusal::Overlap {
            written: describe(earlier),
            other: describe(later),
            advice: "pass a copy of one (array.copy())",
        })
    }
}

/// The entries of a list or tuple; `None` for other objects.
fn entries<'py>(argument: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = argument.cast::<PyList>() {
        return Some(list.iter().collect());
    }
    argument.cast::<PyTuple>().ok().map(|tuple| tuple.iter().collect())
}

/// The arrays of one tensor, checked.
pub struct Arrays<'a> {
    pub storage: Storage,
    pub shape: &'a [usize],
    pub pointers: [Pointer; ARRAYS],
    pub strides: [&'a [isize]; ARRAYS],
}

/// Checks the arrays of one tensor, and appends them to `occupants`.
fn check<'a, 'py>(
    row: &'a [Bound<'py, PyAny>],
    describe: impl Fn(usize) -> String,
    occupants: &mut Vec<Occupant<'a, 'py>>,
) -> Outcome<Arrays<'a>> {
    let (p, storage) = written(&row[PARAMETER], || describe(PARAMETER))?;
    let own = Memory::of(p);
    let mut arrays = Arrays {
        storage,
        shape: own.shape,
        pointers: [Pointer { address: own.address, storage }; ARRAYS],
        strides: [own.strides; ARRAYS],
    };
    occupants.push(Occupant { array: p, storage, written: true });
    for (column, object) in row.iter().enumerate().skip(1) {
        let what = || describe(column);
        let read_only = column == GRADIENT;
        let (array, found): (&Bound<'py, PyUntypedArray>, Storage) =
            if read_only { gradient_of(object, what)? } else { written(object, what)? };
        if !read_only && found != storage {
            return Err(Refusal::Dtype {
                what: what(),
                kind: format!("the dtype of its parameter, {}", storage.numpy()),
                got: found.numpy().to_owned(),
                advice: "convert it (array.astype(p.dtype))",
            });
        }
        let memory = Memory::of(array);
        if memory.shape != own.shape {
            let (got, expected) = (memory.shape.to_vec(), own.shape.to_vec());
            return Err(Refusal::Shape { what: what(), got, expected });
        }
        arrays.pointers[column] = Pointer { address: memory.address, storage: found };
        arrays.strides[column] = memory.strides;
        occupants.push(Occupant { array, storage: found, written: !read_only });
    }
    Ok(arrays)
}
