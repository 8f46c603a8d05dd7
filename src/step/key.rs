//! What the coefficients of a tensor depend on.

use crate::number::element::Kind;
use crate::rule::{HISTORY, Numbers};

/// Everything that the coefficients of a tensor depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpdateKey {
    /// Position of its numbers.
    pub class: usize,
    /// Number of its update, from 1.
    pub step: u64,
    /// The type in which the rule computes.
    pub kind: Kind,
    /// Position of the tensor, if each tensor has coefficients of its own: it is clipped by its own
    /// norm, or measured.
    pub tensor: Option<usize>,
    /// The bits of the history; zeros if the rule keeps none.
    pub history: [u64; HISTORY],
}

impl UpdateKey {
    /// The numbers of the tensor's class, with its history.
    pub(super) fn numbers(&self, numbers: &[Numbers]) -> Numbers {
        let mut numbers = numbers[self.class];
        if let Some(history) = numbers.history() {
            *history = self.history.map(f64::from_bits);
        }
        numbers
    }
}
