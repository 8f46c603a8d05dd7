//! Pages of mapped files: released behind a pass, so that memory use stays bounded.
//!
//! Otherwise the operating system keeps every page mapped until memory is short, and then has to
//! search for pages to reclaim. Measured with AdamW on arrays of four times the process's memory
//! limit, in seconds per step: 3.0 to 4.4 without release, 2.1 to 2.8 with it; sequential reading
//! and writing of the same bytes takes 1.5 to 2.0. Requesting pages in advance (`MADV_WILLNEED`,
//! `MADV_SEQUENTIAL`) was slower, 3.3 and more.

#![allow(unsafe_code)] // passes addresses to the operating system

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
#[derive(Clone, Debug, Default)]
pub struct Release {
    spans: Vec<(usize, Span)>,
}

impl Release {
    /// Removes all arrays.
    pub fn clear(&mut self) {
        self.spans.clear();
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
        self.spans.push((index, span));
    }

    /// The number of threads to cut work for. At least two if pages are released: for one thread
    /// all work is a single portion, and pages would be released only at its end.
    pub(crate) fn threads(&self, threads: usize) -> usize {
        if self.spans.is_empty() { threads } else { threads.max(2) }
    }

    /// Releases the pages of a piece that the pass has just finished; its array has `positions`
    /// positions.
    pub(crate) fn after(&self, piece: Piece, positions: usize) {
        let first = self.spans.partition_point(|(index, _)| *index < piece.index);
        let end = piece.start + piece.len;
        for (_, span) in self.spans[first..].iter().take_while(|(i, _)| *i == piece.index) {
            let (low, high) = span.extent;
            match span.stride {
                Some(stride) => release(low + piece.start * stride, high.min(low + end * stride)),
                None if end == positions => release(low, high),
                None => {}
            }
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
