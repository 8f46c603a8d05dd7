//! Many arrays as one row of elements, cut into portions for threads to take.
//!
//! A portion may hold many small arrays or a part of a large one, so the cost of taking one is the
//! same for a model of one tensor and of a thousand.

use std::iter;

/// Portions per thread, so that all end at about the same time whoever starts late.
const PORTIONS: usize = 8;

/// Fewest elements per portion, if there are so many: taking one costs some 0.1 us.
const SHORTEST: usize = 4_096;

/// Most elements per portion, which keeps a large step balanced. Measured at 64 M elements: with 16,384 the
/// processor's own prefetcher starts anew too often, 0.94 of the memory limit instead of 0.97.
const LONGEST: usize = 262_144;

/// Elements per portion when `elements` are shared by `threads`.
pub(crate) fn portion(elements: usize, threads: usize) -> usize {
    match threads {
        1 => elements.max(1),
        _ => (elements / threads.saturating_mul(PORTIONS)).clamp(SHORTEST, LONGEST),
    }
}

/// Elements of one array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Which array.
    pub(crate) index: usize,
    /// The first element.
    pub(crate) start: usize,
    /// How many, at least 1.
    pub(crate) len: usize,
}

/// Arrays laid end to end and cut into portions of about equal size; keeps its room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Portions {
    /// For each array, the number of elements in it and all before it.
    ends: Vec<usize>,
    portion: usize,
    grain: usize,
}

impl Portions {
    /// Cuts arrays of these lengths for so many threads, each at multiples of `grain` only.
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

    /// How many portions there are. Some may be empty.
    pub(crate) fn count(&self) -> usize {
        self.total().div_ceil(self.portion)
    }

    /// What is in a portion.
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

    /// The array and element where a portion begins that should begin at element `at` of all.
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

    /// The portions hold every element once, in order, and are cut at multiples of the grain.
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
