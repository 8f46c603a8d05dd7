//! The memory of one array, as its struct tells: where elements lie, and whether any coincide.

#![allow(unsafe_code)] // reads the fields of NumPy's array struct

use numpy::{PyUntypedArray, PyUntypedArrayMethods, npyffi};
use pyo3::prelude::*;

use crate::element::Kind;

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

    /// Address of the array's dtype object.
    pub fn descr(array: &Bound<'_, PyUntypedArray>) -> usize {
        // SAFETY: as in `of`.
        unsafe { (*array.as_array_ptr()).fields.descr.addr() }
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
