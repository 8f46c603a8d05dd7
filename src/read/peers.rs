//! Other processes that have the rest of the same tensors.
//!
//! Each process has some whole blocks of a tensor, in the order of the processes. The sum of a tensor
//! is that of its blocks in order, so its bits do not depend on the number of processes.

use crate::error::Error;
use crate::number::sums::{Blocks, Found};

/// The processes that take a step together.
pub trait Peers: Sync {
    /// The numbers of every process, in their order, given those of this one.
    ///
    /// # Errors
    ///
    /// [`Error::Peers`] if a process cannot take the step; then none of them can.
    fn gather(&self, mine: &[f64]) -> Result<Vec<Vec<f64>>, Error>;
}

/// Sums of whole numbers over all processes.
pub(crate) fn totals(peers: &dyn Peers, mine: &[f64]) -> Result<Vec<f64>, Error> {
    let mut totals = vec![0.0; mine.len()];
    for numbers in peers.gather(mine)? {
        if numbers.len() != totals.len() {
            return Err(Error::Peers);
        }
        totals.iter_mut().zip(numbers).for_each(|(total, number)| *total += number);
    }
    Ok(totals)
}

/// The blocks of whole tensors, given those that are here.
pub(crate) fn whole<const N: usize>(
    peers: &dyn Peers,
    here: &Blocks<N>,
) -> Result<Blocks<N>, Error> {
    let mut mine = Vec::new();
    for index in 0..here.len() {
        let blocks = here.of(index);
        mine.push(blocks.len() as f64);
        mine.extend(blocks.iter().flat_map(Found::get));
    }
    let all = peers.gather(&mine)?;
    let mut rest: Vec<&[f64]> = all.iter().map(Vec::as_slice).collect();
    let mut tensors = Vec::with_capacity(here.len());
    for _ in 0..here.len() {
        let mut tensor = Vec::new();
        for numbers in &mut rest {
            let (count, after) = numbers.split_first().ok_or(Error::Peers)?;
            let blocks = after.get(..N * *count as usize).ok_or(Error::Peers)?;
            *numbers = &after[blocks.len()..];
            tensor.extend_from_slice(blocks.as_chunks().0);
        }
        tensors.push(tensor);
    }
    Ok(Blocks::from(tensors))
}
