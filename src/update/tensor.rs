//! A parameter with its gradient and state, bound together for one update.

#![allow(unsafe_code)] // binds arrays by address

use std::marker::PhantomData;

use crate::array::across::{self, Planes};
use crate::array::layout::{Layout, Order};
use crate::array::pointer::Pointer;
use crate::error::Error;
use crate::machine::levels::Level;
use crate::number::element::{Element, Kind};
use crate::number::sums::Found;
use crate::rule::{Coefficients, MAX_STATE, Rule, Usual};
use crate::update::passes::{Across, Slices, Tiles, Unwatched, Watched};

/// Parameter, gradient and state: the arrays of a [`Tensor`], in this order.
pub const ARRAYS: usize = 2 + MAX_STATE;
/// Index of the parameter among a tensor's arrays.
pub const PARAMETER: usize = 0;
/// Index of the gradient.
pub const GRADIENT: usize = 1;
/// Index of the first state array.
pub const STATE: usize = 2;

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
enum Course {
    /// As the parameter lies in memory, or in logical order.
    Lines(Layout<ARRAYS>),
    /// Tile by tile, for a gradient that lies across.
    Planes(Planes),
}

/// What positions are cut at so that tiles stay whole.
pub(crate) const GRAIN: usize = across::TILE;

// SAFETY: a Tensor is an exclusive borrow of plain numbers, and a shared one of the gradient.
unsafe impl Send for Tensor<'_> {}
// SAFETY: a shared Tensor gives no access to its arrays; `update_block`, which does, is unsafe and
// its caller keeps blocks apart.
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
        let kind = pointers[PARAMETER].kind;
        let plain =
            (0..ARRAYS).all(|k| pointers[k].kind == kind && is_slice(&layout, k, pointers[k]));
        let course = (!plain).then(|| {
            Box::new(match Planes::of(&layout, pointers[GRADIENT]) {
                Some(planes) if !logical => Course::Planes(planes),
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
        let (kind, logical) = (pointers[PARAMETER].kind, order == Order::Logical);
        Tensor { kind, len, states, pointers, course: None, logical, borrow: PhantomData }
    }

    /// The parameter's type.
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

    pub(crate) fn pointers(&self) -> &[Pointer; ARRAYS] {
        &self.pointers
    }

    /// Whether elements are taken in logical order.
    pub(crate) fn is_logical(&self) -> bool {
        self.logical
    }

    /// Whether positions are elements, in the order of the parameter's memory or in logical order.
    pub fn in_lines(&self) -> bool {
        !matches!(self.course.as_deref(), Some(Course::Planes(_)))
    }

    /// Number of positions at which it can be cut: the elements, and what tiles at a border lack.
    pub(crate) fn positions(&self) -> usize {
        match self.course.as_deref() {
            Some(Course::Planes(planes)) => planes.count() * across::TILE,
            _ => self.len,
        }
    }

    /// Updates positions `start..start + len`, which begin at a multiple of [`GRAIN`] and end at one
    /// or at the last.
    ///
    /// # Safety
    ///
    /// `E` is the tensor's type, the rule keeps as many state arrays as the tensor has, the range
    /// is inside the tensor, and no other call for an overlapping range runs at the same time.
    pub(crate) unsafe fn update_block<E: Element>(
        &self,
        coefficients: &Coefficients<E>,
        level: Level,
        start: usize,
        len: usize,
    ) {
        debug_assert_eq!(self.kind, E::KIND);
        debug_assert_eq!(self.states, coefficients.states());
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match coefficients {
                Coefficients::Adam(rule) if rule.is_usual() => {
                    self.run::<E, _, 2>(&Usual(*rule), level, start, len);
                }
                Coefficients::Adam(rule) => self.run::<E, _, 2>(rule, level, start, len),
                Coefficients::AmsGrad(rule) if rule.is_usual() => {
                    self.run::<E, _, 3>(&Usual(*rule), level, start, len);
                }
                Coefficients::AmsGrad(rule) => self.run::<E, _, 3>(rule, level, start, len),
                Coefficients::Sgd(rule) => self.run::<E, _, 0>(rule, level, start, len),
                Coefficients::Momentum(rule) => self.run::<E, _, 1>(rule, level, start, len),
                Coefficients::Decay(rule) => self.run::<E, _, 0>(rule, level, start, len),
                Coefficients::Sum(rule) => self.run::<E, _, 0>(rule, level, start, len),
                Coefficients::Average(rule) => self.run::<E, _, 0>(rule, level, start, len),
                Coefficients::Swap(rule) => self.run::<E, _, 1>(rule, level, start, len),
            }
        }
    }

    /// Whether coefficients for this type and number of state arrays fit.
    pub(crate) fn check(&self, kind: Kind, states: usize) -> Result<(), Error> {
        if self.kind != kind {
            Err(Error::Kind { got: self.kind, expected: kind })
        } else if self.states != states {
            Err(Error::State { got: self.states, expected: states })
        } else {
            Ok(())
        }
    }

    /// # Safety
    ///
    /// As [`Tensor::update_block`].
    unsafe fn run<E: Element, R: Rule<E, N>, const N: usize>(
        &self,
        rule: &R,
        level: Level,
        start: usize,
        len: usize,
    ) {
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match self.course.as_deref() {
                None => level.run(Unwatched::new(&Slices::new(rule, self), start, len)),
                Some(Course::Lines(layout)) => {
                    level.run(Unwatched::new(&Tiles::new(rule, self, layout), start, len));
                }
                Some(Course::Planes(planes)) => {
                    let tiles = start / across::TILE..(start + len) / across::TILE;
                    level.run(Across::new(rule, self, planes, tiles));
                }
            }
        }
    }

    /// As [`Tensor::update_block`] for positions that begin at a multiple of [`BLOCK`] and end at
    /// one or at the last; what is seen in each block is stored, of the gradient too where that
    /// is true. Elements are taken in logical order, and the rule is one that trains.
    ///
    /// [`BLOCK`]: crate::number::sums::BLOCK
    ///
    /// # Safety
    ///
    /// As [`Tensor::update_block`].
    pub(crate) unsafe fn watch_block<E: Element>(
        &self,
        coefficients: &Coefficients<E>,
        level: Level,
        start: usize,
        len: usize,
        found: (&[Found<3>], bool),
    ) {
        debug_assert!(self.kind == E::KIND && self.states == coefficients.states());
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match coefficients {
                Coefficients::Adam(rule) if rule.is_usual() => {
                    self.watch::<E, _, 2>(&Usual(*rule), level, start, len, found);
                }
                Coefficients::AmsGrad(rule) if rule.is_usual() => {
                    self.watch::<E, _, 3>(&Usual(*rule), level, start, len, found);
                }
                Coefficients::Adam(rule) => self.watch::<E, _, 2>(rule, level, start, len, found),
                Coefficients::AmsGrad(rule) => {
                    self.watch::<E, _, 3>(rule, level, start, len, found);
                }
                Coefficients::Sgd(rule) => self.watch::<E, _, 0>(rule, level, start, len, found),
                Coefficients::Momentum(rule) => {
                    self.watch::<E, _, 1>(rule, level, start, len, found);
                }
                Coefficients::Decay(_)
                | Coefficients::Sum(_)
                | Coefficients::Average(_)
                | Coefficients::Swap(_) => {}
            }
        }
    }

    /// # Safety
    ///
    /// As [`Tensor::watch_block`].
    unsafe fn watch<E: Element, R: Rule<E, N>, const N: usize>(
        &self,
        rule: &R,
        level: Level,
        start: usize,
        len: usize,
        found: (&[Found<3>], bool),
    ) {
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match self.course.as_deref() {
                Some(Course::Lines(layout)) => {
                    level.run(Watched::new(&Tiles::new(rule, self, layout), start, len, found));
                }
                // Planes are never in logical order.
                None | Some(Course::Planes(_)) => {
                    level.run(Watched::new(&Slices::new(rule, self), start, len, found));
                }
            }
        }
    }
}

pub(crate) fn is_slice(layout: &Layout<ARRAYS>, k: usize, pointer: Pointer) -> bool {
    let align = match pointer.kind {
        Kind::F32 => align_of::<f32>(),
        Kind::F64 => align_of::<f64>(),
    };
    layout.is_dense(k, pointer.kind.size()) && pointer.address.addr().is_multiple_of(align)
}

pub(crate) fn check_shape(
    array: &'static str,
    got: &[usize],
    expected: &[usize],
) -> Result<(), Error> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::Shape { array, got: got.to_vec(), expected: expected.to_vec() })
    }
}
