//! Portions of work: many arrays, laid end to end and cut for threads to take.
//!
//! A portion holds many small arrays or a part of a large one, so the cost of taking portions does
//! not depend on the number of tensors in a model.

use std::iter;

/// Portions per thread: enough that all threads finish at about the same time, even if one starts
/// late.
const PORTIONS: usize = 8;

/// Minimum of elements per portion, unless there are fewer in all. Taking a portion costs some 0.1
/// us.
const SHORTEST: usize = 4_096;

/// Maximum of elements per portion, which keeps a large step balanced. Measured at 64 M elements:
/// portions of 16,384 restart the processor's own prefetcher too often and reach 0.94 of the memory
/// limit instead of 0.97.
const LONGEST: usize = 262_144;

/// Elements per portion when `elements` are shared by `threads`.
pub(crate) fn portion(elements: usize, threads: usize) -> usize {
    match threads {
        1 => elements.max(1),
        _ => (elements / threads.saturating_mul(PORTIONS)).clamp(SHORTEST, LONGEST),
    }
}

/// A range of elements of one array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Index of the array.
    pub(crate) index: usize,
    /// Index of the first element.
    pub(crate) start: usize,
    /// Number of elements, at least 1.
    pub(crate) len: usize,
}

/// Arrays laid end to end and cut into portions of about equal size. The allocation is kept between
/// passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Portions {
    /// For each array, the number of elements in it and in all arrays before it.
    ends: Vec<usize>,
    portion: usize,
    grain: usize,
}

impl Portions {
    /// Cuts arrays of the given lengths for `threads` threads, each array only at multiples of
    /// `grain`.
    pub(crate) fn set(&mut self, lens: impl Iterator<Item = usize>, threads: usize, grain: usize) {
        self.ends.clear();
        self.ends.extend(lens.scan(0, |end, len| {
            *end += len;
            Some(*end)
        }));
        self.grain = grain;
        self.portion = portion(self.total(), threads).max(grain);
    }

    fn total(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The number of portions. Some may be empty.
    pub(crate) fn count(&self) -> usize {
        self.total().div_ceil(self.portion)
    }

    /// The pieces of a portion.
    pub(crate) fn pieces(&self, portion: usize) -> impl Iterator<Item = Piece> {
        let (mut index, mut start) = self.border(portion * self.portion);
        let last = self.border((portion + 1) * self.portion);
        iter::from_fn(move || {
            while (index, start) < last {
                let len = if index < last.0 { self.len(index) } else { last.1 } - start;
                let piece = Piece { index, start, len };
                (index, start) = if index < last.0 { (index + 1, 0) } else { last };
                if len > 0 {
                    return Some(piece);
                }
            }
            None
        })
    }

    fn len(&self, index: usize) -> usize {
        self.ends[index] - self.begin(index)
    }

    fn begin(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }

    /// The array and element at which a portion starts: element number `at` of all, rounded down to
    /// the grain of its array.
    fn border(&self, at: usize) -> (usize, usize) {
        let index = self.ends.partition_point(|end| *end <= at);
        match self.ends.get(index) {
            None => (index, 0),
            Some(_) => (index, (at - self.begin(index)) / self.grain * self.grain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The portions hold every element once, in order, and cut arrays only at multiples of the
    /// grain.
    #[test]
    fn portions_partition_the_arrays() {
        for lens in [
            vec![],
            vec![0],
            vec![1],
            vec![0, 5, 0],
            vec![100_000],
            vec![1; 3_000],
            vec![20_000, 0, 1, 40_000, 7, 65_536],
            (0..500).collect(),
        ] {
            for threads in [1, 2, 7] {
                for grain in [1_024, 16_384] {
                    let mut portions = Portions::default();
                    portions.set(lens.iter().copied(), threads, grain);
                    let mut reached = vec![0; lens.len()];
                    for piece in (0..portions.count()).flat_map(|portion| portions.pieces(portion))
                    {
                        assert_eq!(piece.start, reached[piece.index], "{piece:?} of {lens:?}");
                        assert!(piece.len > 0 && piece.start.is_multiple_of(grain));
                        reached[piece.index] += piece.len;
                    }
                    assert_eq!(reached, lens);
                    assert!(threads > 1 || portions.count() <= 1);
                }
            }
        }
    }
}
