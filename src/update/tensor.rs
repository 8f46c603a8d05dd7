//! A parameter with its gradient and state, bound together for one update.

#![allow(unsafe_code)] // binds arrays by address

use std::marker::PhantomData;

use crate::array::across::{self, Tiling};
use crate::array::layout::{Layout, Order};
use crate::array::pointer::{ARRAYS, GRADIENT, MAX_STATE, PARAMETER, Pointer, STATE};
use crate::error::{Error, check_shape};
use crate::number::element::{Element, Kind};

/// A parameter with its gradient and state, bound together for one update.
///
/// It holds the arrays for `'a`: parameter and state exclusively, the gradient to read.
#[derive(Debug)]
pub struct Tensor<'a> {
    kind: Kind,
    len: usize,
    states: usize,
    pointers: [Pointer; ARRAYS],
    /// `None` where every array is a slice of the parameter's type, all in the same order.
    course: Option<Box<Course>>,
    /// Whether elements are taken in logical order, as norms of an update need it.
    logical: bool,
    borrow: PhantomData<&'a mut u8>,
}

/// The order in which the elements of arrays are taken that are not all slices.
#[derive(Debug)]
pub(crate) enum Course {
    /// As the parameter lies in memory, or in logical order.
    Lines(Layout<ARRAYS>),
    /// Tile by tile, for a gradient that lies across.
    Tiles(Tiling),
}

/// Positions are cut at multiples of this, so that tiles stay whole.
pub(crate) const GRAIN: usize = across::AREA;

// SAFETY: a Tensor is an exclusive borrow of plain numbers, and a shared one of the gradient.
unsafe impl Send for Tensor<'_> {}
// SAFETY: a shared Tensor gives no access to its arrays; the passes over it, which have it, are unsafe
// and their caller keeps blocks apart.
unsafe impl Sync for Tensor<'_> {}

impl<'a> Tensor<'a> {
    /// Binds slices of one length. Nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where lengths differ.
    pub fn from_slices<E: Element, const N: usize>(
        p: &'a mut [E],
        g: &'a [E],
        state: [&'a mut [E]; N],
    ) -> Result<Self, Error> {
        const { assert!(N <= MAX_STATE) };
        let len = p.len();
        check_shape("the gradient", &[g.len()], &[len])?;
        let mut pointers = [Pointer::of(p.as_mut_ptr()); ARRAYS];
        pointers[GRADIENT] = Pointer::of(g.as_ptr().cast_mut());
        for (k, s) in state.into_iter().enumerate() {
            check_shape("a state array", &[s.len()], &[len])?;
            pointers[STATE + k] = Pointer::of(s.as_mut_ptr());
        }
        Ok(Tensor {
            kind: E::KIND,
            len,
            states: N,
            pointers,
            course: None,
            logical: true,
            borrow: PhantomData,
        })
    }

    /// Binds arrays by address.
    ///
    /// Unused state has the parameter's pointer and strides.
    ///
    /// # Safety
    ///
    /// For `'a`, every array is valid memory of `shape` with its strides (in bytes) and type;
    /// parameter and state have one type, are aligned, written by nobody else, and overlap neither
    /// themselves nor another array; nobody writes the gradient.
    pub unsafe fn new(
        shape: &[usize],
        pointers: [Pointer; ARRAYS],
        strides: [&[isize]; ARRAYS],
        states: usize,
        order: Order,
    ) -> Self {
        let layout = Layout::new(shape, strides, order);
        let logical = order == Order::Logical;
        let kind = pointers[PARAMETER].storage.element();
        let plain = (0..ARRAYS)
            .all(|k| pointers[k].storage.element() == kind && pointers[k].is_slice(&layout, k));
        let course = (!plain).then(|| {
            Box::new(match Tiling::of(&layout, pointers[GRADIENT]) {
                Some(tiling) if !logical => Course::Tiles(tiling),
                _ => Course::Lines(layout),
            })
        });
        let len = shape.iter().product();
        Tensor { kind, len, states, pointers, course, logical, borrow: PhantomData }
    }

    /// As [`Tensor::new`] where every array is dense, in the given order, and of the parameter's
    /// type: nothing is allocated.
    ///
    /// # Safety
    ///
    /// As [`Tensor::new`].
    pub unsafe fn dense(
        len: usize,
        pointers: [Pointer; ARRAYS],
        states: usize,
        order: Order,
    ) -> Self {
        let kind = pointers[PARAMETER].storage.element();
        let logical = order == Order::Logical;
        Tensor { kind, len, states, pointers, course: None, logical, borrow: PhantomData }
    }

    /// What a rule computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many state arrays there are.
    pub(crate) fn states(&self) -> usize {
        self.states
    }

    /// `None` where every array is a slice of the parameter's type, all in the same order.
    pub(crate) fn course(&self) -> Option<&Course> {
        self.course.as_deref()
    }

    pub(crate) fn pointers(&self) -> &[Pointer; ARRAYS] {
        &self.pointers
    }

    /// Whether elements are taken in logical order.
    pub(crate) fn is_logical(&self) -> bool {
        self.logical
    }

    /// Whether positions are elements, in the order of the parameter's memory or in logical order.
    pub fn in_lines(&self) -> bool {
        !matches!(self.course.as_deref(), Some(Course::Tiles(_)))
    }

    /// Number of positions at which it can be cut: the elements, and what tiles at a border lack.
    pub(crate) fn positions(&self) -> usize {
        match self.course.as_deref() {
            Some(Course::Tiles(tiling)) => tiling.count() * across::AREA,
            _ => self.len,
        }
    }
}
