//! Numbers of updates of the rows of a parameter.

#![allow(unsafe_code)] // reads and writes a checked array by address

use crate::array::layout::Rows;

/// Positions among rows; `None` for all.
pub type Positions = Option<Vec<usize>>;

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
    /// The numbers of `len` rows, in an array at this address that has one for each row of the
    /// parameter, `stride` bytes apart.
    ///
    /// # Safety
    ///
    /// The parameter has these rows. While this is in use, the array lives, and nothing else resizes
    /// or writes it.
    pub unsafe fn new(address: *mut u8, stride: isize, rows: Rows, len: usize) -> Self {
        RowCounts { address, stride, rows, len }
    }

    /// The row at a position, and the address of its number.
    fn at(&self, position: usize) -> (usize, *mut i64) {
        let row = self.rows.as_ref().map_or(position, |rows| rows[position]);
        (row, self.address.wrapping_offset(row as isize * self.stride).cast())
    }

    /// The positions of rows with the same number, by that number. Without rows there is one group,
    /// of the number `none`.
    ///
    /// # Errors
    ///
    /// A number below 0, and its row.
    pub fn groups(&self, none: u64) -> Result<Vec<(u64, Positions)>, (i64, usize)> {
        let mut counts = Vec::with_capacity(self.len);
        for position in 0..self.len {
            let (row, address) = self.at(position);
            // SAFETY: the promise of `new`.
            let count = unsafe { address.read_unaligned() };
            let count = u64::try_from(count).map_err(|_| (count, row))?;
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
            // SAFETY: the promise of `new`.
            unsafe { address.write_unaligned(address.read_unaligned().wrapping_add(1)) };
        }
    }
}
