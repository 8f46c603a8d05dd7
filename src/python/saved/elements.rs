//! The bytes of the elements of an array, as source and destination of a file.

#![allow(unsafe_code)] // reads and writes the memory of arrays

use thalweg::array::layout::{Layout, Order};
use thalweg::checkpoint::Source;

use crate::array::memory::Memory;

/// Size of the buffer for arrays that are not in C order.
const STAGE: usize = 1 << 16;

/// The elements of an array in C order, for any strides.
#[derive(Debug)]
pub struct Elements {
    address: *mut u8,
    layout: Layout<1>,
    len: usize,
    size: usize,
}

// SAFETY: plain bytes of an array that the maker of this value keeps alive. The caller of a load or
// save guarantees that no other code resizes or writes the array meanwhile.
unsafe impl Send for Elements {}
// SAFETY: as above.
unsafe impl Sync for Elements {}

impl Elements {
    /// The elements of an array with items of `size` bytes.
    ///
    /// # Safety
    ///
    /// The array lives, and keeps its memory, at least as long as this value.
    pub unsafe fn new(memory: &Memory<'_>, size: usize) -> Self {
        let layout = Layout::new(memory.shape, [memory.strides], Order::Logical);
        Elements { address: memory.address, layout, len: memory.len(), size }
    }

    fn is_dense(&self) -> bool {
        self.layout.is_dense(0, self.size)
    }

    /// The bytes of the elements, for writing, if the array has no gaps.
    #[allow(clippy::mut_from_ref)] // the bytes belong to the array, not to `self`
    pub fn dense(&self) -> Option<&mut [u8]> {
        // SAFETY: `new` requires that the array lives, and one transfer at a time reads into an
        // array.
        self.is_dense()
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.address, self.len * self.size) })
    }

    /// Calls `copy(address, at, bytes)` for each run of elements without gaps in a range of bytes.
    ///
    /// The range begins and ends with an element; `at` is the position of the run in the range.
    fn gapless(&self, start: usize, len: usize, mut copy: impl FnMut(*mut u8, usize, usize)) {
        let (size, mut at) = (self.size, 0);
        self.layout.runs(0, start / size, len / size, |offset, stride, count| {
            let address = self.address.wrapping_offset(offset);
            if stride == size as isize {
                copy(address, at, count * size);
            } else {
                for i in 0..count {
                    copy(address.wrapping_offset(i as isize * stride), at + i * size, size);
                }
            }
            at += count * size;
        });
    }

    /// Copies bytes to the elements from byte `start` on.
    pub fn fill(&self, start: usize, bytes: &[u8]) {
        self.gapless(start, bytes.len(), |to, at, len| {
            // SAFETY: the runs lie inside the array, and together they have the length of `bytes`.
            unsafe { bytes.as_ptr().add(at).copy_to_nonoverlapping(to, len) };
        });
    }

    /// Copies the elements from byte `start` on to a buffer.
    fn gather(&self, start: usize, buffer: &mut [u8]) {
        self.gapless(start, buffer.len(), |from, at, len| {
            // SAFETY: as in `fill`.
            unsafe { from.copy_to_nonoverlapping(buffer.as_mut_ptr().add(at), len) };
        });
    }
}

impl Source for Elements {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        let len = self.len * self.size;
        if len == 0 {
            return Ok(());
        }
        if self.is_dense() {
            // SAFETY: the elements have no gaps, and `new` requires that the array lives.
            return sink(unsafe { std::slice::from_raw_parts(self.address, len) });
        }
        let mut buffer = vec![0; STAGE.min(len)];
        for start in (0..len).step_by(STAGE) {
            let buffer = &mut buffer[..STAGE.min(len - start)];
            self.gather(start, buffer);
            sink(buffer)?;
        }
        Ok(())
    }
}
