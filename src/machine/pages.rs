//! Pages of mapped files: released behind a pass, so that memory use stays bounded.
//!
//! Otherwise the operating system keeps every page mapped until memory is short, and then has to
//! search for pages to reclaim. Measured with AdamW on arrays of four times the process's memory
//! limit, in seconds per step: 3.0 to 4.4 without release, 2.1 to 2.8 with it; sequential reading
//! and writing of the same bytes takes 1.5 to 2.0. Requesting pages in advance (`MADV_WILLNEED`,
//! `MADV_SEQUENTIAL`) was slower, 3.3 and more.

#![allow(unsafe_code)] // passes addresses to the operating system

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::machine::portions::Piece;

/// The memory of an array in shared mappings of files.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The first address, and the address after the last byte.
    pub extent: (usize, usize),
    /// Bytes per element if the pass takes the array from its first address to its last; else
    /// `None`.
    pub stride: Option<usize>,
}

/// The arrays whose pages a pass releases.
#[derive(Debug, Default)]
pub struct Release {
    arrays: Vec<Array>,
}

#[derive(Debug)]
struct Array {
    /// Its position in the pass.
    index: usize,
    span: Span,
    /// Number of its positions that the pass has finished; counted only without a stride.
    done: AtomicUsize,
}

impl Array {
    /// The addresses whose pages the pass no longer needs once a piece is finished. Threads finish
    /// pieces in any order.
    fn behind(&self, piece: Piece, positions: usize) -> Option<(usize, usize)> {
        let (low, high) = self.span.extent;
        if let Some(stride) = self.span.stride {
            let end = low + (piece.start + piece.len) * stride;
            return Some((low + piece.start * stride, high.min(end)));
        }
        let done = self.done.fetch_add(piece.len, Ordering::Relaxed) + piece.len;
        let is_last = done == positions;
        if is_last {
            // The gradients are read again if their squares overflow.
            self.done.store(0, Ordering::Relaxed);
        }
        is_last.then_some((low, high))
    }
}

impl Release {
    /// Removes all arrays.
    pub fn clear(&mut self) {
        self.arrays.clear();
    }

    /// Adds an array, which belongs to this position of the pass. Call it in the order of
    /// positions.
    ///
    /// # Safety
    ///
    /// During every pass until [`clear`](Release::clear), the extent is memory of one or more
    /// mappings of files, all of them shared: a released page is read from the file again, with
    /// everything written to it.
    pub unsafe fn push(&mut self, index: usize, span: Span) {
        self.arrays.push(Array { index, span, done: AtomicUsize::new(0) });
    }

    /// The number of threads to cut work for. At least two if pages are released: for one thread
    /// all work is a single portion, and pages would be released only at its end.
    pub(crate) fn threads(&self, threads: usize) -> usize {
        if self.arrays.is_empty() { threads } else { threads.max(2) }
    }

    /// Releases the pages of a piece that the pass has just finished; its array has `positions`
    /// positions.
    #[inline]
    pub(crate) fn after(&self, piece: Piece, positions: usize) {
        if !self.arrays.is_empty() {
            self.release_behind(piece, positions);
        }
    }

    fn release_behind(&self, piece: Piece, positions: usize) {
        let first = self.arrays.partition_point(|array| array.index < piece.index);
        let arrays = self.arrays[first..].iter().take_while(|array| array.index == piece.index);
        for (low, high) in arrays.filter_map(|array| array.behind(piece, positions)) {
            release(low, high);
        }
    }
}

/// Releases the pages that overlap `low..high`, including the partial ones at both ends.
#[cfg(target_os = "linux")]
fn release(low: usize, high: usize) {
    // SAFETY: only queries a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096);
    if low < high {
        let start = low / page * page;
        let len = high.next_multiple_of(page) - start;
        // SAFETY: the promise of `push`; a mapping of a file consists of whole pages. If the call
        // fails, the pages stay.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
fn release(_low: usize, _high: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_released_piece_by_piece_or_after_its_last_piece() {
        let array = |stride| {
            let span = Span { extent: (1_000, 1_400), stride };
            Array { index: 0, span, done: AtomicUsize::new(0) }
        };
        let (by_piece, whole) = (array(Some(4)), array(None));
        let piece = |start, len| Piece { index: 0, start, len };
        for _pass in 0..2 {
            // From both ends, as threads take them.
            for (taken, last) in
                [(piece(60, 40), false), (piece(0, 30), false), (piece(30, 30), true)]
            {
                let low = 1_000 + 4 * taken.start;
                assert_eq!(by_piece.behind(taken, 100), Some((low, low + 4 * taken.len)));
                assert_eq!(whole.behind(taken, 100), last.then_some((1_000, 1_400)));
            }
        }
    }
}
