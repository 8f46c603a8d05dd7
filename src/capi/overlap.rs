//! Arrays of different tensors that share bytes.

use thalweg::array::region::Region;

use crate::checked::{Checked, NAMES};
use crate::refusal::Refusal;

/// Refuses arrays of different tensors that share bytes; `regions` is room for them.
pub fn check_overlaps(
    tensors: &[Checked<'_>],
    regions: &mut Vec<(Region, usize, usize)>,
) -> Result<(), Refusal> {
    if tensors.len() < 2 {
        return Ok(());
    }
    regions.clear();
    for (position, tensor) in tensors.iter().enumerate() {
        let found = tensor.regions().filter(|(_, region)| region.start < region.end);
        regions.extend(found.map(|(at, region)| (region, position, at)));
    }
    regions.sort_unstable_by_key(|(region, ..)| region.start);
    let mut reach = 0;
    for (later, (region, tensor, at)) in regions.iter().enumerate() {
        if region.start < reach {
            let before = regions[..later].iter();
            let found = before.rev().find(|(other, ..)| region.conflicts(other));
            if let Some((_, other, theirs)) = found {
                let what = |position: usize| tensors[position].given.what(position);
                let text = format!(
                    "{} of {} overlaps {} of {}",
                    NAMES[*at],
                    what(*tensor),
                    NAMES[*theirs],
                    what(*other)
                );
                return Err(Refusal::invalid(text));
            }
        }
        reach = reach.max(region.end);
    }
    Ok(())
}
