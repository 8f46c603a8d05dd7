//! Addresses of arrays. Contiguous arrays are used as slices; elements with other strides or
//! storages are copied to buffers that stay in cache, and back.

#![allow(unsafe_code)] // reads and writes through the pointers of arrays

use std::hint::black_box;

use crate::array::layout::Layout;
use crate::array::prefetch;
use crate::array::storage::dither::Dither;
use crate::array::storage::nan::of_one_nan;
use crate::array::storage::{Companion, Decoding, Encoding, Storage, match_narrow, match_whole};
use crate::number::element::Element;

/// Largest number of state arrays of a rule.
pub const MAX_STATE: usize = 3;
/// Number of arrays in an update: parameter, gradient, state, and what a narrow parameter lacks, in
/// this order.
pub const ARRAYS: usize = 3 + MAX_STATE;
/// Index of the parameter.
pub const PARAMETER: usize = 0;
/// Index of the gradient.
pub const GRADIENT: usize = 1;
/// Index of the first state array.
pub const STATE: usize = 2;
/// Index of what a narrow parameter lacks.
pub const LOW: usize = STATE + MAX_STATE;

/// Elements per buffer. The buffers of a whole AdamW update fit a first-level cache.
pub(crate) const BUFFER: usize = 1024;

/// The address of an array and the storage of its elements.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    /// Address of the element at index zero; any alignment.
    pub address: *mut u8,
    /// The meaning of the elements' bytes.
    pub storage: Storage,
}

impl Pointer {
    /// A pointer to elements of type `E`.
    pub fn of<E: Element>(address: *mut E) -> Self {
        Pointer { address: address.cast(), storage: E::KIND.into() }
    }

    /// Element `at` of a dense array of type `E`.
    pub(crate) fn element<E: Element>(self, at: usize) -> Self {
        Pointer::of(self.address.cast::<E>().wrapping_add(at))
    }

    /// Whether array `k` of a traversal, which lies at this address, is a slice of elements: plain,
    /// dense in the traversal's order, and aligned.
    pub(crate) fn is_slice<const K: usize>(self, layout: &Layout<K>, k: usize) -> bool {
        self.storage.is_plain() && self.is_dense(layout, k)
    }

    /// Whether array `k` of a traversal, which lies at this address, is a slice of what its storage
    /// has in memory.
    pub(crate) fn is_dense<const K: usize>(self, layout: &Layout<K>, k: usize) -> bool {
        let size = self.storage.size();
        layout.is_dense(k, size) && self.address.addr().is_multiple_of(size)
    }

    /// Elements `start..start + len` of a dense array.
    ///
    /// # Safety
    ///
    /// The elements are dense and aligned in memory that is valid and not written for `'a`, and `E`
    /// is the array's type.
    pub(crate) unsafe fn slice<'a, E: Element>(self, start: usize, len: usize) -> &'a [E] {
        debug_assert_eq!(self.storage, E::KIND.into());
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address.cast::<E>().add(start), len) }
    }

    /// Elements `start..start + len` of a dense array, for writing.
    ///
    /// # Safety
    ///
    /// As [`Pointer::slice`], and nothing else reads or writes them for `'a`.
    pub(crate) unsafe fn slice_mut<'a, E: Element>(self, start: usize, len: usize) -> &'a mut [E] {
        debug_assert_eq!(self.storage, E::KIND.into());
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast::<E>().add(start), len) }
    }

    /// Reads elements `start..` of the traversal into `buffer`, cast to `E`. Narrow storages are
    /// decoded once for all callers and CPU levels.
    ///
    /// # Safety
    ///
    /// Array `k` of `layout` lies at this pointer in memory that is valid and not written during the
    /// call, and the traversal has `start + buffer.len()` elements.
    #[inline(always)]
    pub(crate) unsafe fn read<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_whole!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
            if self.storage.is_narrow() {
                self.read_apart::<E, K>(layout, k, start, buffer);
            }
        }
    }

    /// # Safety
    ///
    /// As [`Pointer::read`].
    #[inline(never)]
    unsafe fn read_apart<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.read_narrow(layout, k, start, buffer) }
    }

    /// # Safety
    ///
    /// As [`Pointer::read`], of a narrow array.
    #[inline(always)]
    unsafe fn read_narrow<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_narrow!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
        }
    }

    /// As [`Pointer::read`], compiled for the caller's CPU level.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read`].
    #[inline(always)]
    pub(crate) unsafe fn read_here<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_whole!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
            self.read_narrow(layout, k, start, buffer);
        }
    }

    /// Prefetches `len` elements from `start` on, if array `k` is taken by rows.
    pub(crate) fn request<const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        (start, len): (usize, usize),
    ) {
        if layout.has_rows(k) {
            layout.runs(k, start, len, |offset, stride, count| {
                prefetch::span(self.address.wrapping_offset(offset), count, stride);
            });
        }
    }

    /// Writes `buffer` to elements `start..` of the traversal, encoded.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read`]; the array's element type is `E`, and nothing else reads or writes the
    /// elements during the call.
    #[inline(always)]
    pub(crate) unsafe fn write<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &[E],
        dither: &Dither,
    ) {
        debug_assert_eq!(self.storage.element(), E::KIND);
        let address = self.address;
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_whole!(self.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
                store(address, layout, k, start, buffer, |x| S::encode(S::prepared(cast(x)), dither));
            });
            match_narrow!(self.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
                store(address, layout, k, start, buffer, |x| S::encode(S::prepared(cast(x)), dither));
            });
        }
    }

    /// Joins the live numbers in `buffer`, elements `start..` of the traversal, with what they lack.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read`]; the array has elements of type `C`.
    #[inline(always)]
    pub(crate) unsafe fn join<C: Companion, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            load(self.address, layout, k, start, buffer, |rest: C, live| rest.join(live));
        }
    }

    /// Writes what live numbers lack of the numbers in `buffer` to elements `start..` of the
    /// traversal.
    ///
    /// # Safety
    ///
    /// As [`Pointer::join`], and nothing else reads or writes the elements during the call.
    #[inline(always)]
    pub(crate) unsafe fn write_low<C: Companion, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &[f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            store(self.address, layout, k, start, buffer, |x| C::of(of_one_nan(x)));
        }
    }
}

/// Converts an element to another type, rounding if that type has fewer digits.
#[inline(always)]
pub(crate) fn cast<A: Element, B: Element>(x: A) -> B {
    B::from_f64(x.to_f64())
}

/// # Safety
///
/// As [`Pointer::read`], with elements of type `S`.
#[inline(always)]
unsafe fn read<S: Decoding, E: Element, const K: usize>(
    address: *mut u8,
    layout: &Layout<K>,
    k: usize,
    start: usize,
    buffer: &mut [E],
) {
    // SAFETY: the caller's promise.
    unsafe {
        load(address, layout, k, start, buffer, |stored: S, _| cast(stored.decode()));
    }
}

/// Elements that are decoded or encoded together where an array is dense. `black_box` around a chunk
/// keeps the compiler from vectorising over chunks instead of inside them, which takes 2 to 4 times
/// as long.
const CHUNK: usize = 16;

/// Sets each place of `buffer` to `of` the element of an array there and its own value.
///
/// # Safety
///
/// As [`Pointer::read`], with elements of type `S`.
#[inline(always)]
unsafe fn load<S: Copy, E: Element, const K: usize>(
    address: *mut u8,
    layout: &Layout<K>,
    k: usize,
    start: usize,
    buffer: &mut [E],
    of: impl Fn(S, E) -> E,
) {
    let mut rest = buffer;
    let len = rest.len();
    // What follows a row in memory is another row, which is requested when it is next.
    let follows = !layout.has_rows(k);
    layout.runs(k, start, len, |offset, stride, count| {
        let (places, next) = std::mem::take(&mut rest).split_at_mut(count);
        rest = next;
        let first = address.wrapping_offset(offset);
        let mut places = places;
        let mut done = 0;
        // A chunk at a constant stride, in local arrays, is straight-line vector code.
        if stride == size_of::<S>() as isize {
            let (chunks, tail) = places.as_chunks_mut::<CHUNK>();
            for (i, chunk) in chunks.iter_mut().enumerate() {
                let from = first.cast::<[S; CHUNK]>().wrapping_add(i);
                if follows {
                    prefetch::ahead(from);
                }
                // SAFETY: the traversal lies in the array; the caller's promise.
                let (stored, own) = (unsafe { black_box(from).read_unaligned() }, *chunk);
                let mut made = [E::ZERO; CHUNK];
                for k in 0..CHUNK {
                    made[k] = of(stored[k], own[k]);
                }
                *chunk = made;
            }
            done = chunks.len() * CHUNK;
            places = tail;
        }
        for (i, place) in places.iter_mut().enumerate() {
            let from = first.wrapping_offset((done + i) as isize * stride).cast::<S>();
            // SAFETY: as above.
            *place = of(unsafe { from.read_unaligned() }, *place);
        }
    });
}

/// Sets each element of an array to `of` the number in `buffer`.
///
/// # Safety
///
/// As [`load`], and nothing else reads or writes the elements during the call.
#[inline(always)]
unsafe fn store<S: Copy, E: Element, const K: usize>(
    address: *mut u8,
    layout: &Layout<K>,
    k: usize,
    start: usize,
    buffer: &[E],
    of: impl Fn(E) -> S,
) {
    let mut rest = buffer;
    layout.runs(k, start, buffer.len(), |offset, stride, count| {
        let (values, next) = rest.split_at(count);
        rest = next;
        let first = address.wrapping_offset(offset);
        let mut values = values;
        let mut done = 0;
        if stride == size_of::<S>() as isize {
            let (chunks, tail) = values.as_chunks::<CHUNK>();
            for (i, chunk) in chunks.iter().enumerate() {
                let chunk = *black_box(chunk);
                let stored: [S; CHUNK] = chunk.map(&of);
                let to = first.cast::<[S; CHUNK]>().wrapping_add(i);
                // SAFETY: the traversal lies in the array; the caller's promise.
                unsafe { to.write_unaligned(stored) };
            }
            done = chunks.len() * CHUNK;
            values = tail;
        }
        for (i, value) in values.iter().enumerate() {
            let to = first.wrapping_offset((done + i) as isize * stride).cast::<S>();
            // SAFETY: as above.
            unsafe { to.write_unaligned(of(*value)) };
        }
    });
}
