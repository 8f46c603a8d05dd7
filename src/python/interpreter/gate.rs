//! Exclusive access across forks. A second caller, such as a step while a step runs, gets an error.

#![allow(unsafe_code)] // exclusive access to a value through a shared reference

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::interpreter::errors::{Outcome, Refusal};
use thalweg::machine::fork::Mark;

/// A value that one caller at a time can enter.
///
/// `inside` is the mark of the thread inside. In a forked child the mark counts only if that thread
/// made the fork, because no other thread exists there.
#[derive(Debug, Default)]
pub struct Gate<T> {
    inside: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through `Entered`, and `enter` makes one at a time.
unsafe impl<T: Send> Sync for Gate<T> {}

impl<T> Gate<T> {
    /// Enters, or refuses at once if a caller is inside.
    pub fn enter(&self) -> Outcome<Entered<'_, T>> {
        let seen = self.inside.load(Ordering::Relaxed);
        if Mark::from_bits(seen).may_be_alive() {
            return Err(Refusal::Busy);
        }
        self.inside
            .compare_exchange(seen, Mark::here().bits(), Ordering::Acquire, Ordering::Relaxed)
            .map(|_| Entered { gate: self })
            .map_err(|_| Refusal::Busy)
    }
}

/// Access to the value, until dropped.
pub struct Entered<'g, T> {
    gate: &'g Gate<T>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `enter` alone makes an `Entered`, one at a time, so this is the only access.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.gate.value.get() }
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        self.gate.inside.store(Mark::NOBODY.bits(), Ordering::Release);
    }
}
