//! Passes over a tensor: on slices, through buffers, or by tiles if the gradient lies across.

#![allow(unsafe_code)] // takes slices of a tensor's arrays, one block at a time

use std::marker::PhantomData;
use std::ops::Range;

use crate::array::across::{self, Tiling};
use crate::array::layout::Layout;
use crate::array::pointer::{ARRAYS, BUFFER, GRADIENT, PARAMETER, STATE};
use crate::machine::levels::Work;
use crate::number::element::Element;
use crate::number::sums::{BLOCK, Found};
use crate::rule::Formula;
use crate::update::kernel;
use crate::update::statistics::{SPAN, Squares, Statistics};
use crate::update::tensor::Tensor;

/// A pass that takes elements in the order of the tensor's traversal.
pub(crate) trait Pass<E> {
    /// Updates elements `start..start + len` of the traversal. Implementations are
    /// `#[inline(always)]`.
    ///
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update).
    unsafe fn update<S: Statistics<E>>(&self, start: usize, len: usize, statistics: &mut S);
}

/// Elements `start..start + len` of a pass, without statistics.
pub(crate) struct Block<'b, E, P> {
    pass: &'b P,
    start: usize,
    len: usize,
    element: PhantomData<E>,
}

impl<'b, E: Element, P: Pass<E>> Block<'b, E, P> {
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update).
    pub(crate) unsafe fn new(pass: &'b P, start: usize, len: usize) -> Self {
        Block { pass, start, len, element: PhantomData }
    }
}

impl<E: Element, P: Pass<E>> Work for Block<'_, E, P> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // SAFETY: the promise of `new`.
        unsafe { self.pass.update(self.start, self.len, &mut ()) }
    }
}

/// Elements `start..start + len` of a pass, block by block; stores the sums of each block.
pub(crate) struct MeasuredBlock<'b, E, P> {
    pass: &'b P,
    start: usize,
    len: usize,
    /// One entry per block.
    found: &'b [Found<3>],
    /// Whether the gradient is summed too.
    grads: bool,
    element: PhantomData<E>,
}

impl<'b, E: Element, P: Pass<E>> MeasuredBlock<'b, E, P> {
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update).
    pub(crate) unsafe fn new(
        pass: &'b P,
        (start, len): (usize, usize),
        found: &'b [Found<3>],
        grads: bool,
    ) -> Self {
        MeasuredBlock { pass, start, len, found, grads, element: PhantomData }
    }
}

impl<E: Element, P: Pass<E>> Work for MeasuredBlock<'_, E, P> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let end = self.start + self.len;
        let mut squares = Squares::new(self.grads);
        for (start, found) in (self.start..end).step_by(BLOCK).zip(self.found) {
            // SAFETY: the promise of `new`.
            unsafe { self.pass.update(start, BLOCK.min(end - start), &mut squares) };
            found.set(squares.take());
        }
    }
}

/// A pass for tensors whose arrays are all slices.
pub(crate) struct Slices<'b, 'a, E, F, const N: usize> {
    formula: &'b F,
    tensor: &'b Tensor<'a>,
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, F: Formula<E, N>, const N: usize> Slices<'b, 'a, E, F, N> {
    pub(crate) fn new(formula: &'b F, tensor: &'b Tensor<'a>) -> Self {
        Slices { formula, tensor, element: PhantomData }
    }
}

impl<E: Element, F: Formula<E, N>, const N: usize> Pass<E> for Slices<'_, '_, E, F, N> {
    #[inline(always)]
    unsafe fn update<S: Statistics<E>>(&self, start: usize, len: usize, statistics: &mut S) {
        let pointers = self.tensor.pointers();
        let end = start + len;
        let span = if S::TAKEN { SPAN } else { len.max(1) };
        for start in (start..end).step_by(span) {
            let len = span.min(end - start);
            // SAFETY: without a course all arrays are dense and of this type; the caller keeps
            // ranges disjoint.
            let (p, g, state) = unsafe {
                (
                    pointers[PARAMETER].slice_mut(start, len),
                    pointers[GRADIENT].slice(start, len),
                    std::array::from_fn(|k| pointers[STATE + k].slice_mut(start, len)),
                )
            };
            statistics.before(p);
            kernel::update(self.formula, p, g, state);
            statistics.after(g, p);
        }
    }
}

/// A pass that copies arrays through buffers unless they are slices.
pub(crate) struct Buffered<'b, 'a, E, F, const N: usize> {
    formula: &'b F,
    tensor: &'b Tensor<'a>,
    layout: &'b Layout<ARRAYS>,
    in_place: [bool; ARRAYS],
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, F: Formula<E, N>, const N: usize> Buffered<'b, 'a, E, F, N> {
    pub(crate) fn new(formula: &'b F, tensor: &'b Tensor<'a>, layout: &'b Layout<ARRAYS>) -> Self {
        let in_place = std::array::from_fn(|k| {
            let pointer = tensor.pointers()[k];
            pointer.storage.element() == tensor.kind() && pointer.is_slice(layout, k)
        });
        Buffered { formula, tensor, layout, in_place, element: PhantomData }
    }

    /// Elements `start..` of array `k` for writing: in place, or copied to `buffer`, which has
    /// their length.
    ///
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update); `k` is the parameter or a state array.
    #[inline(always)]
    unsafe fn open<'s>(&self, k: usize, start: usize, buffer: &'s mut [E]) -> &'s mut [E] {
        let pointer = self.tensor.pointers()[k];
        // SAFETY: the caller's promise.
        unsafe {
            if self.in_place[k] {
                return pointer.slice_mut(start, buffer.len());
            }
            pointer.read_own(self.layout, k, start, buffer);
        }
        buffer
    }
}

impl<E: Element, F: Formula<E, N>, const N: usize> Pass<E> for Buffered<'_, '_, E, F, N> {
    #[inline(always)]
    unsafe fn update<S: Statistics<E>>(&self, start: usize, len: usize, statistics: &mut S) {
        let in_place = self.in_place;
        let pointers = self.tensor.pointers();
        let mut p_buffer = [E::ZERO; BUFFER];
        let mut g_buffer = [E::ZERO; BUFFER];
        let mut state_buffers = [[E::ZERO; BUFFER]; N];

        let end = start + len;
        for start in (start..end).step_by(BUFFER) {
            let len = BUFFER.min(end - start);
            // SAFETY: the promise of `apply::update`; the loop opens each array once per buffer.
            unsafe {
                let g = if in_place[GRADIENT] {
                    pointers[GRADIENT].slice(start, len)
                } else {
                    pointers[GRADIENT].read(self.layout, GRADIENT, start, &mut g_buffer[..len]);
                    &g_buffer[..len]
                };
                let p = self.open(PARAMETER, start, &mut p_buffer[..len]);
                let mut k = STATE;
                let state = state_buffers.each_mut().map(|buffer| {
                    let s = self.open(k, start, &mut buffer[..len]);
                    k += 1;
                    s
                });

                statistics.before(p);
                kernel::update(self.formula, p, g, state);
                statistics.after(g, p);

                if !in_place[PARAMETER] {
                    pointers[PARAMETER].write(self.layout, PARAMETER, start, &p_buffer[..len]);
                }
                for (k, buffer) in (STATE..).zip(&state_buffers) {
                    if !in_place[k] {
                        pointers[k].write(self.layout, k, start, &buffer[..len]);
                    }
                }
            }
        }
    }
}

/// Some tiles of a tensor whose gradient lies across.
pub(crate) struct Across<'b, 'a, E, F, const N: usize> {
    formula: &'b F,
    tensor: &'b Tensor<'a>,
    tiling: &'b Tiling,
    tiles: Range<usize>,
    element: PhantomData<E>,
}

impl<'b, 'a, E: Element, F: Formula<E, N>, const N: usize> Across<'b, 'a, E, F, N> {
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update), for the elements of these tiles.
    pub(crate) unsafe fn new(
        formula: &'b F,
        tensor: &'b Tensor<'a>,
        tiling: &'b Tiling,
        tiles: Range<usize>,
    ) -> Self {
        Across { formula, tensor, tiling, tiles, element: PhantomData }
    }
}

impl<E: Element, F: Formula<E, N>, const N: usize> Work for Across<'_, '_, E, F, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (pointers, tiling) = (self.tensor.pointers(), self.tiling);
        let gradient = pointers[GRADIENT];
        let mut panel = across::panel::<E>();
        let mut p_buffer = [E::ZERO; across::COLUMNS];
        let mut state_buffers = [[E::ZERO; across::COLUMNS]; N];
        for index in self.tiles {
            let tile = tiling.tile(index);
            // SAFETY: the promise of `new`; tiles are disjoint, and so are the rows of a tile; the
            // loop opens each array once per row.
            unsafe {
                tiling.patch(gradient, tile).gather(&mut panel);
                for (row, g) in panel[..tile.rows].iter().enumerate() {
                    let line = |k: usize| tiling.row(pointers[k], k, tile, row);
                    let p = line(PARAMETER).open(&mut p_buffer[..tile.columns]);
                    let mut k = STATE;
                    let state = state_buffers.each_mut().map(|buffer| {
                        let s = line(k).open(&mut buffer[..tile.columns]);
                        k += 1;
                        s
                    });
                    kernel::update(self.formula, p, &g[..tile.columns], state);
                    line(PARAMETER).close(&p_buffer[..tile.columns]);
                    for (k, buffer) in (STATE..).zip(&state_buffers) {
                        line(k).close(&buffer[..tile.columns]);
                    }
                }
            }
        }
    }
}
