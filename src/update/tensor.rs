//! The arrays of one update: a parameter with its gradient and state.

#![allow(unsafe_code)] // binds arrays by address

use std::marker::PhantomData;

use crate::array::across::{self, Tiling};
use crate::array::layout::{Layout, Order, Rows};
use crate::array::pointer::{ARRAYS, GRADIENT, MAX_STATE, PARAMETER, Pointer, STATE};
use crate::array::storage::Storage;
use crate::error::{Error, check_shape};
use crate::number::element::{Element, Kind};
use crate::update::lines::Lines;
pub use crate::update::lines::Narrow;

/// A parameter with its gradient and state, bound for one update.
///
/// Borrows the arrays for `'a`: parameter and state exclusively, the gradient shared.
#[derive(Debug)]
pub struct Tensor<'a> {
    kind: Kind,
    len: usize,
    states: usize,
    pointers: [Pointer; ARRAYS],
    /// `None` if every array is a slice of the parameter's type, all in the same order.
    course: Option<Box<Course>>,
    /// The order of the elements; norms of an update require the logical one.
    order: Order,
    borrow: PhantomData<&'a mut u8>,
}

/// The traversal of arrays that are not all slices.
#[derive(Debug)]
pub(crate) enum Course {
    /// Element by element, in the order of the parameter's memory or in logical order.
    Lines(Lines),
    /// Tile by tile, for a gradient that lies across.
    Tiles(Tiling),
}

/// A tensor is cut at multiples of this many positions, so that tiles stay whole.
pub(crate) const GRAIN: usize = across::AREA;

// SAFETY: a Tensor is an exclusive borrow of plain numbers, and a shared one of the gradient.
unsafe impl Send for Tensor<'_> {}
// SAFETY: safe code cannot reach the arrays through a shared Tensor. The passes that can are
// unsafe, and their callers keep blocks disjoint.
unsafe impl Sync for Tensor<'_> {}

impl<'a> Tensor<'a> {
    /// Binds slices of one length. Nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if lengths differ.
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
            order: Order::Logical,
            borrow: PhantomData,
        })
    }

    /// Binds arrays by address.
    ///
    /// Unused state arrays have the parameter's pointer and strides.
    ///
    /// # Safety
    ///
    /// For `'a`, every array is valid memory of `shape` with its strides (in bytes) and storage.
    /// The parameter and the first `states` state arrays have one element type and whole storages
    /// ([`Storage::is_whole`](crate::array::storage::Storage::is_whole)), and are aligned; nothing
    /// else writes them, and none of them overlaps itself, another of them or the gradient. The
    /// gradient is whole or narrow, and nothing writes to it.
    pub unsafe fn new(
        shape: &[usize],
        pointers: [Pointer; ARRAYS],
        strides: [&[isize]; ARRAYS],
        states: usize,
        order: Order,
    ) -> Self {
        let layout = Layout::new(shape, strides, order);
        let kind = pointers[PARAMETER].storage.element();
        let plain = (0..ARRAYS)
            .all(|k| pointers[k].storage.element() == kind && pointers[k].is_slice(&layout, k));
        let course = (!plain).then(|| {
            Box::new(match Tiling::of(&layout, pointers[GRADIENT]) {
                Some(tiling) if order == Order::Memory => Course::Tiles(tiling),
                _ => Course::Lines(Lines::new(layout, &pointers)),
            })
        });
        let len = shape.iter().product();
        Tensor { kind, len, states, pointers, course, order, borrow: PhantomData }
    }

    /// As [`Tensor::new`], for parameter and state of any storage.
    ///
    /// The array at [`LOW`](crate::array::pointer::LOW) is what the narrow array `narrow.low_of`
    /// lacks. If a state array has the storage [`Storage::E5M3`], elements are taken in logical
    /// order, whatever `order` is.
    ///
    /// # Safety
    ///
    /// As [`Tensor::new`]. If parameter or state is not whole, the tensor's type is `f32`. The array
    /// at `LOW`, if there is one, has the storage [`Storage::Low`], and is written if it belongs to
    /// the parameter. At most one state array has the storage `E5M3`; it is dense in logical order.
    /// `narrow.bases` then points to one byte for each block of it, which is written and overlaps no
    /// array.
    pub unsafe fn narrow(
        shape: &[usize],
        pointers: [Pointer; ARRAYS],
        strides: [&[isize]; ARRAYS],
        states: usize,
        order: Order,
        narrow: Narrow,
    ) -> Self {
        let blocks = pointers.iter().any(|pointer| pointer.storage == Storage::E5M3);
        let order = if blocks { Order::Logical } else { order };
        let layout = Layout::new(shape, strides, order);
        let course = Course::Lines(Lines::narrow(layout, &pointers, narrow));
        Tensor {
            kind: pointers[PARAMETER].storage.element(),
            len: shape.iter().product(),
            states,
            pointers,
            course: Some(Box::new(course)),
            order,
            borrow: PhantomData,
        }
    }

    /// As [`Tensor::narrow`], for `rows` of parameter and state, and of the gradient; `shape` is
    /// that of the rows together. Elements are taken in logical order.
    ///
    /// # Safety
    ///
    /// As [`Tensor::narrow`], for arrays that have these rows, each at most once among the rows of
    /// parameter and state. If a state array has the storage [`Storage::E5M3`] and rows are given,
    /// each row has whole blocks.
    pub unsafe fn rows(
        shape: &[usize],
        pointers: [Pointer; ARRAYS],
        strides: [&[isize]; ARRAYS],
        states: usize,
        (rows, gradient): (Rows, Rows),
        narrow: Narrow,
    ) -> Self {
        let mut of_each = [const { None }; ARRAYS].map(|_: Rows| rows.clone());
        of_each[GRADIENT] = gradient;
        let layout = Layout::of_rows(shape, strides, of_each);
        let course = Course::Lines(Lines::narrow(layout, &pointers, narrow));
        Tensor {
            kind: pointers[PARAMETER].storage.element(),
            len: shape.iter().product(),
            states,
            pointers,
            course: Some(Box::new(course)),
            order: Order::Logical,
            borrow: PhantomData,
        }
    }

    /// As [`Tensor::new`] if every array is plain, dense in the given order, and of the parameter's
    /// type; allocates nothing.
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
        Tensor { kind, len, states, pointers, course: None, order, borrow: PhantomData }
    }

    /// The type in which the rule computes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of state arrays.
    pub(crate) fn states(&self) -> usize {
        self.states
    }

    /// `None` if every array is a slice of the parameter's type, all in the same order.
    pub(crate) fn course(&self) -> Option<&Course> {
        self.course.as_deref()
    }

    pub(crate) fn pointers(&self) -> &[Pointer; ARRAYS] {
        &self.pointers
    }

    /// The order in which elements are taken.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Whether a position is an element, in the order of the parameter's memory or in logical
    /// order.
    pub fn in_lines(&self) -> bool {
        !matches!(self.course.as_deref(), Some(Course::Tiles(_)))
    }

    /// Whether the parameter is float16.
    pub fn can_overflow(&self) -> bool {
        self.pointers[PARAMETER].storage == Storage::F16
    }

    /// Whether an update moved an element of a float16 parameter out of the range of float16, where it
    /// is infinite.
    pub fn overflowed(&self) -> bool {
        matches!(self.course.as_deref(), Some(Course::Lines(lines)) if lines.overflowed())
    }

    /// The number of positions: the elements or, with tiles, the full area of every tile, although
    /// tiles at a border have fewer elements.
    pub(crate) fn positions(&self) -> usize {
        match self.course.as_deref() {
            Some(Course::Tiles(tiling)) => tiling.count() * across::AREA,
            _ => self.len,
        }
    }
}
