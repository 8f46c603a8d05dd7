//! The memory of one array, from its struct: where elements lie, and whether any share bytes.

#![allow(unsafe_code)] // reads the fields of NumPy's array struct

use numpy::{PyUntypedArray, PyUntypedArrayMethods, npyffi};
use pyo3::prelude::*;

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

    /// First address, and the address after the last; equal for an empty array.
    pub fn extent(&self, storage: Storage) -> (usize, usize) {
        let start = self.address.addr();
        if self.len() == 0 {
            return (start, start);
        }
        let reach = |positive: bool| -> isize {
            let axes = self.shape.iter().zip(self.strides);
            axes.filter(|(_, s)| (**s > 0) == positive).map(|(n, s)| (*n as isize - 1) * s).sum()
        };
        let low = start.wrapping_add_signed(reach(false));
        (low, start.wrapping_add_signed(reach(true)) + storage.size())
    }

    /// Whether two arrays have a byte in common, decided exactly from addresses and strides.
    ///
    /// Bytes of `self` are counted upwards from its lowest address, `start`, and bytes of `other`
    /// downwards from its highest, `other_end - 1`. The arrays share a byte if and only if the
    /// distance between the two addresses is a sum of `index·stride` over the axes of both arrays,
    /// plus the offsets of a byte within each element. Layouts that take more than a million tries
    /// count as overlapping.
    pub fn meets(&self, storage: Storage, other: &Memory<'_>, other_storage: Storage) -> bool {
        let ((start, end), (_, other_end)) = (self.extent(storage), other.extent(other_storage));
        if self.len() == 0 || other.len() == 0 || start >= other_end {
            return false;
        }
        debug_assert!(start < end);
        let axes = self.axes().chain(other.axes()).filter(|(_, stride)| *stride > 0);
        let furthest = (other_end - 1 - start) as i128;
        let slack = (storage.size() + other_storage.size() - 2) as i128;
        let strides =
            Strides::new(axes.map(|(n, stride)| (stride as i128, n as i128 - 1)).collect());
        strides.reach(furthest - slack, furthest)
    }

    /// Lengths of the axes longer than one, with the magnitudes of their strides.
    fn axes(&self) -> impl Iterator<Item = (usize, usize)> {
        let axes = self.shape.iter().zip(self.strides);
        axes.filter(|(n, _)| **n > 1).map(|(n, stride)| (*n, stride.unsigned_abs()))
    }

    /// Whether two elements of the array share memory.
    pub fn overlaps_itself(&self, storage: Storage) -> bool {
        if self.len() < 2 {
            return false;
        }
        let (start, end) = self.extent(storage);
        if self.len().checked_mul(storage.size()).is_none_or(|bytes| bytes > end - start) {
            return true;
        }
        let mut axes: Vec<(usize, usize)> = self.axes().map(|(n, stride)| (stride, n)).collect();
        axes.sort_unstable();
        let mut reach = storage.size();
        let nested = axes.iter().all(|(stride, n)| {
            let fits = *stride >= reach;
            reach += stride * (n - 1);
            fits
        });
        // Elements of interleaved axes may still be apart; only the addresses of all elements
        // decide.
        !nested && {
            let mut offsets = vec![0_usize];
            for (stride, n) in axes {
                offsets =
                    (0..n).flat_map(|i| offsets.iter().map(move |at| at + i * stride)).collect();
            }
            offsets.sort_unstable();
            offsets.windows(2).any(|pair| pair[1] - pair[0] < storage.size())
        }
    }
}

/// Strides, largest first; a sum takes each of them from 0 up to `most` times.
struct Strides(Vec<Stride>);

struct Stride {
    stride: i128,
    most: i128,
    /// The largest sum of this stride and the smaller ones.
    reach: i128,
    /// The greatest common divisor of this stride and the smaller ones.
    divisor: i128,
}

impl Strides {
    fn new(mut given: Vec<(i128, i128)>) -> Self {
        given.sort_unstable();
        let mut strides: Vec<Stride> = Vec::with_capacity(given.len());
        for (stride, most) in given {
            let (reach, divisor) = strides.last().map_or((0, 0), |last| (last.reach, last.divisor));
            let (reach, divisor) = (reach + stride * most, gcd(divisor, stride));
            match strides.last_mut() {
                Some(last) if last.stride == stride => {
                    (last.most, last.reach) = (last.most + most, reach);
                }
                _ => strides.push(Stride { stride, most, reach, divisor }),
            }
        }
        strides.reverse();
        Strides(strides)
    }

    /// Whether some sum of strides is in `low..=high`.
    fn reach(&self, low: i128, high: i128) -> bool {
        reach(&self.0, low, high, &mut 1_000_000)
    }
}

fn reach(strides: &[Stride], low: i128, high: i128, tries: &mut u32) -> bool {
    let Some((first, smaller)) = strides.split_first() else { return low <= 0 && 0 <= high };
    let (low, high) = (low.max(0), high.min(first.reach));
    if high.div_euclid(first.divisor) * first.divisor < low {
        return false;
    }
    // With one stride left, the test above is exact. Without tries left, the answer is the safe
    // one.
    if smaller.is_empty() || *tries == 0 {
        return true;
    }
    *tries -= 1;
    let least = (low - smaller[0].reach + first.stride - 1).max(0) / first.stride;
    let most = first.most.min(high / first.stride);
    (least..=most).any(|n| {
        let taken = n * first.stride;
        reach(smaller, low - taken, high - taken, tries)
    })
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}
