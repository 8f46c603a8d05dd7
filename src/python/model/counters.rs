//! What an optimizer counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of steps taken, of steps skipped, of steps skipped since the last one taken, and the
/// sum of the scales of steps taken.
pub type Counts = (u64, u64, u64, f64);

/// Outside the gate, so that other threads can watch the progress.
#[derive(Debug, Default)]
pub struct Counters {
    pub steps: AtomicU64,
    skips: AtomicU64,
    consecutive_skips: AtomicU64,
    /// As bits.
    weight: AtomicU64,
}

impl Counters {
    /// Counts a step that was taken.
    pub fn take(&self, number: u64, scale: f64) {
        self.steps.store(number, Ordering::Relaxed);
        self.consecutive_skips.store(0, Ordering::Relaxed);
        let weight = f64::from_bits(self.weight.load(Ordering::Relaxed)) + scale;
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// Counts a step that was skipped.
    pub fn skip(&self) {
        self.skips.fetch_add(1, Ordering::Relaxed);
        self.consecutive_skips.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> Counts {
        let counters = [&self.steps, &self.skips, &self.consecutive_skips, &self.weight];
        let [steps, skips, consecutive_skips, weight] = counters.map(|n| n.load(Ordering::Relaxed));
        (steps, skips, consecutive_skips, f64::from_bits(weight))
    }

    pub fn set(&self, (steps, skips, consecutive_skips, weight): Counts) {
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
        self.steps.store(steps, Ordering::Relaxed);
        self.skips.store(skips, Ordering::Relaxed);
        self.consecutive_skips.store(consecutive_skips, Ordering::Relaxed);
    }
}
