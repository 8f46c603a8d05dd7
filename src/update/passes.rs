//! The pass over a tensor whose arrays are slices, and the gathering of a gradient that lies across.

#![allow(unsafe_code)] // takes slices of a tensor's arrays

use std::marker::PhantomData;

use crate::array::across::{Panel, Patch};
use crate::array::pointer::{ARRAYS, GRADIENT, PARAMETER, Pointer, STATE};
use crate::machine::levels::Work;
use crate::number::element::Element;
use crate::rule::Formula;
use crate::update::kernel::{self, Next};
use crate::update::statistics::{SPAN, Statistics};

/// Pointers to the arrays of an update that are all slices of one length and type.
pub(crate) type Row = [Pointer; ARRAYS];

/// Elements `start..start + len` of rows.
pub(crate) struct Slices<'b, E, F, S, X, const N: usize> {
    formula: &'b F,
    rows: &'b [Row],
    start: usize,
    len: usize,
    statistics: &'b mut S,
    next: X,
    element: PhantomData<E>,
}

impl<'b, E, F, S, X, const N: usize> Slices<'b, E, F, S, X, N>
where
    E: Element,
    F: Formula<E, N>,
    S: Statistics<E>,
    X: Next,
{
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update), for these elements.
    pub(crate) unsafe fn new(
        formula: &'b F,
        rows: &'b [Row],
        (start, len): (usize, usize),
        statistics: &'b mut S,
        next: X,
    ) -> Self {
        Slices { formula, rows, start, len, statistics, next, element: PhantomData }
    }
}

impl<E, F, S, X, const N: usize> Work for Slices<'_, E, F, S, X, N>
where
    E: Element,
    F: Formula<E, N>,
    S: Statistics<E>,
    X: Next,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let end = self.start + self.len;
        let span = if S::TAKEN { SPAN } else { self.len.max(1) };
        let ranges = || (self.start..end).step_by(span);
        for (row, start) in self.rows.iter().flat_map(|row| ranges().map(move |start| (row, start)))
        {
            let len = span.min(end - start);
            // SAFETY: the caller's promise; all arrays are slices of this type.
            let (p, g, state) = unsafe {
                (
                    row[PARAMETER].slice_mut(start, len),
                    row[GRADIENT].slice(start, len),
                    std::array::from_fn(|k| row[STATE + k].slice_mut(start, len)),
                )
            };
            self.statistics.before(p);
            kernel::update(self.formula, p, g, state, self.next);
            self.statistics.after(g, p);
        }
    }
}

/// The gathering of a gradient's tile.
pub(crate) struct Gather<'p, E> {
    patch: Patch,
    panel: &'p mut Panel<E>,
}

impl<'p, E> Gather<'p, E> {
    /// # Safety
    ///
    /// As [`Patch::gather`].
    pub(crate) unsafe fn new(patch: Patch, panel: &'p mut Panel<E>) -> Self {
        Gather { patch, panel }
    }
}

impl<E: Element> Work for Gather<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // SAFETY: the promise of `new`.
        unsafe { self.patch.gather(self.panel) }
    }
}
