//! Passes over a tensor whose arrays are slices, and over one whose gradient lies across.

#![allow(unsafe_code)] // takes slices of a tensor's arrays

use std::marker::PhantomData;
use std::ops::Range;

use crate::array::across::{self, Tiling};
use crate::array::pointer::{GRADIENT, PARAMETER, STATE};
use crate::machine::levels::Work;
use crate::number::element::Element;
use crate::rule::Formula;
use crate::update::kernel;
use crate::update::statistics::{SPAN, Statistics};
use crate::update::tensor::Tensor;

/// Elements `start..start + len` of a tensor whose arrays are all slices.
pub(crate) struct Slices<'b, 'a, E, F, S, const N: usize> {
    formula: &'b F,
    tensor: &'b Tensor<'a>,
    start: usize,
    len: usize,
    statistics: &'b mut S,
    element: PhantomData<E>,
}

impl<'b, 'a, E, F, S, const N: usize> Slices<'b, 'a, E, F, S, N>
where
    E: Element,
    F: Formula<E, N>,
    S: Statistics<E>,
{
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update), and the tensor has no course.
    pub(crate) unsafe fn new(
        formula: &'b F,
        tensor: &'b Tensor<'a>,
        (start, len): (usize, usize),
        statistics: &'b mut S,
    ) -> Self {
        Slices { formula, tensor, start, len, statistics, element: PhantomData }
    }
}

impl<E, F, S, const N: usize> Work for Slices<'_, '_, E, F, S, N>
where
    E: Element,
    F: Formula<E, N>,
    S: Statistics<E>,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let pointers = self.tensor.pointers();
        let end = self.start + self.len;
        let span = if S::TAKEN { SPAN } else { self.len.max(1) };
        for start in (self.start..end).step_by(span) {
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
            self.statistics.before(p);
            kernel::update(self.formula, p, g, state);
            self.statistics.after(g, p);
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
