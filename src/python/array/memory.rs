//! The memory of one array, from its struct.

#![allow(unsafe_code)] // reads the fields of NumPy's array struct

use numpy::{PyUntypedArray, PyUntypedArrayMethods, npyffi};
use pyo3::prelude::*;

use thalweg::array::overlap::Elements;
use thalweg::array::prefetch;
use thalweg::array::storage::Storage;
use thalweg::rule::HISTORY;
use thalweg::step::kept::Kept;

/// An array's memory, read from its struct.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    pub address: *mut u8,
    pub shape: &'a [usize],
    pub strides: &'a [isize],
    flags: i32,
}

impl<'a> Memory<'a> {
    /// The memory of an array. The array must not be resized while this is in use.
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

    /// Prefetches the struct of an object that is probably an array.
    pub fn prefetch<T>(object: &Py<T>) {
        prefetch::at(object.as_ptr().cast::<npyffi::PyArrayObject>());
    }

    /// Prefetches shape and strides of an array; reads its struct.
    pub fn prefetch_layout(array: &Bound<'_, PyUntypedArray>) {
        // SAFETY: as in `of`.
        prefetch::at(unsafe { (*array.as_array_ptr()).fields.dimensions });
    }

    /// Address of the array's dtype object.
    pub fn descr(array: &Bound<'_, PyUntypedArray>) -> usize {
        // SAFETY: as in `of`.
        unsafe { (*array.as_array_ptr()).fields.descr.addr() }
    }

    /// The owner of an array's memory, below all views, if it is not an array itself. `None` if an
    /// array owns the memory; such an array can be resized.
    pub fn lender<'py>(array: &Bound<'py, PyUntypedArray>) -> Option<Bound<'py, PyAny>> {
        let mut array = array.clone();
        loop {
            // SAFETY: an array object points to a valid array struct, which holds a reference to
            // its base.
            let base = unsafe {
                let base = (*array.as_array_ptr()).fields.base;
                Bound::from_borrowed_ptr_or_opt(array.py(), base)
            };
            match base?.cast_into() {
                Ok(below) => array = below,
                Err(other) => return Some(other.into_inner()),
            }
        }
    }

    /// The place of a parameter's history, if an array of this storage is one.
    ///
    /// # Safety
    ///
    /// The array lives, and is not resized, until the last use of the result.
    pub unsafe fn history(&self, storage: Storage) -> Option<Kept> {
        let numbers = self.address.cast::<[f64; HISTORY]>();
        let fits = storage == Storage::F64
            && *self.shape == [HISTORY]
            && self.c_contiguous()
            && self.address.addr().is_multiple_of(8);
        // SAFETY: the array has that many numbers of that size, as was just checked; it lives by the
        // caller's promise.
        fits.then(|| unsafe { Kept::at(numbers) })
    }

    /// Whether the array owns its memory.
    pub fn owns(&self) -> bool {
        self.flags & npyffi::NPY_ARRAY_OWNDATA != 0
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

    /// The places of the elements of an array with this storage.
    fn elements(&self, storage: Storage) -> Elements<'a> {
        let Memory { address, shape, strides, .. } = *self;
        Elements { address: address.addr(), shape, strides, size: storage.size() }
    }

    /// First address, and the address after the last; equal for an empty array.
    pub fn extent(&self, storage: Storage) -> (usize, usize) {
        self.elements(storage).extent()
    }

    /// Whether two arrays have a byte in common.
    pub fn meets(&self, storage: Storage, other: &Memory<'_>, other_storage: Storage) -> bool {
        self.elements(storage).meets(&other.elements(other_storage))
    }

    /// Whether two elements of the array share memory.
    pub fn overlaps_itself(&self, storage: Storage) -> bool {
        self.elements(storage).overlaps_itself()
    }
}
