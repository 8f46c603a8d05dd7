//! NumPy arrays as the core sees them: what they are, whether they may be used, what overlaps.
//!
//! Arrays are read through their struct, untyped: typed arguments and borrow locks of rust-numpy
//! panic on conflict and cost too much for a thousand tensors. What is checked once is remembered
//! and compared at each step, because Python can resize, freeze or reshape an array in place.

#![allow(unsafe_code)] // reads the fields of NumPy's array struct

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, npyffi};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::errors::{Outcome, Refusal};
use super::maps::{Maps, Place};
use crate::element::Kind;
use crate::gather::Pointer;

/// What is accepted in a role, and how to get there.
struct Advice {
    /// For what is no array.
    no_array: &'static str,
    /// For an array of another type.
    dtype: &'static str,
}

const PARAMETER: Advice = Advice {
    no_array: "arrays that are updated are float32 or float64 ndarrays, in dicts, lists or tuples \
               (np.asarray(x, np.float32))",
    dtype: "arrays that are updated are float32 or float64 in native byte order \
            (array.astype(np.float32))",
};
/// What gradients are, for what is no array.
pub const GRADIENTS_ARE: &str =
    "gradients are float32 or float64 ndarrays (np.asarray(g, np.float32))";
const GRADIENT: Advice = Advice {
    no_array: GRADIENTS_ARE,
    dtype: "gradients are float32 or float64 in native byte order (g.astype(np.float32))",
};

/// An array's memory, read from its struct.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    pub address: *mut u8,
    pub shape: &'a [usize],
    pub strides: &'a [isize],
    flags: i32,
}

impl<'a> Memory<'a> {
    /// The memory of an array, which must not be resized while this is in use.
    pub fn of(array: &'a Bound<'_, PyUntypedArray>) -> Self {
        // SAFETY: an array object points to a valid array struct.
        let raw = unsafe { &*array.as_array_ptr() };
        Memory {
            address: raw.fields.data.cast(),
            shape: array.shape(),
            strides: array.strides(),
            flags: raw.fields.flags,
        }
    }

    pub fn writable(&self) -> bool {
        self.flags & npyffi::NPY_ARRAY_WRITEABLE != 0
    }

    pub fn aligned(&self) -> bool {
        self.flags & npyffi::NPY_ARRAY_ALIGNED != 0
    }

    pub fn c_contiguous(&self) -> bool {
        self.flags & npyffi::NPY_ARRAY_C_CONTIGUOUS != 0
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// First address, and the one after the last; equal for an empty array.
    pub fn extent(&self, kind: Kind) -> (usize, usize) {
        let start = self.address.addr();
        if self.len() == 0 {
            return (start, start);
        }
        let reach = |positive: bool| -> isize {
            let axes = self.shape.iter().zip(self.strides);
            axes.filter(|(_, s)| (**s > 0) == positive).map(|(n, s)| (*n as isize - 1) * s).sum()
        };
        let low = start.wrapping_add_signed(reach(false));
        (low, start.wrapping_add_signed(reach(true)) + kind.size())
    }

    /// Whether strides alone show that two arrays have no element in common.
    ///
    /// Addresses are looked at modulo the greatest common divisor of the long strides: each array
    /// is an interval there, as wide as its short strides reach. Columns of one matrix are such.
    pub fn interleaves(&self, kind: Kind, other: &Memory<'_>, other_kind: Kind) -> bool {
        let mut strides: Vec<usize> = self.axes().chain(other.axes()).map(|axis| axis.1).collect();
        strides.sort_unstable_by(|one, other| other.cmp(one));
        strides.dedup();
        let mut period = 0;
        strides.into_iter().filter(|stride| *stride > 0).any(|least| {
            period = gcd(period, least);
            let (start, width) = self.below(least, kind);
            let (other_start, other_width) = other.below(least, other_kind);
            let distance = other_start.wrapping_sub(start) as isize;
            let distance = distance.rem_euclid(period as isize) as usize;
            width <= distance && distance + other_width <= period
        })
    }

    /// Lengths of the axes longer than one, with the magnitudes of their strides.
    fn axes(&self) -> impl Iterator<Item = (usize, usize)> {
        let axes = self.shape.iter().zip(self.strides);
        axes.filter(|(n, _)| **n > 1).map(|(n, stride)| (*n, stride.unsigned_abs()))
    }

    /// First address and width of what the axes with strides below a limit reach.
    fn below(&self, limit: usize, kind: Kind) -> (usize, usize) {
        let (mut start, mut width) = (self.address.addr(), kind.size());
        for (n, stride) in self.shape.iter().zip(self.strides) {
            if *n > 1 && stride.unsigned_abs() < limit {
                let reach = (n - 1) * stride.unsigned_abs();
                width += reach;
                start = start.wrapping_sub(if *stride < 0 { reach } else { 0 });
            }
        }
        (start, width)
    }

    /// Whether two elements of the array share memory.
    pub fn overlaps_itself(&self, kind: Kind) -> bool {
        if self.len() < 2 {
            return false;
        }
        let (start, end) = self.extent(kind);
        if self.len().checked_mul(kind.size()).is_none_or(|bytes| bytes > end - start) {
            return true;
        }
        let mut axes: Vec<(usize, usize)> = self.axes().map(|(n, stride)| (stride, n)).collect();
        axes.sort_unstable();
        let mut reach = kind.size();
        let nested = axes.iter().all(|(stride, n)| {
            let fits = *stride >= reach;
            reach += stride * (n - 1);
            fits
        });
        // Interleaved axes may still keep elements apart; only a look at each address tells.
        !nested && {
            let mut offsets = vec![0_usize];
            for (stride, n) in axes {
                offsets =
                    (0..n).flat_map(|i| offsets.iter().map(move |at| at + i * stride)).collect();
            }
            offsets.sort_unstable();
            offsets.windows(2).any(|pair| pair[1] - pair[0] < kind.size())
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The array's element type, if it is one of ours in native byte order.
pub fn kind_of(array: &Bound<'_, PyUntypedArray>) -> Option<Kind> {
    let dtype = array.dtype();
    let kind = match dtype.num() {
        n if n == npyffi::NPY_TYPES::NPY_FLOAT as i32 => Kind::F32,
        n if n == npyffi::NPY_TYPES::NPY_DOUBLE as i32 => Kind::F64,
        _ => return None,
    };
    dtype.is_native_byteorder().unwrap_or(false).then_some(kind)
}

/// `object` as an array, and its type. Masked arrays are refused: their mask would be ignored.
fn array_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
    advice: &Advice,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Kind)> {
    let Ok(array) = object.cast::<PyUntypedArray>() else {
        let got = format!("of type {}", type_name(object));
        return Err(Refusal::NotAnArray { what: what(), got, advice: advice.no_array });
    };
    if !object.get_type().is(ndarray_type(object.py())) && is_masked(object)? {
        let got = "a masked array".to_owned();
        return Err(Refusal::NotAnArray {
            what: what(),
            got,
            advice: "fill it first (array.filled(0))",
        });
    }
    match kind_of(array) {
        Some(kind) => Ok((array, kind)),
        None => {
            let got = format!("of dtype {}", dtype_name(array));
            Err(Refusal::Dtype { what: what(), got, advice: advice.dtype })
        }
    }
}

/// `object` as a gradient.
pub fn gradient_of<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Kind)> {
    array_of(object, what, &GRADIENT)
}

/// `object` as an array that is updated in place.
pub fn written<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: impl Fn() -> String,
) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Kind)> {
    let (array, kind) = array_of(object, &what, &PARAMETER)?;
    let memory = Memory::of(array);
    if !memory.writable() {
        return Err(Refusal::NotWritable { what: what() });
    }
    if !memory.aligned() {
        return Err(Refusal::Misaligned { what: what() });
    }
    if memory.overlaps_itself(kind) {
        return Err(Refusal::SelfOverlap { what: what() });
    }
    Ok((array, kind))
}

/// A NumPy scalar as a 0-d array.
pub fn scalar_as_array<'py>(object: &Bound<'py, PyAny>) -> Outcome<Option<Bound<'py, PyAny>>> {
    static GENERIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = object.py();
    if object.is_instance_of::<PyUntypedArray>() {
        return Ok(None);
    }
    if object.is_instance(GENERIC.import(py, "numpy", "generic")?)? {
        Ok(Some(py.import("numpy")?.call_method1("asarray", (object,))?))
    } else {
        Ok(None)
    }
}

/// An array that was checked, with what its struct said then.
#[derive(Debug)]
pub struct Checked {
    pub array: Py<PyUntypedArray>,
    pub kind: Kind,
    pub address: usize,
    pub shape: Box<[usize]>,
    pub strides: Box<[isize]>,
}

impl Checked {
    pub fn new(array: &Bound<'_, PyUntypedArray>, kind: Kind) -> Self {
        let memory = Memory::of(array);
        Checked {
            array: array.clone().unbind(),
            kind,
            address: memory.address.addr(),
            shape: memory.shape.into(),
            strides: memory.strides.into(),
        }
    }

    /// The array among others that must not overlap.
    pub fn occupant<'a, 'py>(&'a self, py: Python<'py>) -> Occupant<'a, 'py> {
        Occupant { array: self.array.bind(py), kind: self.kind, written: true }
    }

    /// The array's memory, if its struct still says what it said.
    /// `advice` goes on after "put it back".
    pub fn recheck(
        &self,
        py: Python<'_>,
        advice: &'static str,
        what: impl Fn() -> String,
    ) -> Outcome<Pointer> {
        let array = self.array.bind(py);
        let memory = Memory::of(array);
        let how = if kind_of(array) != Some(self.kind) {
            "its dtype is another"
        } else if *memory.shape != *self.shape {
            "its shape is another"
        } else if memory.address.addr() != self.address || *memory.strides != *self.strides {
            "its memory has moved"
        } else if !memory.writable() {
            "it is read-only"
        } else {
            return Ok(Pointer { address: memory.address, kind: self.kind });
        };
        Err(Refusal::Changed { what: what(), how, advice })
    }
}

/// Where arrays lie that are written, to find what might overlap them.
#[derive(Debug, Default)]
pub struct Extents {
    /// Start, end and owner, by start.
    spans: Vec<(usize, usize, usize)>,
    /// The largest end up to each span.
    reach: Vec<usize>,
}

impl Extents {
    /// The extents of arrays; owners are their positions.
    pub fn of(arrays: &[Occupant<'_, '_>]) -> Self {
        let span = |(owner, occupant): (usize, &Occupant<'_, '_>)| {
            let (start, end) = Memory::of(occupant.array).extent(occupant.kind);
            (start, end, owner)
        };
        let mut spans: Vec<_> = arrays.iter().enumerate().map(span).collect();
        spans.retain(|(start, end, _)| start < end);
        spans.sort_unstable();
        let reach = spans.iter().scan(0, |reach, span| {
            *reach = span.1.max(*reach);
            Some(*reach)
        });
        Extents { reach: reach.collect(), spans }
    }

    /// The owners of spans that meet `start..end`.
    pub fn meeting(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let below = self.spans.partition_point(|span| span.0 < end);
        (0..below)
            .rev()
            .take_while(move |i| self.reach[*i] > start && start < end)
            .filter(move |i| self.spans[*i].1 > start)
            .map(|i| self.spans[i].2)
    }
}

/// An array among others that must not overlap.
#[derive(Clone, Copy)]
pub struct Occupant<'a, 'py> {
    pub array: &'a Bound<'py, PyUntypedArray>,
    pub kind: Kind,
    pub written: bool,
}

/// Positions of the first two arrays, one of them written, that have an element in common.
///
/// Intervals of addresses only find candidates: columns of one matrix share a range and no element.
pub fn first_overlap(arrays: &[Occupant<'_, '_>]) -> PyResult<Option<(usize, usize)>> {
    let extents = Extents::of(arrays);
    for (position, later) in arrays.iter().enumerate() {
        let (start, end) = Memory::of(later.array).extent(later.kind);
        for candidate in extents.meeting(start, end).filter(|other| *other < position) {
            let earlier = &arrays[candidate];
            if (earlier.written || later.written) && share_memory(earlier, later)? {
                return Ok(Some((candidate, position)));
            }
        }
    }
    first_file_overlap(arrays)
}

/// The same for arrays that map the same bytes of a file at different addresses.
fn first_file_overlap(arrays: &[Occupant<'_, '_>]) -> PyResult<Option<(usize, usize)>> {
    let mut maps = Maps::default();
    let mut seen: Vec<(usize, Place)> = Vec::new();
    for (position, later) in arrays.iter().enumerate() {
        let Some(place) = maps.place(later.array)? else { continue };
        let conflict = |(candidate, other): &&(usize, Place)| {
            Place::conflict((&arrays[*candidate], *other), (later, place))
        };
        if let Some((candidate, _)) = seen.iter().find(conflict) {
            return Ok(Some((*candidate, position)));
        }
        seen.push((position, place));
    }
    Ok(None)
}

/// Whether two arrays have an element in common, exactly. Where strides do not show it NumPy decides.
pub fn share_memory(one: &Occupant<'_, '_>, other: &Occupant<'_, '_>) -> PyResult<bool> {
    static SHARES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if Memory::of(one.array).interleaves(one.kind, &Memory::of(other.array), other.kind) {
        return Ok(false);
    }
    let arrays = (plain(one.array)?, plain(other.array)?);
    SHARES.import(one.array.py(), "numpy", "shares_memory")?.call1(arrays)?.extract()
}

/// The array without its subclass, which could take over what NumPy does with it.
pub fn plain<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = array.py();
    let ndarray = ndarray_type(py);
    if array.get_type().is(ndarray) {
        return Ok(array.clone());
    }
    Ok(ndarray.call_method1("view", (array, ndarray))?.cast_into::<PyUntypedArray>()?)
}

/// Zeros of the shape, type and order in memory of an array, as a plain ndarray.
pub fn zeros_like<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let zeros = array.py().import("numpy")?.call_method1("zeros_like", (plain(array)?,))?;
    Ok(zeros.cast_into::<PyUntypedArray>()?)
}

/// The name of an object's type, with its module where it is not a builtin.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    match object.get_type().fully_qualified_name() {
        Ok(name) => name.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

fn dtype_name(array: &Bound<'_, PyUntypedArray>) -> String {
    array.dtype().str().map_or_else(|_| "unknown".to_owned(), |name| name.to_string())
}

fn ndarray_type(py: Python<'_>) -> &Bound<'_, PyType> {
    static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    NDARRAY.get_or_init(py, || py.get_type::<PyUntypedArray>().unbind()).bind(py)
}

/// Judged by the type alone: `isinstance` would ask the object, which may answer with code.
fn is_masked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static MASKED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    object.get_type().is_subclass(MASKED.import(object.py(), "numpy.ma", "MaskedArray")?)
}
