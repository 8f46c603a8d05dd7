//! Where the elements of arrays lie, and whether any share bytes.

/// The places of an array's elements.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    /// Address of the element at index zero.
    pub address: usize,
    /// Number of elements along each axis.
    pub shape: &'a [usize],
    /// Bytes from one element to the next along each axis.
    pub strides: &'a [isize],
    /// Bytes of an element.
    pub size: usize,
}

impl Elements<'_> {
    /// Number of elements.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// First address, and the address after the last; equal for an empty array.
    pub fn extent(&self) -> (usize, usize) {
        let start = self.address;
        if self.len() == 0 {
            return (start, start);
        }
        let reach = |positive: bool| -> isize {
            let axes = self.shape.iter().zip(self.strides);
            axes.filter(|(_, s)| (**s > 0) == positive).map(|(n, s)| (*n as isize - 1) * s).sum()
        };
        let low = start.wrapping_add_signed(reach(false));
        (low, start.wrapping_add_signed(reach(true)) + self.size)
    }

    /// Whether two arrays have a byte in common, decided exactly from addresses and strides.
    ///
    /// Bytes of `self` are counted upwards from its lowest address, `start`, and bytes of `other`
    /// downwards from its highest, `other_end - 1`. The arrays share a byte if and only if the
    /// distance between the two addresses is a sum of `index·stride` over the axes of both arrays,
    /// plus the offsets of a byte within each element. Layouts that take more than a million tries
    /// count as overlapping.
    pub fn meets(&self, other: &Elements<'_>) -> bool {
        let ((start, end), (_, other_end)) = (self.extent(), other.extent());
        if self.len() == 0 || other.len() == 0 || start >= other_end {
            return false;
        }
        debug_assert!(start < end);
        let axes = self.axes().chain(other.axes()).filter(|(_, stride)| *stride > 0);
        let furthest = (other_end - 1 - start) as i128;
        let slack = (self.size + other.size - 2) as i128;
        let strides =
            Strides::new(axes.map(|(n, stride)| (stride as i128, n as i128 - 1)).collect());
        strides.reach(furthest - slack, furthest)
    }

    /// Lengths of the axes longer than one, with the magnitudes of their strides.
    fn axes(&self) -> impl Iterator<Item = (usize, usize)> {
        let axes = self.shape.iter().zip(self.strides);
        axes.filter(|(n, _)| **n > 1).map(|(n, stride)| (*n, stride.unsigned_abs()))
    }

    /// Whether two elements of the array share memory.
    pub fn overlaps_itself(&self) -> bool {
        if self.len() < 2 {
            return false;
        }
        let (start, end) = self.extent();
        if self.len().checked_mul(self.size).is_none_or(|bytes| bytes > end - start) {
            return true;
        }
        let mut axes: Vec<(usize, usize)> = self.axes().map(|(n, stride)| (stride, n)).collect();
        axes.sort_unstable();
        let mut reach = self.size;
        let nested = axes.iter().all(|(stride, n)| {
            let fits = *stride >= reach;
            reach += stride * (n - 1);
            fits
        });
        // Elements of interleaved axes may still be apart; only the addresses of all elements
        // decide.
        !nested && {
            let mut offsets = vec![0_usize];
            for (stride, n) in axes {
                offsets =
                    (0..n).flat_map(|i| offsets.iter().map(move |at| at + i * stride)).collect();
            }
            offsets.sort_unstable();
            offsets.windows(2).any(|pair| pair[1] - pair[0] < self.size)
        }
    }
}

/// Strides, largest first; a sum takes each of them from 0 up to `most` times.
struct Strides(Vec<Stride>);

struct Stride {
    stride: i128,
    most: i128,
    /// The largest sum of this stride and the smaller ones.
    reach: i128,
    /// The greatest common divisor of this stride and the smaller ones.
    divisor: i128,
}

impl Strides {
    fn new(mut given: Vec<(i128, i128)>) -> Self {
        given.sort_unstable();
        let mut strides: Vec<Stride> = Vec::with_capacity(given.len());
        for (stride, most) in given {
            let (reach, divisor) = strides.last().map_or((0, 0), |last| (last.reach, last.divisor));
            let (reach, divisor) = (reach + stride * most, gcd(divisor, stride));
            match strides.last_mut() {
                Some(last) if last.stride == stride => {
                    (last.most, last.reach) = (last.most + most, reach);
                }
                _ => strides.push(Stride { stride, most, reach, divisor }),
            }
        }
        strides.reverse();
        Strides(strides)
    }

    /// Whether some sum of strides is in `low..=high`.
    fn reach(&self, low: i128, high: i128) -> bool {
        reach(&self.0, low, high, &mut 1_000_000)
    }
}

fn reach(strides: &[Stride], low: i128, high: i128, tries: &mut u32) -> bool {
    let Some((first, smaller)) = strides.split_first() else { return low <= 0 && 0 <= high };
    let (low, high) = (low.max(0), high.min(first.reach));
    if high.div_euclid(first.divisor) * first.divisor < low {
        return false;
    }
    // With one stride left, the test above is exact. Without tries left, the answer is the safe
    // one.
    if smaller.is_empty() || *tries == 0 {
        return true;
    }
    *tries -= 1;
    let least = (low - smaller[0].reach + first.stride - 1).max(0) / first.stride;
    let most = first.most.min(high / first.stride);
    (least..=most).any(|n| {
        let taken = n * first.stride;
        reach(smaller, low - taken, high - taken, tries)
    })
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::Elements;

    /// Every pair is compared byte by byte.
    #[test]
    fn arrays_meet_where_a_byte_is_shared() {
        let bytes = |elements: &Elements<'_>| -> Vec<usize> {
            let [rows, columns] = [elements.shape[0], elements.shape[1]];
            let place = |row: usize, column: usize| {
                let offset =
                    row as isize * elements.strides[0] + column as isize * elements.strides[1];
                elements.address.wrapping_add_signed(offset)
            };
            let places =
                (0..rows).flat_map(|row| (0..columns).map(move |column| place(row, column)));
            places.flat_map(|place| place..place + elements.size).collect()
        };
        let of = |address, shape: &'static [usize], strides: &'static [isize], size| Elements {
            address,
            shape,
            strides,
            size,
        };
        let (mut shares, mut tries) = (0, 0);
        for one in [of(500, &[3, 2], &[24, 8], 4), of(500, &[4, 1], &[-20, 4], 12)] {
            assert!(!one.overlaps_itself());
            for shape in [&[1, 1][..], &[3, 1], &[2, 3], &[0, 3]] {
                for strides in [&[24, 4][..], &[-24, 8], &[10, 2], &[7, -3], &[0, 4]] {
                    for (size, address) in (400..600).map(|address| (1 + address % 8, address)) {
                        let other = of(address, shape, strides, size);
                        let here = bytes(&one);
                        let expected = bytes(&other).iter().any(|byte| here.contains(byte));
                        assert_eq!(one.meets(&other), expected, "{one:?} {other:?}");
                        assert_eq!(other.meets(&one), expected, "{other:?} {one:?}");
                        (shares, tries) = (shares + usize::from(expected), tries + 1);
                    }
                }
            }
        }
        assert!(shares > 1_000 && tries - shares > 1_000);
    }
}
