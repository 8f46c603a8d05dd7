//! Array arguments of the functions, checked: one array each, or sequences of equal length.

#![allow(unsafe_code)] // takes the numbers of a checked array

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use thalweg::step::kept::Kept;

use crate::array::checks::{gradient_of, parameter_of, state_of};
use crate::array::foreign::as_array;
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::overlap::{first_file_overlap, first_overlap};
use crate::array::rows::{
    GivenRows, check_has_rows, check_indices, check_values, check_whole_blocks,
};
use crate::array::storage::kind_of;
use crate::interpreter::errors::{Outcome, Refusal};
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, Pointer, STATE};
use thalweg::array::storage::{Storage, e5m3};
use thalweg::rule::{Content, HISTORY};

/// The slot of an argument in an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot {
    Parameter,
    Gradient,
    /// State with this content; its number.
    State(Content, usize),
    /// The exponents of the state array of this name, if it has codes.
    Bases(&'static str),
    /// What a narrow parameter lacks.
    Low,
    /// What the rule keeps of earlier steps.
    History,
}

/// An argument: its name, its slot, and one array, a sequence of arrays, or None.
pub type Argument<'a, 'py> = (&'static str, Slot, &'a Bound<'py, PyAny>);

/// Arguments by tensor: `rows[i]` holds the arrays of tensor `i` in the order of the arguments.
pub struct Rows<'py> {
    columns: Vec<(&'static str, Slot)>,
    sequence: bool,
    rows: Vec<Vec<Bound<'py, PyAny>>>,
    /// The indices of each gradient that has rows.
    indices: Vec<Option<Vec<usize>>>,
}

impl<'py> Rows<'py> {
    /// From arguments, the first of which is the parameter, the second the gradient. An argument
    /// that is None is None for every tensor.
    pub fn new(arguments: &[Argument<'_, 'py>]) -> Outcome<Self> {
        let given: Vec<Option<Vec<_>>> =
            arguments.iter().map(|(_, _, argument)| entries(argument)).collect();
        let sequence = given[PARAMETER].is_some();
        let len = given[PARAMETER].as_ref().map_or(1, Vec::len);
        let row = || Vec::with_capacity(arguments.len());
        let mut rows: Vec<Vec<Bound<'py, PyAny>>> = std::iter::repeat_with(row).take(len).collect();
        for (column, (name, _, argument)) in given.into_iter().zip(arguments) {
            match column {
                None if !sequence || argument.is_none() => {
                    rows.iter_mut().for_each(|row| row.push((*argument).clone()));
                }
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
                        arguments[PARAMETER].0,
                        count(other.map(|column| column.len())),
                    )));
                }
            }
        }
        let columns = arguments.iter().map(|(name, slot, _)| (*name, *slot)).collect();
        let mut found = Rows { columns, sequence, rows, indices: Vec::with_capacity(len) };
        for row in 0..found.rows.len() {
            let what = || found.describe(row, GRADIENT);
            let mut gradient = found.rows[row][GRADIENT].clone();
            let mut indices = None;
            if let Some(given) = GivenRows::of(&gradient, what)? {
                (gradient, indices) = (given.values.into_bound(gradient.py()), Some(given.indices));
            }
            if let Some(array) = as_array(&gradient, what)? {
                gradient = array;
            }
            found.rows[row][GRADIENT] = gradient;
            found.indices.push(indices);
        }
        Ok(found)
    }

    /// The name in messages: "exp_avg", or "exp_avg[2]" in a sequence.
    pub fn describe(&self, row: usize, column: usize) -> String {
        let name = self.columns[column].0;
        if self.sequence { format!("{name}[{row}]") } else { name.to_owned() }
    }

    /// All arrays by tensor, if each fits and no written array overlaps another.
    pub fn check(&self) -> Outcome<Vec<Arrays<'_>>> {
        let objects = self.rows.iter().flat_map(|row| row.iter().enumerate());
        let in_files = first_file_overlap(objects.map(|(column, o)| (o, column != GRADIENT)))?;
        let mut tensors = Vec::with_capacity(self.rows.len());
        let mut occupants = Vec::with_capacity(self.rows.len() * self.columns.len());
        // The position of each occupant among all objects.
        let mut positions = Vec::with_capacity(occupants.capacity());
        for (i, row) in self.rows.iter().enumerate() {
            let mut check = Check { rows: self, i, row, occupants: &mut occupants };
            tensors.push(check.arrays()?);
            let given = (0..row.len()).filter(|column| !row[*column].is_none());
            positions.extend(given.map(|column| i * row.len() + column));
        }
        let overlap =
            first_overlap(&occupants).map(|(a, b)| (positions[a], positions[b])).or(in_files);
        let Some((earlier, later)) = overlap else { return Ok(tensors) };
        let describe = |i| self.describe(i / self.columns.len(), i % self.columns.len());
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
    /// The exponents of the state array that has codes.
    pub bases: Option<*mut u8>,
    /// What the rule keeps of earlier steps.
    pub kept: Option<Kept>,
    /// The memory of the gradient, if it has the rows with these indices.
    pub rows: Option<(&'a [usize], Memory<'a>)>,
}

impl Arrays<'_> {
    /// Whether an array is not whole.
    pub fn is_narrow(&self) -> bool {
        let written = self.pointers.iter().enumerate().filter(|(k, _)| *k != GRADIENT);
        written.map(|(_, pointer)| pointer.storage).any(|storage| !storage.is_whole())
    }
}

/// A check of the arrays of one tensor.
struct Check<'c, 'a, 'py> {
    rows: &'a Rows<'py>,
    i: usize,
    row: &'a [Bound<'py, PyAny>],
    occupants: &'c mut Vec<Occupant<'a, 'py>>,
}

impl<'a, 'py> Check<'_, 'a, 'py> {
    fn arrays(&mut self) -> Outcome<Arrays<'a>> {
        let row = self.row;
        let what = |column| self.rows.describe(self.i, column);
        let (p, storage) = parameter_of(&row[PARAMETER], || what(PARAMETER), false)?;
        let own = Memory::of(p);
        let mut arrays = Arrays {
            storage,
            shape: own.shape,
            pointers: [Pointer { address: own.address, storage }; ARRAYS],
            strides: [own.strides; ARRAYS],
            bases: None,
            kept: None,
            rows: None,
        };
        let indices = self.rows.indices[self.i].as_deref();
        self.occupants.push(Occupant { array: p, storage, written: true });
        let mut codes = None;
        for (column, ((_, slot), object)) in
            self.rows.columns.iter().zip(row).enumerate().skip(GRADIENT)
        {
            let what = || self.rows.describe(self.i, column);
            let found = match slot {
                Slot::Parameter => continue,
                Slot::Gradient => gradient_of(object, what, false)?,
                Slot::State(content, _) => {
                    let whole = storage.whole();
                    let kinds = || kinds_of_state(*content, storage);
                    let (array, found) = state_of(object, what, kinds)?;
                    if !content.allows(found, whole) {
                        return Err(Refusal::Dtype {
                            what: what(),
                            kind: kinds(),
                            got: found.numpy().to_owned(),
                            advice: match found {
                                Storage::BF16 if content.allows(Storage::Dithered, whole) => {
                                    "view its bits (array.view(np.uint16))"
                                }
                                _ if storage == whole => "convert it (array.astype(p.dtype))",
                                _ => "convert it (array.astype(np.float32))",
                            },
                        });
                    }
                    if found == Storage::E5M3 {
                        check_blocks(array, what)?;
                        codes = Some(column);
                    }
                    (array, found)
                }
                Slot::Bases(of) => {
                    let Some(codes) = codes else {
                        check_none(object, what, &format!("a uint8 {of}"))?;
                        continue;
                    };
                    let len = own.len().div_ceil(e5m3::BLOCK);
                    let array = bases_of(object, len, what, || self.rows.describe(self.i, codes))?;
                    arrays.bases = Some(Memory::of(array).address);
                    self.occupants.push(Occupant { array, storage: Storage::E5M3, written: true });
                    continue;
                }
                Slot::History => {
                    let (array, kept) = history_of(object, what)?;
                    arrays.kept = Some(kept);
                    self.occupants.push(Occupant { array, storage: Storage::F64, written: true });
                    continue;
                }
                Slot::Low => {
                    if storage.is_whole() {
                        check_none(object, what, "a float16 or bfloat16 parameter")?;
                        continue;
                    }
                    low_of(object, storage, what, || self.rows.describe(self.i, PARAMETER))?
                }
            };
            let (array, found): (&Bound<'py, PyUntypedArray>, Storage) = found;
            let memory = Memory::of(array);
            if let Some(indices) = indices.filter(|_| *slot == Slot::Gradient) {
                check_has_rows(own.shape, || self.rows.describe(self.i, PARAMETER))?;
                check_indices(indices, own.shape[0], what)?;
                check_values(memory.shape, indices.len(), own.shape, what)?;
                arrays.rows = Some((indices, memory));
            } else if memory.shape != own.shape {
                let (got, expected) = (memory.shape.to_vec(), own.shape.to_vec());
                return Err(Refusal::Shape { what: what(), got, expected });
            }
            let k = match slot {
                Slot::State(_, number) => STATE + number,
                Slot::Low => LOW,
                _ => GRADIENT,
            };
            arrays.pointers[k] = Pointer { address: memory.address, storage: found };
            arrays.strides[k] = memory.strides;
            let written = *slot != Slot::Gradient;
            self.occupants.push(Occupant { array, storage: found, written });
        }
        if let Some(codes) = codes.filter(|_| arrays.rows.is_some()) {
            let name = self.rows.columns[codes].0;
            let way = format!("pass {name} in another dtype, or the gradient as an array");
            check_whole_blocks(own.shape, || self.rows.describe(self.i, PARAMETER), &way)?;
        }
        Ok(arrays)
    }
}

/// The accepted dtypes of a state array, in messages.
fn kinds_of_state(content: Content, parameter: Storage) -> String {
    let whole = parameter.whole();
    let is_allowed = |storage: &Storage| *storage != whole && content.allows(*storage, whole);
    let narrow = Storage::ALL.iter().copied().filter(is_allowed).map(Storage::numpy);
    let or = narrow.map(|name| format!(" or {name}")).collect::<String>();
    let kind = if parameter == whole { "the dtype of its parameter," } else { "dtype" };
    format!("{kind} {}{or}", whole.numpy())
}

/// Refuses codes that are not dense in logical order, in which blocks are counted.
fn check_blocks(array: &Bound<'_, PyUntypedArray>, what: impl Fn() -> String) -> Outcome<()> {
    match Memory::of(array).c_contiguous() {
        true => Ok(()),
        false => Err(Refusal::Value(format!(
            "{} in uint8 must be C-contiguous, because 64 elements share an exponent; pass a slice \
             of the flat array (array.reshape(-1)[start:stop])",
            what()
        ))),
    }
}

/// The exponents of the blocks of codes.
fn bases_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    len: usize,
    what: impl Fn() -> String,
    codes: impl Fn() -> String,
) -> Outcome<&'a Bound<'py, PyUntypedArray>> {
    let wanted = |got: String| {
        Refusal::Value(format!(
            "{} in uint8 needs {}, one exponent for each {} elements: a contiguous uint8 array of \
             shape ({len},), got {got}; make it (np.zeros({len}, np.uint8)) before the first update",
            codes(),
            what(),
            e5m3::BLOCK
        ))
    };
    if object.is_none() {
        return Err(wanted("None".to_owned()));
    }
    let (array, storage) = beside(object, &what, wanted)?;
    let memory = Memory::of(array);
    let kind = kind_of(storage, memory.shape);
    if storage != Storage::E5M3 || memory.shape != [len] {
        return Err(wanted(kind));
    }
    match memory.c_contiguous() {
        true => Ok(array),
        false => Err(wanted(format!("{kind} that is not contiguous"))),
    }
}

/// `object` as an array of any storage; what is no array or has no storage is not the `wanted` one.
fn beside<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    wanted: impl Fn(String) -> Refusal,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    state_of(object, what, String::new).map_err(|refusal| match refusal {
        Refusal::Dtype { got, .. } | Refusal::NotAnArray { got, .. } => wanted(got),
        other => other,
    })
}

/// What a narrow parameter lacks.
fn low_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    parameter: Storage,
    what: impl Fn() -> String,
    p: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    let wanted = |got: String| {
        let (p, what) = (p(), what());
        Refusal::Value(format!(
            "{p} in {} needs {what}, an int16 array of its shape with the rest of its float32, got \
             {got}; make it (np.zeros({p}.shape, np.int16)) before the first update",
            parameter.numpy()
        ))
    };
    if object.is_none() {
        return Err(wanted("None".to_owned()));
    }
    let (array, storage) = beside(object, &what, wanted)?;
    match storage {
        Storage::Low => Ok((array, storage)),
        _ => Err(wanted(kind_of(storage, Memory::of(array).shape))),
    }
}

/// What the rule keeps of earlier steps. The array must not be resized during the call.
fn history_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Kept)> {
    let wanted = |got: String| {
        Refusal::Value(format!(
            "{} must be a contiguous float64 array of shape ({HISTORY},), got {got}; make it \
             (np.zeros({HISTORY})) before the first update",
            what()
        ))
    };
    if object.is_none() {
        return Err(wanted("None".to_owned()));
    }
    let (array, storage) = beside(object, &what, wanted)?;
    let memory = Memory::of(array);
    // SAFETY: the caller of the function keeps the array and does not resize it.
    match unsafe { memory.history(storage) } {
        Some(kept) => Ok((array, kept)),
        None => Err(wanted(kind_of(storage, memory.shape))),
    }
}

fn check_none(object: &Bound<'_, PyAny>, what: impl Fn() -> String, owner: &str) -> Outcome<()> {
    match object.is_none() {
        true => Ok(()),
        false => Err(Refusal::Value(format!(
            "{} must be None, because it belongs to {owner}, and there is none",
            what()
        ))),
    }
}
