//! Numbers of updates of the rows of a parameter.

#![allow(unsafe_code)] // reads and writes a checked array by address

use pyo3::prelude::*;
use thalweg::array::layout::Rows;

use crate::array::checks::Checked;
use crate::interpreter::errors::{Outcome, Refusal};

/// Positions among rows; `None` for all.
type Positions = Option<Vec<usize>>;

/// The numbers of updates of some rows of a parameter.
#[derive(Debug)]
pub struct RowCounts {
    address: *mut u8,
    /// Bytes from the number of one row to that of the next.
    stride: isize,
    rows: Rows,
    len: usize,
}

// SAFETY: plain numbers, which only the step that binds them writes.
unsafe impl Send for RowCounts {}

impl RowCounts {
    /// The numbers of `len` rows in an array with one for each row of the parameter, if it is
    /// unchanged since the last check.
    ///
    /// # Safety
    ///
    /// The parameter has these rows. While this is in use, the array lives, and nothing else resizes
    /// or writes it.
    pub unsafe fn of(
        py: Python<'_>,
        array: &Checked,
        (rows, len): (Rows, usize),
        what: impl Fn() -> String,
    ) -> Outcome<Self> {
        let address = array.recheck(py, "", what)?.address;
        Ok(RowCounts { address, stride: array.strides[0], rows, len })
    }

    /// The row at a position, and the address of its number.
    fn at(&self, position: usize) -> (usize, *mut i64) {
        let row = self.rows.as_ref().map_or(position, |rows| rows[position]);
        (row, self.address.wrapping_offset(row as isize * self.stride).cast())
    }

    /// The positions of rows with the same number, by that number. Without rows there is one group,
    /// of the number `none`.
    pub fn groups(&self, none: u64, what: impl Fn() -> String) -> Outcome<Vec<(u64, Positions)>> {
        let mut counts = Vec::with_capacity(self.len);
        for position in 0..self.len {
            let (row, address) = self.at(position);
            // SAFETY: the promise of `of`.
            let count = unsafe { address.read_unaligned() };
            let count = u64::try_from(count).map_err(|_| {
                Refusal::Value(format!(
                    "{} must be at least 0, got {count} in row {row}; set it to 0",
                    what()
                ))
            })?;
            counts.push((count, position));
        }
        counts.sort_unstable();
        let ends = counts.first().zip(counts.last());
        let (first, last) = ends.map_or((none, none), |(first, last)| (first.0, last.0));
        if first == last {
            return Ok(vec![(first, None)]);
        }
        let chunks = counts.chunk_by(|(one, _), (other, _)| one == other);
        let positions = |chunk: &[(u64, usize)]| chunk.iter().map(|(_, at)| *at).collect();
        Ok(chunks.map(|chunk| (chunk[0].0, Some(positions(chunk)))).collect())
    }

    /// Adds 1 to each number.
    pub fn count(&self) {
        for position in 0..self.len {
            let (_, address) = self.at(position);
            // SAFETY: the promise of `of`.
            unsafe { address.write_unaligned(address.read_unaligned().wrapping_add(1)) };
        }
    }
}
