//! What a rule keeps of the earlier steps of a parameter: an array of float64 beside its state.

#![allow(unsafe_code)] // numbers of a checked array, by address

use std::sync::atomic::{AtomicU64, Ordering};

use thalweg::array::storage::Storage;
use thalweg::rule::{HISTORY, History};

use crate::array::memory::Memory;

/// The numbers of such an array, as bits.
#[derive(Clone, Copy, Debug)]
pub struct Kept(&'static [AtomicU64; HISTORY]);

impl Kept {
    /// The history in a writable array of this storage, if that is its place.
    ///
    /// # Safety
    ///
    /// The array lives, and is not resized, until the last use of the result.
    pub unsafe fn of(memory: &Memory<'_>, storage: Storage) -> Option<Self> {
        let numbers = memory.address.cast::<[AtomicU64; HISTORY]>();
        let fits = storage == Storage::F64
            && *memory.shape == [HISTORY]
            && memory.c_contiguous()
            && numbers.is_aligned();
        // SAFETY: the array has that many numbers of that size, as was just checked; it lives by the
        // caller's promise.
        fits.then(|| Kept(unsafe { &*numbers }))
    }

    pub fn bits(&self) -> [u64; HISTORY] {
        self.0.each_ref().map(|number| number.load(Ordering::Relaxed))
    }

    pub fn get(&self) -> History {
        self.bits().map(f64::from_bits)
    }

    pub fn set(&self, history: History) {
        for (place, number) in self.0.iter().zip(history) {
            place.store(number.to_bits(), Ordering::Relaxed);
        }
    }
}
