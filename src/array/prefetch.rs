//! Memory asked for before it is needed.

#![allow(unsafe_code)] // an instruction without a safe name

/// Bytes ahead of what is being worked on. At 64 M elements 1,024 to 3,072 reach 0.96 to 0.98 of the
/// memory limit, none 0.73, 4,096 0.8; asking for several lines at once is worse.
const AHEAD: usize = 1_536;

/// Bytes a cache line.
const LINE: usize = 64;

/// Asks for as many bytes as `chunk` has, some way after it. It may lie outside of any array: the
/// processor then does nothing.
#[inline(always)]
pub(crate) fn after<T>(chunk: &T) {
    at(std::ptr::from_ref(chunk).wrapping_byte_add(AHEAD));
}

/// Asks for the bytes of a `T`, whatever the address.
#[inline(always)]
pub(crate) fn at<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which changes no value and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_byte_add(offset).cast()) }
    }
    // Elsewhere it takes instructions that are not stable yet, or none exist.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, LINE);
}
