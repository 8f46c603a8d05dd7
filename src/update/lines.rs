//! A tensor whose arrays are not all slices, some elements at a time: arrays that are not slices of
//! the parameter's type are copied to buffers that stay in cache, and back.

#![allow(unsafe_code)] // reads and writes the arrays of a tensor

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::array::layout::Layout;
use crate::array::pointer::{ARRAYS, BUFFER, GRADIENT, PARAMETER, Pointer, STATE};
use crate::machine::levels::{Level, Work};
use crate::number::element::Element;

/// The traversal of a tensor's arrays.
#[derive(Debug)]
pub(crate) struct Lines {
    layout: Layout<ARRAYS>,
    /// Arrays that are used where they lie.
    in_place: [bool; ARRAYS],
}

/// Room for some elements of each array. Only the part in use is initialised, because a small tensor
/// is updated in less time than all of it.
pub(crate) struct Buffers<E> {
    arrays: [[MaybeUninit<E>; BUFFER]; ARRAYS],
    /// The number of elements of each array that are initialised.
    filled: usize,
}

impl<E: Element> Buffers<E> {
    pub(crate) fn new() -> Self {
        Buffers { arrays: [[MaybeUninit::uninit(); BUFFER]; ARRAYS], filled: 0 }
    }

    fn fill(&mut self, len: usize) {
        if len > self.filled {
            for array in &mut self.arrays {
                array[self.filled..len].fill(MaybeUninit::new(E::ZERO));
            }
            self.filled = len;
        }
    }
}

impl Lines {
    pub(crate) fn new(layout: Layout<ARRAYS>, pointers: &[Pointer; ARRAYS]) -> Self {
        let kind = pointers[PARAMETER].storage.element();
        let in_place = std::array::from_fn(|k| {
            pointers[k].storage.element() == kind && pointers[k].is_slice(&layout, k)
        });
        Lines { layout, in_place }
    }

    /// Runs `work` on elements `start..start + len` of the traversal as slices of type `E`; at most
    /// [`BUFFER`] elements.
    ///
    /// # Safety
    ///
    /// As [`apply::update`](super::apply::update), for the tensor whose traversal this is, with its
    /// arrays and number of state arrays.
    pub(crate) unsafe fn with<E: Element>(
        &self,
        (pointers, states): (&[Pointer; ARRAYS], usize),
        level: Level,
        (start, len): (usize, usize),
        buffers: &mut Buffers<E>,
        work: impl FnOnce([Pointer; ARRAYS]),
    ) {
        buffers.fill(len);
        let slices: [Pointer; ARRAYS] = std::array::from_fn(|k| match self.in_place[k] {
            true => pointers[k].element::<E>(start),
            false => Pointer::of(buffers.arrays[k].as_mut_ptr().cast::<E>()),
        });
        // SAFETY: the caller's promise. Every slice has `len` elements that are initialised, and
        // nothing else uses them until the part is closed.
        let part = unsafe { Part::<E>::new(self, pointers, states, (start, len), slices) };
        level.run(Open(&part));
        work(slices);
        level.run(Close(&part));
    }
}

/// Some elements of a tensor's arrays, and the slices that stand for them.
struct Part<'b, E> {
    lines: &'b Lines,
    pointers: &'b [Pointer; ARRAYS],
    states: usize,
    start: usize,
    len: usize,
    slices: [Pointer; ARRAYS],
    element: PhantomData<E>,
}

impl<'b, E: Element> Part<'b, E> {
    /// # Safety
    ///
    /// As [`Lines::with`]; the slices of arrays that are not in place are free for use.
    unsafe fn new(
        lines: &'b Lines,
        pointers: &'b [Pointer; ARRAYS],
        states: usize,
        (start, len): (usize, usize),
        slices: [Pointer; ARRAYS],
    ) -> Self {
        Part { lines, pointers, states, start, len, slices, element: PhantomData }
    }

    /// The written arrays that have a buffer.
    #[inline(always)]
    fn written(&self) -> impl Iterator<Item = usize> {
        let arrays = std::iter::once(PARAMETER).chain(STATE..STATE + self.states);
        arrays.filter(|k| !self.lines.in_place[*k])
    }
}

struct Open<'p, 'b, E>(&'p Part<'b, E>);

impl<E: Element> Work for Open<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Part { lines, pointers, start, len, slices, .. } = self.0;
        // SAFETY: the promise of `Part::new`.
        unsafe {
            if !lines.in_place[GRADIENT] {
                let buffer = slices[GRADIENT].slice_mut::<E>(0, *len);
                pointers[GRADIENT].read(&lines.layout, GRADIENT, *start, buffer);
            }
            for k in self.0.written() {
                let buffer = slices[k].slice_mut::<E>(0, *len);
                pointers[k].read_own(&lines.layout, k, *start, buffer);
            }
        }
    }
}

struct Close<'p, 'b, E>(&'p Part<'b, E>);

impl<E: Element> Work for Close<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Part { lines, pointers, start, len, slices, .. } = self.0;
        for k in self.0.written() {
            // SAFETY: the promise of `Part::new`.
            unsafe {
                let buffer = slices[k].slice::<E>(0, *len);
                pointers[k].write(&lines.layout, k, *start, buffer);
            }
        }
    }
}
