//! A parameter with its gradient and state, bound together for one update.

#![allow(unsafe_code)] // slices of the arrays a tensor holds, one block at a time

use std::marker::PhantomData;
use std::ops::Range;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::dispatch::{Level, Work};
use crate::element::{Element, Kind};
use crate::error::Error;
use crate::gather::{Pointer, TILE};
use crate::kernel;
use crate::layout::{Layout, Order};
use crate::planes::{self, Planes};
use crate::rule::{Coefficients, MAX_STATE, Rule, Usual};

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
    borrow: PhantomData<&'a mut u8>,
}

/// The order in which the elements of arrays are taken that are not all slices.
#[derive(Debug)]
enum Course {
    /// As the parameter lies in memory.
    Lines(Layout<ARRAYS>),
    /// Tile by tile, for a gradient that lies across.
    Planes(Planes),
}

/// What positions are cut at so that tiles stay whole.
pub(crate) const GRAIN: usize = planes::TILE;

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
        let mut pointers = [pointer(p.as_mut_ptr()); ARRAYS];
        pointers[GRADIENT] = pointer(g.as_ptr().cast_mut());
        for (k, s) in state.into_iter().enumerate() {
            check_shape("a state array", &[s.len()], &[len])?;
            pointers[STATE + k] = pointer(s.as_mut_ptr());
        }
        Ok(Tensor { kind: E::KIND, len, states: N, pointers, course: None, borrow: PhantomData })
    }

    /// Binds arrays of one shape and any strides; the gradient may be of another type.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where shapes differ, [`Error::State`] for more than [`MAX_STATE`] arrays.
    pub fn from_views<E: Element, G: Element, D: Dimension>(
        mut p: ArrayViewMut<'a, E, D>,
        g: ArrayView<'a, G, D>,
        state: Vec<ArrayViewMut<'a, E, D>>,
    ) -> Result<Self, Error> {
        if state.len() > MAX_STATE {
            return Err(Error::State { got: state.len(), expected: MAX_STATE });
        }
        check_shape("the gradient", g.shape(), p.shape())?;
        let bytes = |strides: &[isize], kind: Kind| -> Vec<isize> {
            strides.iter().map(|stride| stride * kind.size() as isize).collect()
        };
        let shape = p.shape().to_vec();
        let own = bytes(p.strides(), E::KIND);
        let mut pointers = [pointer(p.as_mut_ptr()); ARRAYS];
        let mut strides: [Vec<isize>; ARRAYS] = std::array::from_fn(|_| own.clone());
        pointers[GRADIENT] = pointer(g.as_ptr().cast_mut());
        strides[GRADIENT] = bytes(g.strides(), G::KIND);
        let states = state.len();
        for (k, mut s) in state.into_iter().enumerate() {
            check_shape("a state array", s.shape(), &shape)?;
            pointers[STATE + k] = pointer(s.as_mut_ptr());
            strides[STATE + k] = bytes(s.strides(), E::KIND);
        }
        // SAFETY: views are valid for 'a, and the mutable ones are exclusive and overlap nothing.
        Ok(unsafe { Tensor::new(&shape, pointers, strides.each_ref().map(|s| &s[..]), states) })
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
    ) -> Self {
        let layout = Layout::new(shape, strides, Order::Memory);
        let kind = pointers[PARAMETER].kind;
        let plain =
            (0..ARRAYS).all(|k| pointers[k].kind == kind && is_slice(&layout, k, pointers[k]));
        let course = (!plain).then(|| {
            Box::new(match Planes::of(&layout, pointers[GRADIENT]) {
                Some(planes) => Course::Planes(planes),
                None => Course::Lines(layout),
            })
        });
        let len = shape.iter().product();
        Tensor { kind, len, states, pointers, course, borrow: PhantomData }
    }

    /// As [`Tensor::new`] where every array is dense, in the same order, and of the parameter's
    /// type: nothing is allocated.
    ///
    /// # Safety
    ///
    /// As [`Tensor::new`].
    pub unsafe fn dense(len: usize, pointers: [Pointer; ARRAYS], states: usize) -> Self {
        let kind = pointers[PARAMETER].kind;
        Tensor { kind, len, states, pointers, course: None, borrow: PhantomData }
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

    /// Number of positions at which it can be cut: the elements, and what tiles at a border lack.
    pub(crate) fn positions(&self) -> usize {
        match self.course.as_deref() {
            Some(Course::Planes(planes)) => planes.count() * planes::TILE,
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
        let element = PhantomData::<E>;
        match self.course.as_deref() {
            None => {
                // SAFETY: without a course all arrays are dense and of this type; ranges are kept
                // apart by the caller.
                let block = unsafe {
                    Block {
                        rule,
                        p: self.pointers[PARAMETER].slice_mut(start, len),
                        g: self.pointers[GRADIENT].slice(start, len),
                        state: std::array::from_fn(|k| {
                            self.pointers[STATE + k].slice_mut(start, len)
                        }),
                    }
                };
                level.run(block);
            }
            Some(Course::Lines(layout)) => {
                level.run(Tiles::<E, R, N> { rule, tensor: self, layout, start, len, element });
            }
            Some(Course::Planes(planes)) => {
                let tiles = start / planes::TILE..(start + len) / planes::TILE;
                level.run(Across::<E, R, N> { rule, tensor: self, planes, tiles, element });
            }
        }
    }
}

fn pointer<E: Element>(address: *mut E) -> Pointer {
    Pointer { address: address.cast(), kind: E::KIND }
}

fn is_slice(layout: &Layout<ARRAYS>, k: usize, pointer: Pointer) -> bool {
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

/// A block whose arrays are all slices.
struct Block<'b, E, R, const N: usize> {
    rule: &'b R,
    p: &'b mut [E],
    g: &'b [E],
    state: [&'b mut [E]; N],
}

impl<E: Element, R: Rule<E, N>, const N: usize> Work for Block<'_, E, R, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        kernel::update(self.rule, self.p, self.g, self.state);
    }
}

/// A block some of whose arrays pass through buffers, a tile at a time.
struct Tiles<'b, 'a, E, R, const N: usize> {
    rule: &'b R,
    tensor: &'b Tensor<'a>,
    layout: &'b Layout<ARRAYS>,
    start: usize,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element, R, const N: usize> Tiles<'_, '_, E, R, N> {
    fn in_place(&self, k: usize) -> bool {
        let pointer = self.tensor.pointers[k];
        pointer.kind == self.tensor.kind && is_slice(self.layout, k, pointer)
    }

    /// Array `k` in the tile from `start`, to be written: in place, or copied to `buffer`.
    ///
    /// # Safety
    ///
    /// As [`Tensor::update_block`]; `k` is the parameter or a state array.
    #[inline(always)]
    unsafe fn open<'s>(
        &self,
        k: usize,
        start: usize,
        tile: &'s mut [E],
        in_place: bool,
    ) -> &'s mut [E] {
        let pointer = self.tensor.pointers[k];
        // SAFETY: the caller's promise.
        unsafe {
            if in_place {
                return pointer.slice_mut(start, tile.len());
            }
            pointer.read(self.layout, k, start, tile);
        }
        tile
    }
}

impl<E: Element, R: Rule<E, N>, const N: usize> Work for Tiles<'_, '_, E, R, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let tiles = self;
        let pointers = &tiles.tensor.pointers;
        let in_place: [bool; ARRAYS] = std::array::from_fn(|k| tiles.in_place(k));
        let mut p_buffer = [E::ZERO; TILE];
        let mut g_buffer = [E::ZERO; TILE];
        let mut state_buffers = [[E::ZERO; TILE]; N];

        let end = tiles.start + tiles.len;
        for start in (tiles.start..end).step_by(TILE) {
            let len = TILE.min(end - start);
            // SAFETY: the promise of `Tensor::update_block`; each array is opened once a tile.
            unsafe {
                let g = if in_place[GRADIENT] {
                    pointers[GRADIENT].slice(start, len)
                } else {
                    pointers[GRADIENT].read(tiles.layout, GRADIENT, start, &mut g_buffer[..len]);
                    &g_buffer[..len]
                };
                let p = tiles.open(PARAMETER, start, &mut p_buffer[..len], in_place[PARAMETER]);
                let mut k = STATE;
                let state = state_buffers.each_mut().map(|buffer| {
                    let s = tiles.open(k, start, &mut buffer[..len], in_place[k]);
                    k += 1;
                    s
                });

                kernel::update(tiles.rule, p, g, state);

                if !in_place[PARAMETER] {
                    pointers[PARAMETER].write(tiles.layout, PARAMETER, start, &p_buffer[..len]);
                }
                for (k, buffer) in (STATE..).zip(&state_buffers) {
                    if !in_place[k] {
                        pointers[k].write(tiles.layout, k, start, &buffer[..len]);
                    }
                }
            }
        }
    }
}

/// Tiles of a tensor whose gradient lies across.
struct Across<'b, 'a, E, R, const N: usize> {
    rule: &'b R,
    tensor: &'b Tensor<'a>,
    planes: &'b Planes,
    tiles: Range<usize>,
    element: PhantomData<E>,
}

impl<E: Element, R: Rule<E, N>, const N: usize> Work for Across<'_, '_, E, R, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (pointers, planes) = (&self.tensor.pointers, self.planes);
        let gradient = pointers[GRADIENT];
        let mut panel = planes::panel::<E>();
        let mut p_buffer = [E::ZERO; planes::COLUMNS];
        let mut state_buffers = [[E::ZERO; planes::COLUMNS]; N];
        for index in self.tiles {
            let tile = planes.tile(index);
            // SAFETY: the promise of `Tensor::update_block`; tiles have no element in common, nor
            // have the rows of a tile, and each array is opened once a row.
            unsafe {
                planes.patch(gradient, tile).gather(&mut panel);
                for (row, g) in panel[..tile.rows].iter().enumerate() {
                    let line = |k: usize| planes.row(pointers[k], k, tile, row);
                    let p = line(PARAMETER).open(&mut p_buffer[..tile.columns]);
                    let mut k = STATE;
                    let state = state_buffers.each_mut().map(|buffer| {
                        let s = line(k).open(&mut buffer[..tile.columns]);
                        k += 1;
                        s
                    });
                    kernel::update(self.rule, p, &g[..tile.columns], state);
                    line(PARAMETER).close(&p_buffer[..tile.columns]);
                    for (k, buffer) in (STATE..).zip(&state_buffers) {
                        line(k).close(&buffer[..tile.columns]);
                    }
                }
            }
        }
    }
}
