//! Pages of mapped files that a pass is done with: let go of, so that memory stays bounded.
//!
//! Left to itself the kernel keeps every page mapped until memory is short, and then has to search
//! for what it can take. Measured with AdamW on arrays of four times the memory limit of the process,
//! seconds a step: 3.0 to 4.4 left to itself, 2.1 to 2.8 with pages let go of; plain sequential
//! reading and writing of the same bytes takes 1.5 to 2.0. Asking for pages ahead of time
//! (`MADV_WILLNEED`, `MADV_SEQUENTIAL`) made it slower, to 3.3 and more.

#![allow(unsafe_code)] // advises the operating system about memory, by address

use crate::machine::portions::Piece;

/// An array that maps a file, shared.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// First address, and the one after the last.
    pub extent: (usize, usize),
    /// Bytes an element where the pass goes through the array from its first address to its last.
    pub stride: Option<usize>,
}

/// What to let go of behind a pass over arrays.
#[derive(Clone, Debug, Default)]
pub struct Release {
    spans: Vec<(usize, Span)>,
}

impl Release {
    /// Lets go of nothing.
    pub fn clear(&mut self) {
        self.spans.clear();
    }

    /// Lets go of an array that belongs to this position among those of the pass. They come in the
    /// order of positions.
    ///
    /// # Safety
    ///
    /// As long as there are passes, the extent is memory of one or more mappings of files, all
    /// shared: what is let go of there is read from the file again, with all that was written.
    pub unsafe fn push(&mut self, index: usize, span: Span) {
        self.spans.push((index, span));
    }

    /// How many threads to cut for: one alone would have all in one portion.
    pub(crate) fn threads(&self, threads: usize) -> usize {
        if self.spans.is_empty() { threads } else { threads.max(2) }
    }

    /// Lets go of what a pass has just been through, of so many positions.
    pub(crate) fn after(&self, piece: Piece, positions: usize) {
        let first = self.spans.partition_point(|(index, _)| *index < piece.index);
        let end = piece.start + piece.len;
        for (_, span) in self.spans[first..].iter().take_while(|(i, _)| *i == piece.index) {
            let (low, high) = span.extent;
            match span.stride {
                Some(stride) => let_go(low + piece.start * stride, high.min(low + end * stride)),
                None if end == positions => let_go(low, high),
                None => {}
            }
        }
    }
}

/// Whole pages, those at both ends too.
#[cfg(target_os = "linux")]
fn let_go(low: usize, high: usize) {
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096);
    if low < high {
        let start = low / page * page;
        let len = high.next_multiple_of(page) - start;
        // SAFETY: the promise of `push`; a mapping of a file consists of whole pages. A failure leaves
        // the pages where they are.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
fn let_go(_low: usize, _high: usize) {}
