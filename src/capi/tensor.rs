//! A parameter with its gradient and state, as the header has it.

use std::ffi::{CStr, c_char, c_void};

use thalweg::array::pointer::{ARRAYS, MAX_STATE};
use thalweg::array::storage::Storage;
use thalweg::error::Quoted;

use crate::refusal::Refusal;
use crate::versioned::Versioned;

/// `thalweg_tensor`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the header has them
pub struct Tensor {
    pub size: usize,
    pub name: *const c_char,
    pub p: *mut c_void,
    pub g: *const c_void,
    pub state: [*mut c_void; MAX_STATE],
    pub low: *mut c_void,
    pub bases: *mut u8,
    pub history: *mut f64,
    pub shape: *const usize,
    pub dims: usize,
    pub len: usize,
    pub rows: usize,
    pub row_stride: [isize; ARRAYS],
    pub step: u64,
    pub group: u32,
    pub dtype: i32,
    pub grad_dtype: i32,
    pub state_dtype: [i32; MAX_STATE],
}

// SAFETY: numbers and addresses, the first of them the size.
unsafe impl Versioned for Tensor {
    const NAME: &'static str = "thalweg_tensor";
}

/// The types of parameters and gradients, as the header names them.
const LIVE: &str = "0, THALWEG_FLOAT32, THALWEG_FLOAT64, THALWEG_BFLOAT16, THALWEG_FLOAT16";

/// The storage with this number in the header, of an array of numbers or of state.
pub fn storage(dtype: i32, default: Storage, is_state: bool) -> Option<Storage> {
    Some(match (dtype, is_state) {
        (0, _) => default,
        (1, _) => Storage::F32,
        (2, _) => Storage::F64,
        (3, false) => Storage::BF16,
        (3, true) => Storage::Dithered,
        (4, false) => Storage::F16,
        (5, true) => Storage::E5M3,
        _ => return None,
    })
}

/// The number of a storage in the header.
pub fn dtype(storage: Storage) -> i32 {
    match storage {
        Storage::F32 => 1,
        Storage::F64 => 2,
        Storage::BF16 | Storage::Dithered => 3,
        Storage::F16 => 4,
        Storage::E5M3 => 5,
        _ => 0,
    }
}

impl Tensor {
    /// Its name, or its position.
    pub fn called(&self, position: usize) -> String {
        // SAFETY: the promise of the caller of the library: NULL or a string.
        match unsafe { self.name() } {
            Ok(Some(name)) => name.to_owned(),
            _ => format!("tensor {position}"),
        }
    }

    /// The tensor in messages.
    pub fn what(&self, position: usize) -> String {
        // SAFETY: the promise of the caller of the library: NULL or a string.
        match unsafe { self.name() } {
            Ok(Some(name)) => format!("tensor {position} {}", Quoted(name)),
            _ => format!("tensor {position}"),
        }
    }

    /// Its name, if it has one.
    ///
    /// # Safety
    ///
    /// `name` is null or a string, which lives for `'a`.
    pub unsafe fn name<'a>(&self) -> Result<Option<&'a str>, Refusal> {
        if self.name.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        let name = unsafe { CStr::from_ptr(self.name) };
        name.to_str().map(Some).map_err(|_| Refusal::invalid("name must be UTF-8"))
    }

    /// The shape that files give it, if it is not the length.
    ///
    /// # Safety
    ///
    /// `shape` is null or has `dims` numbers, which live for `'a`.
    pub unsafe fn shape<'a>(&self) -> Result<Option<&'a [usize]>, Refusal> {
        if self.shape.is_null() {
            return match self.dims {
                0 => Ok(None),
                _ => Err(Refusal::invalid("shape must not be NULL if dims is above 0")),
            };
        }
        if self.dims > 64 || !self.shape.is_aligned() {
            return Err(Refusal::invalid("shape must be aligned, and dims at most 64"));
        }
        // SAFETY: the caller's promise.
        let shape = unsafe { std::slice::from_raw_parts(self.shape, self.dims) };
        match shape.iter().try_fold(1, |len: usize, axis| len.checked_mul(*axis)) == Some(self.len)
        {
            true => Ok(Some(shape)),
            false => Err(Refusal::invalid(format!(
                "shape must have {} elements as len says, got {shape:?}",
                self.len
            ))),
        }
    }

    /// The storage of the parameter.
    pub fn storage(&self) -> Result<Storage, Refusal> {
        storage(self.dtype, Storage::F32, false)
            .ok_or_else(|| refused_dtype("dtype", self.dtype, LIVE))
    }

    /// The storage of the gradient.
    pub fn grad_storage(&self) -> Result<Storage, Refusal> {
        let (dtype, own) = (self.grad_dtype, self.storage()?);
        storage(dtype, own, false).ok_or_else(|| refused_dtype("grad_dtype", dtype, LIVE))
    }
}

/// A type that an array cannot have.
pub fn refused_dtype(what: &str, got: i32, accepted: &str) -> Refusal {
    Refusal::invalid(format!("{what} must be one of {accepted}, got {got}"))
}
