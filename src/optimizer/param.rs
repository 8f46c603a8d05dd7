//! The parameters and gradients of a step, and the parameters of a file.

#![allow(unsafe_code)] // bytes of borrowed slices

use std::marker::PhantomData;

use crate::array::pointer::Pointer;
use crate::array::storage::Storage;
use crate::number::element::Element;

/// A parameter with its gradient and name.
#[derive(Debug)]
pub struct Param<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Option<&'a [usize]>,
    pub(super) p: Live<'a>,
    pub(super) g: Values<'a>,
}

impl<'a> Param<'a> {
    /// A parameter and the gradient of each of its elements. In files, its shape is its length; see
    /// [`Param::shape`].
    ///
    /// ```
    /// use thalweg::optimizer::{Values, Live, Param};
    ///
    /// let (mut p, g) = ([1.0_f32, 2.0], [0.5_f64, 0.25]);
    /// let _ = Param::new("w", &mut p[..], &g[..]);
    /// let (mut p, g) = ([0x3f80_u16, 0x4000], [0x3f00_u16, 0x3e80]);
    /// let _ = Param::new("w", Live::bfloat16(&mut p), Values::bfloat16(&g));
    /// ```
    pub fn new(name: &'a str, p: impl Into<Live<'a>>, g: impl Into<Values<'a>>) -> Self {
        Param { name, shape: None, p: p.into(), g: g.into() }
    }

    /// The same with the shape that files give it.
    #[must_use]
    pub fn shape(self, shape: &'a [usize]) -> Self {
        Param { shape: Some(shape), ..self }
    }
}

impl<'a, E: Element> From<(&'a str, &'a mut [E], &'a [E])> for Param<'a> {
    fn from((name, p, g): (&'a str, &'a mut [E], &'a [E])) -> Self {
        Param::new(name, p, g)
    }
}

/// The elements of a parameter.
#[derive(Debug)]
pub struct Live<'a> {
    pub(super) pointer: Pointer,
    pub(super) len: usize,
    borrow: PhantomData<&'a mut u8>,
}

impl<'a> Live<'a> {
    /// The bits of bfloat16 numbers. The optimizer keeps what they lack of a `f32`.
    pub fn bfloat16(bits: &'a mut [u16]) -> Self {
        Self::narrow(bits, Storage::BF16)
    }

    /// The bits of float16 numbers. The optimizer keeps what they lack of a `f32`.
    pub fn float16(bits: &'a mut [u16]) -> Self {
        Self::narrow(bits, Storage::F16)
    }

    /// The elements at an address.
    ///
    /// # Safety
    ///
    /// For `'a` there are `len` elements, contiguous and aligned, and nothing else uses them.
    pub unsafe fn at(pointer: Pointer, len: usize) -> Self {
        Live { pointer, len, borrow: PhantomData }
    }

    fn narrow(bits: &'a mut [u16], storage: Storage) -> Self {
        let pointer = Pointer { address: bits.as_mut_ptr().cast(), storage };
        Live { pointer, len: bits.len(), borrow: PhantomData }
    }
}

impl<'a, E: Element> From<&'a mut [E]> for Live<'a> {
    fn from(slice: &'a mut [E]) -> Self {
        Live { pointer: Pointer::of(slice.as_mut_ptr()), len: slice.len(), borrow: PhantomData }
    }
}

/// Elements that are only read: a gradient, which is cast to the type in which its parameter is
/// updated, or a parameter to save.
#[derive(Debug)]
pub struct Values<'a> {
    pub(super) pointer: Pointer,
    pub(super) len: usize,
    borrow: PhantomData<&'a u8>,
}

impl<'a> Values<'a> {
    /// The bits of bfloat16 numbers.
    pub fn bfloat16(bits: &'a [u16]) -> Self {
        Self::narrow(bits, Storage::BF16)
    }

    /// The bits of float16 numbers.
    pub fn float16(bits: &'a [u16]) -> Self {
        Self::narrow(bits, Storage::F16)
    }

    /// The elements at an address.
    ///
    /// # Safety
    ///
    /// For `'a` there are `len` elements, contiguous and aligned, and nothing writes them.
    pub unsafe fn at(pointer: Pointer, len: usize) -> Self {
        Values { pointer, len, borrow: PhantomData }
    }

    fn narrow(bits: &'a [u16], storage: Storage) -> Self {
        let pointer = Pointer { address: bits.as_ptr().cast_mut().cast(), storage };
        Values { pointer, len: bits.len(), borrow: PhantomData }
    }
}

impl<'a, E: Element> From<&'a [E]> for Values<'a> {
    fn from(slice: &'a [E]) -> Self {
        let pointer = Pointer::of(slice.as_ptr().cast_mut());
        Values { pointer, len: slice.len(), borrow: PhantomData }
    }
}

impl Values<'_> {
    /// The bytes in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = self.len * self.pointer.storage.size();
        // SAFETY: a slice of plain numbers, borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.pointer.address, len) }
    }
}

impl Live<'_> {
    /// The bytes in memory.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len * self.pointer.storage.size();
        // SAFETY: a slice of plain numbers, borrowed exclusively as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.address, len) }
    }
}
