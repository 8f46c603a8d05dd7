//! Addresses of arrays. Contiguous arrays are used as slices; elements with other strides or
//! storages are copied to buffers that stay in cache, and back.

#![allow(unsafe_code)] // reads and writes through the pointers of arrays

use crate::array::layout::Layout;
use crate::array::storage::{Decoding, Encoding, Storage, match_read, match_written};
use crate::number::element::Element;

/// Largest number of state arrays of a rule.
pub(crate) const MAX_STATE: usize = 3;
/// Number of arrays in an update: parameter, gradient and state, in this order.
pub const ARRAYS: usize = 2 + MAX_STATE;
/// Index of the parameter.
pub const PARAMETER: usize = 0;
/// Index of the gradient.
pub const GRADIENT: usize = 1;
/// Index of the first state array.
pub const STATE: usize = 2;

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

    /// Whether array `k` of a traversal, which lies at this address, is a slice: plain, dense in
    /// the traversal's order, and aligned.
    pub(crate) fn is_slice<const K: usize>(self, layout: &Layout<K>, k: usize) -> bool {
        let size = self.storage.size();
        self.storage.is_plain()
            && layout.is_dense(k, size)
            && self.address.addr().is_multiple_of(size)
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

    /// Reads elements `start..` of the traversal into `buffer`, cast to `E`.
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
            match_written!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
            if !self.storage.is_written() {
                self.read_apart::<E, K>(layout, k, start, buffer);
            }
        }
    }

    /// [`Pointer::read`] of storages that are never written, once for all callers and CPU levels.
    ///
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
        // SAFETY: the caller's promise; `storage` names the type `S` of the elements.
        unsafe {
            match_read!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
        }
    }

    /// As [`Pointer::read`] for a written array whose element type is `E`; half the code is
    /// generated.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read`], and the array's element type is `E`.
    #[inline(always)]
    pub(crate) unsafe fn read_own<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        debug_assert_eq!(self.storage.element(), E::KIND);
        match_written!(self.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
            // SAFETY: the caller's promise.
            unsafe { read::<S, E, K>(self.address, layout, k, start, buffer) }
        });
    }

    /// Writes `buffer` to elements `start..` of the traversal.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read_own`], and nothing else reads or writes them during the call.
    #[inline(always)]
    pub(crate) unsafe fn write<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &[E],
    ) {
        debug_assert_eq!(self.storage.element(), E::KIND);
        let mut values = buffer.iter();
        match_written!(self.storage, S => if <S as Decoding>::Element::KIND == E::KIND {
            layout.runs(k, start, buffer.len(), |offset, stride, count| {
                for (i, value) in values.by_ref().take(count).enumerate() {
                    // SAFETY: the traversal lies in the array; the caller's promise.
                    unsafe {
                        let to = self.address.offset(offset + i as isize * stride).cast::<S>();
                        to.write_unaligned(S::encode(cast(*value)));
                    }
                }
            });
        });
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
    let mut rest = buffer;
    let len = rest.len();
    layout.runs(k, start, len, |offset, stride, count| {
        let (places, next) = std::mem::take(&mut rest).split_at_mut(count);
        rest = next;
        let copy = |places: &mut [E], stride: isize| {
            for (i, place) in places.iter_mut().enumerate() {
                // SAFETY: the traversal lies in the array; the caller's promise.
                let value = unsafe {
                    address.offset(offset + i as isize * stride).cast::<S>().read_unaligned()
                };
                *place = cast(value.decode());
            }
        };
        // A separate copy of the loop with the constant stride lets the compiler vectorise the
        // dense case.
        match stride == size_of::<S>() as isize {
            true => copy(places, size_of::<S>() as isize),
            false => copy(places, stride),
        }
    });
}
