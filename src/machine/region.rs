//! A region: work that several threads share, number by number.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Work that several threads share.
pub(super) struct Region<'a> {
    pub(super) work: &'a (dyn Fn(usize) + Sync),
    pub(super) count: usize,
    /// How many numbers were taken from the low end, and 2³² times how many from the high end.
    pub(super) taken: AtomicU64,
    /// The number of helpers that may still join.
    pub(super) seats: AtomicUsize,
}

/// The end of a region from which a thread takes numbers.
#[derive(Clone, Copy)]
pub(super) enum End {
    Low,
    High,
}

impl Region<'_> {
    pub(super) fn take_all(&self, end: End) {
        loop {
            let one = match end {
                End::Low => 1,
                End::High => 1 << 32,
            };
            let taken = self.taken.fetch_add(one, Ordering::Relaxed);
            let (low, high) = (taken as u32 as usize, (taken >> 32) as usize);
            if low + high >= self.count {
                return;
            }
            (self.work)(match end {
                End::Low => low,
                End::High => self.count - 1 - high,
            });
        }
    }

    /// Leaves no number to take.
    pub(super) fn end(&self) {
        self.taken.store(self.count as u64, Ordering::Relaxed);
    }

    pub(super) fn has_seat(&self) -> bool {
        let take = |seats: usize| seats.checked_sub(1);
        self.seats.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}
