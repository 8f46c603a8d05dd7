//! A tensor whose arrays are not all slices, some elements at a time: arrays that are not slices of
//! the parameter's type are copied to buffers that stay in cache, and back.

#![allow(unsafe_code)] // reads and writes the arrays of a tensor

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::array::layout::Layout;
use crate::array::pointer::{ARRAYS, BUFFER, GRADIENT, LOW, PARAMETER, Pointer, STATE};
use crate::array::storage::dither::Dither;
use crate::array::storage::{Storage, e5m3, float16, match_companion};
use crate::machine::levels::{Level, Work};
use crate::number::element::{Element, Kind};
use crate::update::kernel::NextRow;

/// Rows between the one that is updated and the one that is requested meanwhile.
const AHEAD: usize = 2;

/// What narrow parameters and state need beside arrays of their shape.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// The number of the parameter's update, counted from 1; it decides the dither.
    pub step: u64,
    /// The exponents of the blocks of an [`e5m3`] array; null if there is none.
    pub bases: *mut u8,
    /// The array that lacks what the one at [`LOW`] has: the parameter or the gradient.
    pub low_of: Option<usize>,
}

/// The traversal of a tensor's arrays.
#[derive(Debug)]
pub(crate) struct Lines {
    layout: Layout<ARRAYS>,
    /// Arrays that are used where they lie.
    in_place: [bool; ARRAYS],
    /// Whether every array is a slice of what its storage has in memory.
    dense: bool,
    /// The length of a row, if arrays are taken by rows that are slices of the parameter's type.
    width: Option<usize>,
    dither: Dither,
    bases: *mut u8,
    low_of: Option<usize>,
    /// Whether an element of a float16 parameter that was written left the range of float16.
    overflowed: AtomicBool,
}

/// Room for some elements of each array. Only the part in use is initialised, because a small tensor
/// is updated in less time than all of it.
#[repr(align(64))]
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
        let dense = (0..ARRAYS).all(|k| pointers[k].is_dense(&layout, k));
        let size = Storage::from(kind).size();
        let is_slice = |k: usize| {
            let stride = layout.axes()[0].strides[k].unsigned_abs();
            pointers[k].storage == kind.into()
                && (pointers[k].address.addr() | stride).is_multiple_of(size)
        };
        let width = layout.dense_rows(size).filter(|_| (0..ARRAYS).all(is_slice));
        Lines {
            layout,
            in_place,
            dense,
            width,
            dither: Dither::default(),
            bases: std::ptr::null_mut(),
            low_of: None,
            overflowed: AtomicBool::new(false),
        }
    }

    pub(crate) fn narrow(
        layout: Layout<ARRAYS>,
        pointers: &[Pointer; ARRAYS],
        Narrow { step, bases, low_of }: Narrow,
    ) -> Self {
        Lines { dither: Dither::at(step), bases, low_of, ..Lines::new(layout, pointers) }
    }

    /// Whether an element of a float16 parameter that was written left the range of float16.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Whether every array is a slice of what its storage has in memory, in one order.
    pub(crate) fn are_dense(&self) -> bool {
        self.dense
    }

    /// The dither of the update.
    pub(crate) fn dither(&self) -> &Dither {
        &self.dither
    }

    /// The array that lacks what the one at [`LOW`] has.
    pub(crate) fn low_of(&self) -> Option<usize> {
        self.low_of
    }

    /// The codes of elements `start..start + len` in a block array, and the exponents of their
    /// blocks.
    ///
    /// # Safety
    ///
    /// The array is this tensor's, has the storage `E5M3`, and nothing else uses these elements for
    /// `'p`; `start` is a multiple of a block.
    #[inline(always)]
    pub(crate) unsafe fn blocks<'p>(
        &self,
        pointer: Pointer,
        (start, len): (usize, usize),
    ) -> (&'p mut [u8], &'p mut [u8]) {
        debug_assert!(start.is_multiple_of(e5m3::BLOCK));
        let bases = self.bases.wrapping_add(start / e5m3::BLOCK);
        // SAFETY: the promise of `Tensor::narrow`: codes are dense in the order of the traversal,
        // and every block has an exponent.
        unsafe {
            (
                std::slice::from_raw_parts_mut(pointer.address.add(start), len),
                std::slice::from_raw_parts_mut(bases, len.div_ceil(e5m3::BLOCK)),
            )
        }
    }

    /// Prefetches elements `start..start + len`, as far as there are, of arrays that are taken by
    /// rows: the processor does not foresee which row is next.
    pub(crate) fn request(
        &self,
        pointers: &[Pointer; ARRAYS],
        states: usize,
        (start, len): (usize, usize),
    ) {
        let len = self.layout.len().saturating_sub(start).min(len);
        let low = self.low_of.map(|_| LOW);
        for k in [PARAMETER, GRADIENT].into_iter().chain(STATE..STATE + states).chain(low) {
            pointers[k].request(&self.layout, k, (start, len));
        }
    }

    /// The length of a row, if arrays are taken by rows that are slices of the parameter's type.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Runs `work` on elements `start..start + len` of arrays that are taken by rows of `width`
    /// elements: with the slices of each row, the range in them, and the way to the next row.
    pub(crate) fn in_rows(
        &self,
        (pointers, states): (&[Pointer; ARRAYS], usize),
        width: usize,
        (start, len): (usize, usize),
        mut work: impl FnMut([Pointer; ARRAYS], (usize, usize), NextRow),
    ) {
        let rows = |row: usize| -> [Pointer; ARRAYS] {
            std::array::from_fn(|k| {
                let offset = self.layout.offset(k, row * width);
                Pointer { address: pointers[k].address.wrapping_offset(offset), ..pointers[k] }
            })
        };
        let (mut at, end) = (start, start + len);
        let last = (end - 1) / width;
        self.request(pointers, states, (start, AHEAD * width));
        while at < end {
            let (row, column) = (at / width, at % width);
            let count = (width - column).min(end - at);
            let (here, next) = (rows(row), rows((row + AHEAD).min(last)));
            let way = |k: usize| {
                next[k].address.addr().wrapping_sub(here[k].address.addr()).cast_signed()
            };
            work(here, (column, count), NextRow { own: way(PARAMETER), gradient: way(GRADIENT) });
            at += count;
        }
    }

    /// Whether parameter and state are taken by rows.
    pub(crate) fn have_rows(&self) -> bool {
        self.layout.has_rows(PARAMETER)
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
        arrays: (&[Pointer; ARRAYS], usize),
        level: Level,
        range: (usize, usize),
        buffers: &mut Buffers<E>,
        work: impl FnOnce([Pointer; ARRAYS]),
    ) {
        // SAFETY: the caller's promise.
        let part = unsafe { self.opened(arrays, level, range, buffers) };
        work(part.slices);
        level.run(Close(&part));
    }

    /// As [`Lines::with`] for work that only reads; nothing is written.
    ///
    /// # Safety
    ///
    /// As [`Lines::with`].
    pub(crate) unsafe fn read<E: Element>(
        &self,
        arrays: (&[Pointer; ARRAYS], usize),
        level: Level,
        range: (usize, usize),
        buffers: &mut Buffers<E>,
        work: impl FnOnce([Pointer; ARRAYS]),
    ) {
        // SAFETY: the caller's promise.
        work(unsafe { self.opened(arrays, level, range, buffers) }.slices);
    }

    /// Some elements, copied to the buffers as far as they are not used where they lie.
    ///
    /// # Safety
    ///
    /// As [`Lines::with`].
    #[inline(always)]
    unsafe fn opened<'b, E: Element>(
        &'b self,
        (pointers, states): (&'b [Pointer; ARRAYS], usize),
        level: Level,
        (start, len): (usize, usize),
        buffers: &mut Buffers<E>,
    ) -> Part<'b, E> {
        buffers.fill(len);
        let slices: [Pointer; ARRAYS] = std::array::from_fn(|k| match self.in_place[k] {
            true => pointers[k].element::<E>(start),
            false => Pointer::of(buffers.arrays[k].as_mut_ptr().cast::<E>()),
        });
        // SAFETY: the caller's promise. Every slice has `len` elements that are initialised, and
        // nothing else uses them until the part is closed.
        let part = unsafe { Part::<E>::new(self, pointers, states, (start, len), slices) };
        level.run(Open(&part));
        part
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

impl<E: Element> Part<'_, E> {
    /// Copies array `k` to its buffer.
    ///
    /// # Safety
    ///
    /// As [`Part::new`].
    #[inline(always)]
    unsafe fn read(&self, k: usize) {
        let Part { lines, pointers, start, len, .. } = self;
        let (layout, start, pointer) = (&lines.layout, *start, pointers[k]);
        // SAFETY: the caller's promise. Only tensors of `f32` have arrays that are not whole.
        unsafe {
            if pointer.storage != Storage::E5M3 {
                pointer.read_here(layout, k, start, self.slices[k].slice_mut::<E>(0, *len));
            } else if E::KIND == Kind::F32 {
                layout.parts(k, (start, *len), |element, at, len| {
                    let (codes, bases) = lines.blocks(pointer, (element, len));
                    e5m3::decode(codes, bases, self.slices[k].slice_mut(at - start, len));
                });
            }
            if E::KIND == Kind::F32 && lines.low_of == Some(k) {
                let buffer = self.slices[k].slice_mut(0, *len);
                match_companion!(pointer.storage, C => {
                    pointers[LOW].join::<C, _>(layout, LOW, start, buffer);
                });
            }
        }
    }

    /// Copies array `k` back from its buffer.
    ///
    /// # Safety
    ///
    /// As [`Part::new`].
    #[inline(always)]
    unsafe fn write(&self, k: usize) {
        let Part { lines, pointers, start, len, .. } = self;
        let (layout, start, pointer) = (&lines.layout, *start, pointers[k]);
        // SAFETY: the caller's promise. Only tensors of `f32` have arrays that are not whole.
        unsafe {
            if pointer.storage != Storage::E5M3 {
                let buffer = self.slices[k].slice::<E>(0, *len);
                pointer.write(layout, k, start, buffer, &lines.dither);
            } else if E::KIND == Kind::F32 {
                layout.parts(k, (start, *len), |element, at, len| {
                    let (codes, bases) = lines.blocks(pointer, (element, len));
                    let numbers = self.slices[k].slice(at - start, len);
                    e5m3::encode(numbers, &lines.dither, codes, bases);
                });
            }
            if E::KIND == Kind::F32 && lines.low_of == Some(k) {
                let buffer = self.slices[k].slice(0, *len);
                if pointer.storage == Storage::F16 && float16::overflows(buffer) {
                    lines.overflowed.store(true, Ordering::Relaxed);
                }
                match_companion!(pointer.storage, C => {
                    pointers[LOW].write_low::<C, _>(layout, LOW, start, buffer);
                });
            }
        }
    }
}

struct Open<'p, 'b, E>(&'p Part<'b, E>);

impl<E: Element> Work for Open<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let gradient = (!self.0.lines.in_place[GRADIENT]).then_some(GRADIENT);
        for k in gradient.into_iter().chain(self.0.written()) {
            // SAFETY: the promise of `Part::new`.
            unsafe { self.0.read(k) }
        }
    }
}

struct Close<'p, 'b, E>(&'p Part<'b, E>);

impl<E: Element> Work for Close<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for k in self.0.written() {
            // SAFETY: the promise of `Part::new`.
            unsafe { self.0.write(k) }
        }
    }
}
