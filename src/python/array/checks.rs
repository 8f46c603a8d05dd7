//! Checks of NumPy arrays before the core uses them.
//!
//! Arrays are untyped and read through their struct: typed arguments and borrow locks of rust-numpy
//! panic on conflict and cost too much for a thousand tensors. [`Checked`] keeps what the struct
//! said, and each step compares it again, because Python can resize, freeze or reshape an array in
//! place.

use numpy::npyffi::NPY_TYPES;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::array::foreign::{self, Role};
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::storage::storage_of;
use crate::interpreter::errors::{Outcome, Refusal, if_said};
use crate::interpreter::types::{loaded_modules, type_name};
use thalweg::array::pointer::Pointer;
use thalweg::array::storage::Storage;

/// Parts of messages about arrays in one role.
struct Advice {
    role: Role,
    accepts: fn(Storage) -> bool,
    /// The accepted objects.
    kind: &'static str,
    /// The accepted dtypes.
    dtypes: &'static str,
    /// For an object that is not an array.
    no_array: &'static str,
    /// Conversions from another dtype, complex numbers, objects, records and bytes without a type.
    ways: [&'static str; 5],
}

const PARAMETER: Advice = Advice {
    role: Role::Written,
    accepts: Storage::is_whole,
    kind: "a float32 or float64 ndarray, or a dict, list or tuple of them",
    dtypes: "dtype float32 or float64 in native byte order",
    no_array: "convert it (np.asarray(x, np.float32))",
    ways: [
        "convert it (array.astype(np.float32))",
        "pass a view of real and imaginary parts (array.view(array.real.dtype))",
        "convert it (list(array) for an array of arrays, array.astype(np.float32) for numbers)",
        "pass a copy of one field (array['name'].copy())",
        "view it as its type (array.view(np.float32))",
    ],
};
/// A gradient, in messages about objects that are no arrays.
pub const GRADIENT_KIND: &str = "a float32 or float64 ndarray";
/// Advice for a gradient that is not an array.
pub const GRADIENT_ADVICE: &str = "convert it (np.asarray(g, np.float32))";
const GRADIENT: Advice = Advice {
    role: Role::Read,
    accepts: Storage::is_live,
    kind: GRADIENT_KIND,
    dtypes: "dtype float32, float64, float16 or bfloat16 in native byte order",
    no_array: GRADIENT_ADVICE,
    ways: [
        "convert it (g.astype(np.float32))",
        "pass a view, if the parameter is one (g.view(g.real.dtype))",
        "convert it (list(g) for an array of arrays, g.astype(np.float32) for numbers)",
        "pass one field (g['name'])",
        "view it as its type, which np.load may have lost (g.view(ml_dtypes.bfloat16))",
    ],
};

/// `object` as an array, with its storage. Masked arrays are refused: their mask would be ignored.
fn array_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    advice: &Advice,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    let Ok(array) = object.cast::<PyUntypedArray>() else {
        let (kind, got) = (advice.kind, type_name(object));
        let advice = foreign::advice(object, advice.role).unwrap_or(advice.no_array);
        return Err(Refusal::NotAnArray { what: what(), kind, got, advice });
    };
    if !is_plain(object) && is_masked(object)? {
        let got = "a masked array".to_owned();
        return Err(Refusal::NotAnArray {
            what: what(),
            kind: advice.kind,
            got,
            advice: "fill it first (array.filled(0))",
        });
    }
    match storage_of(array).filter(|storage| (advice.accepts)(*storage)) {
        Some(storage) => Ok((array, storage)),
        None => {
            let (kind, got) = (advice.dtypes.to_owned(), dtype_name(array)?);
            Err(Refusal::Dtype { what: what(), kind, got, advice: way_to_numbers(array, advice) })
        }
    }
}

const NARROW_PARAMETER: Advice = Advice {
    accepts: Storage::is_live,
    dtypes: "dtype float32, float64, float16 or bfloat16 in native byte order",
    ..PARAMETER
};
/// The conversion of an array of uint16, which may have the bits of bfloat16 numbers.
const BITS_OF_PARAMETER: &str = "convert it (array.astype(np.float32)), or say that it has the bits of \
    bfloat16 numbers (bfloat16=name for an optimizer, array.view(ml_dtypes.bfloat16) for a function)";
const BITS_OF_GRADIENT: &str = "convert it (g.astype(np.float32)), or view the bits of bfloat16 \
    numbers as such (g.view(ml_dtypes.bfloat16))";
const BITS: &str = "dtype uint16 (the bits of bfloat16), float32, float64, float16 or bfloat16 in \
    native byte order";
const BITS_PARAMETER: Advice =
    Advice { accepts: is_live_or_bits, dtypes: BITS, ..NARROW_PARAMETER };
const BITS_GRADIENT: Advice = Advice { accepts: is_live_or_bits, dtypes: BITS, ..GRADIENT };
const STATE: Advice = Advice {
    accepts: |_| true,
    kind: "an ndarray of the shape of its parameter",
    no_array: "make it before the first update (np.zeros(p.shape, np.float32))",
    ..PARAMETER
};

/// The conversion of an array of another dtype to an accepted one.
fn way_to_numbers(array: &Bound<'_, PyUntypedArray>, advice: &Advice) -> &'static str {
    let [other, complex, objects, records, bytes] = advice.ways;
    let dtype = array.dtype();
    match dtype.kind() {
        b'c' => complex,
        b'O' => objects,
        _ if dtype.has_fields() => records,
        _ if dtype.num() == NPY_TYPES::NPY_VOID as i32 => bytes,
        _ if storage_of(array) == Some(Storage::Dithered) => match advice.role {
            Role::Written => BITS_OF_PARAMETER,
            Role::Read => BITS_OF_GRADIENT,
        },
        _ => other,
    }
}

/// `object` as a gradient. With `bits`, an array of uint16 has the bits of bfloat16 numbers.
pub fn gradient_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    bits: bool,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    Ok(live(array_of(object, what, if bits { &BITS_GRADIENT } else { &GRADIENT })?))
}

/// The array with the storage that its numbers have, where the user has declared bits.
fn live<'a, 'py>(
    (array, storage): (&'a Bound<'py, PyUntypedArray>, Storage),
) -> (&'a Bound<'py, PyUntypedArray>, Storage) {
    (array, if storage == Storage::Dithered { Storage::BF16 } else { storage })
}

/// Whether a parameter or gradient that is declared to have bits may have this storage.
fn is_live_or_bits(storage: Storage) -> bool {
    storage.is_live() || storage == Storage::Dithered
}

/// `object` as a whole array to update in place: writable, aligned, and without overlap in itself.
pub fn written<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    written_as(object, what, &PARAMETER)
}

/// As [`written`], for a parameter that may be narrow. With `bits`, an array of uint16 has the bits
/// of bfloat16 numbers.
pub fn parameter_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    bits: bool,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    let advice = if bits { &BITS_PARAMETER } else { &NARROW_PARAMETER };
    Ok(live(written_as(object, what, advice)?))
}

/// As [`written`], for an array that belongs to a parameter, of any storage; `kind` is the accepted
/// one, for an array that has none.
pub fn state_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    kind: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    written_as(object, what, &STATE).map_err(|refusal| match refusal {
        Refusal::Dtype { what, got, advice, .. } => {
            Refusal::Dtype { what, kind: kind(), got, advice }
        }
        other => other,
    })
}

fn written_as<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    advice: &Advice,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
    let (array, storage) = array_of(object, &what, advice)?;
    let memory = Memory::of(array);
    if !memory.writable() {
        return Err(Refusal::NotWritable { what: what(), advice: way_to_write(array) });
    }
    if !memory.aligned() {
        return Err(Refusal::Misaligned { what: what() });
    }
    if memory.overlaps_itself(storage) {
        return Err(Refusal::SelfOverlap { what: what() });
    }
    Ok((array, storage))
}

/// The advice for a read-only array.
fn way_to_write(array: &Bound<'_, PyUntypedArray>) -> &'static str {
    match Memory::lender(array) {
        None if Memory::of(array).owns() => "array.copy() or array.setflags(write=True)",
        Some(lender) if type_name(&lender) == "mmap.mmap" => {
            "a map with mode=\"r+\", which updates the file, or mode=\"c\", which does not; or \
             array.copy()"
        }
        _ => "array.copy()",
    }
}

/// A checked array, with what its struct said then.
#[derive(Debug)]
pub struct Checked {
    pub array: Py<PyUntypedArray>,
    pub storage: Storage,
    /// The storage that its dtype alone tells.
    dtype: Option<Storage>,
    pub address: usize,
    pub shape: Box<[usize]>,
    pub strides: Box<[isize]>,
}

impl Checked {
    pub fn new(array: &Bound<'_, PyUntypedArray>, storage: Storage) -> Self {
        let memory = Memory::of(array);
        Checked {
            array: array.clone().unbind(),
            storage,
            dtype: storage_of(array),
            address: memory.address.addr(),
            shape: memory.shape.into(),
            strides: memory.strides.into(),
        }
    }

    /// The array as a written one in a check for overlaps.
    pub fn occupant<'a, 'py>(&'a self, py: Python<'py>) -> Occupant<'a, 'py> {
        Occupant { array: self.array.bind(py), storage: self.storage, written: true }
    }

    /// The array's memory, if its struct is unchanged. `advice` follows "restore it" in the message.
    #[inline(always)]
    pub fn recheck(
        &self,
        py: Python<'_>,
        advice: &'static str,
        what: impl Fn() -> String,
    ) -> Outcome<Pointer> {
        let array = self.array.bind(py);
        let memory = Memory::of(array);
        let unchanged = memory.address.addr() == self.address
            && same(memory.shape, &self.shape)
            && same(memory.strides, &self.strides)
            && memory.writable()
            && storage_of(array) == self.dtype;
        if unchanged {
            return Ok(Pointer { address: memory.address, storage: self.storage });
        }
        Err(Refusal::Changed { what: what(), how: self.change(array), advice })
    }

    /// What differs from the struct that was checked.
    #[cold]
    fn change(&self, array: &Bound<'_, PyUntypedArray>) -> &'static str {
        let memory = Memory::of(array);
        if storage_of(array) != self.dtype {
            "its dtype differs"
        } else if !same(memory.shape, &self.shape) {
            "its shape differs"
        } else if memory.address.addr() != self.address || !same(memory.strides, &self.strides) {
            "its memory has moved"
        } else {
            "it is read-only"
        }
    }
}

/// Equality of short slices, without the call into the C library that `==` makes.
pub fn same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a == b)
}

/// The array as a plain ndarray, because a subclass can override NumPy's functions.
pub fn plain<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = array.py();
    if is_plain(array) {
        return Ok(array.clone());
    }
    let ndarray = ndarray_type(py);
    Ok(ndarray.call_method1("view", (array, ndarray))?.cast_into::<PyUntypedArray>()?)
}

fn dtype_name(array: &Bound<'_, PyUntypedArray>) -> PyResult<String> {
    let name = array.dtype().str().and_then(|name| name.extract::<String>());
    Ok(if_said(array.py(), name)?.unwrap_or_else(|| "unknown".to_owned()))
}

fn ndarray_type(py: Python<'_>) -> &Bound<'_, PyType> {
    static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    NDARRAY.get_or_init(py, || py.get_type::<PyUntypedArray>().unbind()).bind(py)
}

/// Whether the object is an ndarray and not of a subclass.
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    std::ptr::eq(object.get_type_ptr(), ndarray_type(object.py()).as_type_ptr())
}

/// Whether the object is a masked array, by its type and only if `numpy.ma` is imported. No Python
/// code may run while arrays are checked: `isinstance` would ask the object for its class, and an
/// import runs code of the module.
fn is_masked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    match loaded_modules(py)?.get_item(intern!(py, "numpy.ma"))? {
        Some(module) => object.get_type().is_subclass(&module.getattr(intern!(py, "MaskedArray"))?),
        None => Ok(false),
    }
}
