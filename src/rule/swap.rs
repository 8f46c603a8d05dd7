//! Exchange of two arrays.

use super::Rule;
use crate::number::element::Element;

/// `p <-> s`: the parameter and its one number of state change places, every bit kept.
#[derive(Clone, Copy, Debug)]
pub struct Swap;

impl<E: Element> Rule<E, 1> for Swap {
    #[inline(always)]
    fn update(&self, p: E, _g: E, [s]: [E; 1]) -> (E, [E; 1]) {
        (s, [p])
    }
}
