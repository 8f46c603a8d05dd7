//! Where arrays lie: slices of those without gaps, and elements of any stride and storage, copied to
//! buffers that stay in cache and back.

#![allow(unsafe_code)] // reads and writes through the pointers of arrays

use crate::array::layout::Layout;
use crate::array::storage::{Encoding, Storage, match_encoding};
use crate::number::element::Element;

/// The most state arrays a rule keeps.
pub(crate) const MAX_STATE: usize = 3;
/// Parameter, gradient and state: the arrays of an update, in this order.
pub const ARRAYS: usize = 2 + MAX_STATE;
/// Index of the parameter among them.
pub const PARAMETER: usize = 0;
/// Index of the gradient.
pub const GRADIENT: usize = 1;
/// Index of the first state array.
pub const STATE: usize = 2;

/// Elements a buffer holds: those of a whole AdamW update fit a first-level cache.
pub(crate) const BUFFER: usize = 1024;

/// Where an array's first element is, and what type its elements have.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    /// Address of the element at index zero; it need not be aligned.
    pub address: *mut u8,
    /// What the bytes of the elements mean.
    pub storage: Storage,
}

impl Pointer {
    /// To elements of type `E`.
    pub fn of<E: Element>(address: *mut E) -> Self {
        Pointer { address: address.cast(), storage: E::KIND.into() }
    }

    /// Whether array `k` of a traversal, which lies here, is a slice of elements: stored as themselves,
    /// without gaps in its order, and aligned.
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
    /// They lie without gaps and aligned in memory that is valid and not written for `'a`, and `E`
    /// is the array's type.
    pub(crate) unsafe fn slice<'a, E: Element>(self, start: usize, len: usize) -> &'a [E] {
        debug_assert_eq!(self.storage, E::KIND.into());
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address.cast::<E>().add(start), len) }
    }

    /// Elements `start..start + len` of a dense array, to be written.
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
    /// Array `k` of `layout` lies at this pointer in memory that is valid and not written meanwhile,
    /// and `start + buffer.len()` elements are in the traversal.
    #[inline(always)]
    pub(crate) unsafe fn read<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        // SAFETY: the caller's promise; `storage` says which type the elements have.
        unsafe {
            match_encoding!(self.storage, S => read::<S, E, K>(self.address, layout, k, start, buffer));
        }
    }

    /// The same for an array whose element is `E`, which takes half the code.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read`], and `E` is the array's element.
    #[inline(always)]
    pub(crate) unsafe fn read_own<E: Element, const K: usize>(
        self,
        layout: &Layout<K>,
        k: usize,
        start: usize,
        buffer: &mut [E],
    ) {
        debug_assert_eq!(self.storage.element(), E::KIND);
        match_encoding!(self.storage, S => if <S as Encoding>::Element::KIND == E::KIND {
            // SAFETY: the caller's promise.
            unsafe { read::<S, E, K>(self.address, layout, k, start, buffer) }
        });
    }

    /// Writes `buffer` to elements `start..` of the traversal.
    ///
    /// # Safety
    ///
    /// As [`Pointer::read_own`], and nothing else reads or writes them meanwhile.
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
        match_encoding!(self.storage, S => if <S as Encoding>::Element::KIND == E::KIND {
            layout.runs(k, start, buffer.len(), |offset, stride, count| {
                for (i, value) in values.by_ref().take(count).enumerate() {
                    // SAFETY: inside the array, because the traversal is; the caller's promise.
                    unsafe {
                        let to = self.address.offset(offset + i as isize * stride).cast::<S>();
                        to.write_unaligned(S::encode(cast(*value)));
                    }
                }
            });
        });
    }
}

/// An element as one of another type, rounded if it has fewer digits.
#[inline(always)]
pub(crate) fn cast<A: Element, B: Element>(x: A) -> B {
    B::from_f64(x.to_f64())
}

/// # Safety
///
/// As [`Pointer::read`], with elements of type `S`.
#[inline(always)]
unsafe fn read<S: Encoding, E: Element, const K: usize>(
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
                // SAFETY: inside the array, because the traversal is; the caller's promise.
                let value = unsafe {
                    address.offset(offset + i as isize * stride).cast::<S>().read_unaligned()
                };
                *place = cast(value.decode());
            }
        };
        // The same loop with a stride that the compiler knows is one of vectors.
        match stride == size_of::<S>() as isize {
            true => copy(places, size_of::<S>() as isize),
            false => copy(places, stride),
        }
    });
}
