//! Arrays of different tensors that share bytes.

use crate::checked::{Checked, NAMES};
use crate::refusal::Refusal;

/// The lowest address of an array, the one behind its highest, and the positions of its tensor and
/// of the array in it.
pub type Span = (usize, usize, usize, usize);

/// Refuses arrays of different tensors that share bytes; `spans` is room for them.
pub fn check_overlaps(tensors: &[Checked<'_>], spans: &mut Vec<Span>) -> Result<(), Refusal> {
    if tensors.len() < 2 {
        return Ok(());
    }
    spans.clear();
    for (position, tensor) in tensors.iter().enumerate() {
        let found = tensor.places.iter().enumerate().filter(|(_, place)| place.start < place.end);
        spans.extend(found.map(|(at, place)| (place.start, place.end, position, at)));
    }
    spans.sort_unstable();
    let mut reach = 0;
    for (later, (start, end, tensor, at)) in spans.iter().enumerate() {
        if *start < reach {
            let conflicts = |(_, _, other, there): &&Span| {
                tensors[*tensor].conflicts(*at, &tensors[*other], *there)
            };
            if let Some((_, _, other, there)) = spans[..later].iter().rev().find(conflicts) {
                let what = |at: usize, tensor: usize| {
                    format!("{} of {}", NAMES[at], tensors[tensor].given.what(tensor))
                };
                let (one, two) = (what(*at, *tensor), what(*there, *other));
                return Err(Refusal::invalid(format!("{one} overlaps {two}")));
            }
        }
        reach = reach.max(*end);
    }
    Ok(())
}
