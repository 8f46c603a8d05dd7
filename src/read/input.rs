//! A gradient to read: a slice, or an array whose elements are gathered.

#![allow(unsafe_code)] // takes slices of arrays given by address

use std::marker::PhantomData;

use crate::array::across;
use crate::array::layout::{Layout, Order, Rows};
use crate::array::pointer::Pointer;
use crate::number::element::{Element, Kind};
use crate::number::sums::BLOCK;
use crate::rule::Update;

/// Elements gathered at a time from an array that lies across: more rows use more of a cache line.
const ACROSS: usize = 131_072;
const _: () = assert!(ACROSS.is_multiple_of(BLOCK));

/// A gradient to read, its elements cast to type `kind`.
#[derive(Debug)]
pub struct Input<'a> {
    pointer: Pointer,
    pub(super) kind: Kind,
    pub(super) len: usize,
    /// `None` if the elements are a slice of `kind` in logical order.
    layout: Option<Box<Layout<1>>>,
    borrow: PhantomData<&'a u8>,
}

// SAFETY: an Input is a shared borrow of plain numbers.
unsafe impl Send for Input<'_> {}
// SAFETY: as above; methods only read the numbers.
unsafe impl Sync for Input<'_> {}

impl<'a> Input<'a> {
    /// Binds a slice without allocation.
    pub fn from_slice<E: Element>(slice: &'a [E]) -> Self {
        let pointer = Pointer::of(slice.as_ptr().cast_mut());
        // SAFETY: a slice is aligned and dense, and for 'a it is valid and not written.
        unsafe { Input::dense(slice.len(), pointer) }
    }

    /// Binds an array by address; its elements are read as type `kind`.
    ///
    /// # Safety
    ///
    /// For `'a`, the array is valid memory of this shape, strides (in bytes) and storage, and
    /// nothing writes to it.
    pub unsafe fn new(shape: &[usize], pointer: Pointer, strides: &[isize], kind: Kind) -> Self {
        let layout = Layout::new(shape, [strides], Order::Logical);
        let plain = pointer.storage.element() == kind && pointer.is_slice(&layout, 0);
        let len = shape.iter().product();
        let layout = (!plain).then(|| Box::new(layout));
        Input { pointer, kind, len, layout, borrow: PhantomData }
    }

    /// As [`Input::new`], for rows of an array; `shape` is that of the rows together.
    ///
    /// # Safety
    ///
    /// As [`Input::new`], for an array that has these rows.
    pub unsafe fn rows(
        shape: &[usize],
        pointer: Pointer,
        (strides, rows): (&[isize], Rows),
        kind: Kind,
    ) -> Self {
        let layout = Some(Box::new(Layout::of_rows(shape, [strides], [rows])));
        Input { pointer, kind, len: shape.iter().product(), layout, borrow: PhantomData }
    }

    /// As [`Input::new`] for a slice in logical order whose storage is an element type; allocates
    /// nothing.
    ///
    /// # Safety
    ///
    /// As [`Input::new`], and the array is aligned and dense.
    pub unsafe fn dense(len: usize, pointer: Pointer) -> Self {
        let kind = pointer.storage.element();
        Input { pointer, kind, len, layout: None, borrow: PhantomData }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of elements that an update refuses.
    pub(super) fn count_refused(&self, update: &Update) -> u64 {
        match update {
            Update::F32(coefficients) => self.count(|x: f32| !coefficients.admits(x.abs())),
            Update::F64(coefficients) => self.count(|x: f64| !coefficients.admits(x.abs())),
        }
    }

    /// Elements `start..start + len` as a slice, or `None` if they have to be gathered.
    #[inline(always)]
    pub(super) fn slice<E: Element>(&self, start: usize, len: usize) -> Option<&[E]> {
        debug_assert!(self.kind == E::KIND && start + len <= self.len);
        // SAFETY: the promise of `new` or `dense`; without a layout it is a slice of this type.
        self.layout.is_none().then(|| unsafe { self.pointer.slice(start, len) })
    }

    /// Elements to gather at a time.
    pub(super) fn room(&self) -> usize {
        match self.layout.as_deref() {
            Some(layout) if across::lies_across(layout) => ACROSS,
            _ => BLOCK,
        }
    }

    /// Copies elements `start..start + tile.len()` of the logical order.
    #[inline(always)]
    pub(super) fn gather<E: Element>(&self, start: usize, tile: &mut [E]) {
        debug_assert!(self.kind == E::KIND && start + tile.len() <= self.len);
        if let Some(layout) = self.layout.as_deref() {
            // SAFETY: the promise of `new`.
            unsafe { across::read(self.pointer, layout, start, tile) }
        }
    }

    fn count<E: Element>(&self, counts: impl Fn(E) -> bool) -> u64 {
        let in_slice = |slice: &[E]| slice.iter().filter(|x| counts(**x)).count() as u64;
        if let Some(slice) = self.slice(0, self.len) {
            return in_slice(slice);
        }
        let mut buffer = vec![E::ZERO; self.room().min(self.len)];
        let mut count = 0;
        for start in (0..self.len).step_by(self.room()) {
            let tile = &mut buffer[..self.room().min(self.len - start)];
            self.gather(start, tile);
            count += in_slice(tile);
        }
        count
    }
}
