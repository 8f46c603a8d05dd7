//! What a rule keeps of the earlier steps of a parameter: an array of float64 beside its state.

#![allow(unsafe_code)] // numbers of a checked array, by address

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rule::{HISTORY, History};

/// The numbers of such an array, as bits.
#[derive(Clone, Copy, Debug)]
pub struct Kept(&'static [AtomicU64; HISTORY]);

impl Kept {
    /// The history at an address.
    ///
    /// # Safety
    ///
    /// The numbers are aligned to 8 bytes, and live, until the last use of the result.
    pub unsafe fn at(numbers: *mut [f64; HISTORY]) -> Self {
        // SAFETY: the caller's promise; an atomic integer has the size and alignment of a float64.
        Kept(unsafe { &*numbers.cast() })
    }

    /// Their bits.
    pub fn bits(&self) -> [u64; HISTORY] {
        self.0.each_ref().map(|number| number.load(Ordering::Relaxed))
    }

    /// The numbers.
    pub fn get(&self) -> History {
        self.bits().map(f64::from_bits)
    }

    /// Overwrites the numbers.
    pub fn set(&self, history: History) {
        for (place, number) in self.0.iter().zip(history) {
            place.store(number.to_bits(), Ordering::Relaxed);
        }
    }
}
