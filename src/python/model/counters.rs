//! The counters of an optimizer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of steps taken, of steps skipped, and of steps skipped since the last one taken; sum of
/// the scales of the steps taken.
pub type Counts = (u64, u64, u64, f64);

/// The counters, outside the gate, so that other threads can read them during a step.
#[derive(Debug, Default)]
pub struct Counters {
    pub steps: AtomicU64,
    skips: AtomicU64,
    consecutive_skips: AtomicU64,
    /// The bits of an `f64`.
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
