//! A region: work that several threads share, number by number.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Upper bound on numbers in a region: with those that threads try to take after the last one, they
/// fit into half of a word.
pub(super) const COUNT_MAX: usize = 1 << 31;

/// Numbers below a count, and a function to call once for each. The caller takes the lowest number
/// that is left, a helper the highest.
pub(super) struct Region<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    count: usize,
    /// How many numbers were taken from the low end, and 2³² times how many from the high end.
    taken: AtomicU64,
    /// The number of helpers that may still join.
    seats: AtomicUsize,
}

impl<'a> Region<'a> {
    /// # Panics
    ///
    /// If `count` is more than [`COUNT_MAX`].
    pub(super) fn new(work: &'a (dyn Fn(usize) + Sync), count: usize, helpers: usize) -> Self {
        assert!(count <= COUNT_MAX, "{count} pieces of work are too many to count");
        Region { work, count, taken: AtomicU64::new(0), seats: AtomicUsize::new(helpers) }
    }

    /// Does the caller's share of the work.
    pub(super) fn take_lowest(&self) {
        while let Some((low, _)) = self.take(1) {
            (self.work)(low);
        }
    }

    /// Does a helper's share of the work, if a seat is free.
    pub(super) fn help(&self) {
        let take = |seats: usize| seats.checked_sub(1);
        if self.seats.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            while let Some((_, high)) = self.take(1 << 32) {
                (self.work)(self.count - 1 - high);
            }
        }
    }

    /// Leaves no number to take.
    pub(super) fn end(&self) {
        self.taken.store(self.count as u64, Ordering::Relaxed);
    }

    /// Takes `one` number from either end; how many were taken before from the low and the high
    /// end. `None` if none is left.
    fn take(&self, one: u64) -> Option<(usize, usize)> {
        let taken = self.taken.fetch_add(one, Ordering::Relaxed);
        let (low, high) = (taken as u32 as usize, (taken >> 32) as usize);
        (low + high < self.count).then_some((low, high))
    }
}
