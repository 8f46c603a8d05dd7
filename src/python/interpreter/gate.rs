//! One caller at a time, across forks: what makes a second step on a stepping optimizer an error.

#![allow(unsafe_code)] // exclusive access to a value that is behind a shared reference

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::interpreter::errors::{Outcome, Refusal};
use thalweg::machine::fork::Mark;

/// A value that one caller at a time can enter.
///
/// The mark of being inside is the thread's, because in a forked child it counts only if it is the
/// thread that forked: any other does not exist there.
#[derive(Debug, Default)]
pub struct Gate<T> {
    inside: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through `Entered`, of which there is one at a time.
unsafe impl<T: Send> Sync for Gate<T> {}

impl<T> Gate<T> {
    /// Enters, or refuses at once if somebody is inside.
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

/// Access to the value; leaves when dropped.
pub struct Entered<'g, T> {
    gate: &'g Gate<T>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: made only by `enter`, so this is the only access.
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
