//! The bytes of an array, and whether two arrays share any.

/// The bytes of an array of rows.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The lowest address.
    pub start: usize,
    /// Behind the highest address.
    pub end: usize,
    /// Bytes from one row to the next, in the order of addresses.
    stride: usize,
    /// Bytes of a row.
    width: usize,
    /// Whether the array is written.
    pub written: bool,
}

impl Region {
    /// The bytes of `rows` rows of `width` bytes, `stride` bytes apart; `None` if they do not fit
    /// the addresses.
    #[inline]
    pub fn new(
        address: usize,
        (rows, width): (usize, usize),
        stride: isize,
        written: bool,
    ) -> Option<Self> {
        if rows == 0 || width == 0 {
            return Some(Region { start: address, end: address, stride: 0, width: 0, written });
        }
        let stride_up = stride.unsigned_abs();
        let span = (rows - 1).checked_mul(stride_up)?;
        let size = span.checked_add(width).filter(|size| isize::try_from(*size).is_ok())?;
        let start = if stride < 0 { address.checked_sub(span)? } else { address };
        Some(Region { start, end: start.checked_add(size)?, stride: stride_up, width, written })
    }

    /// Whether it shares a byte with another, one of them written. Of arrays with different strides
    /// whose rows lie between each other, it is supposed.
    #[inline]
    pub fn conflicts(&self, other: &Region) -> bool {
        let intervals_meet = self.start.max(other.start) < self.end.min(other.end);
        if !intervals_meet || !(self.written || other.written) {
            return false;
        }
        if self.stride != other.stride || self.stride == 0 {
            return true;
        }
        let (first, second) = if self.start <= other.start { (self, other) } else { (other, self) };
        let offset = (second.start - first.start) % self.stride;
        offset < first.width || offset + second.width > self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::Region;

    #[test]
    fn regions_conflict_where_bytes_are_shared() {
        let region = |address, rows, width, stride: isize, written| {
            Region::new(address, (rows, width), stride, written).unwrap_or_else(|| unreachable!())
        };
        let bytes = |address: usize, rows: usize, width: usize, stride: isize| {
            let row = move |row: usize| address.wrapping_add_signed(row as isize * stride);
            (0..rows).flat_map(move |r| row(r)..row(r) + width).collect::<Vec<_>>()
        };
        let mut conflicts = 0;
        for stride in [-24, -8, 8, 16, 24] {
            for address in (160..260).step_by(4) {
                for (rows, width) in [(1, 8), (2, 8), (3, 4), (3, 16)] {
                    let (one, other) = (bytes(200, 3, 8, 24), bytes(address, rows, width, stride));
                    let shares = one.iter().any(|byte| other.contains(byte));
                    let written = region(200, 3, 8, 24, true);
                    let read = region(address, rows, width, stride, false);
                    conflicts += usize::from(shares);
                    assert!(written.conflicts(&read) || !shares, "{address} {stride}");
                    if stride.unsigned_abs() == 24 && width <= 24 && rows == 3 {
                        assert_eq!(read.conflicts(&written), shares, "{address} {stride} {width}");
                    }
                    assert!(!read.conflicts(&region(200, 3, 8, 24, false)));
                }
            }
        }
        assert!(conflicts > 100);
    }

    #[test]
    fn regions_that_do_not_fit_are_none() {
        assert!(Region::new(8, (usize::MAX, 8), 8, true).is_none());
        assert!(Region::new(usize::MAX - 4, (1, 8), 0, true).is_none());
        assert!(Region::new(8, (3, 8), -8, true).is_none());
        assert!(Region::new(8, (1, usize::MAX / 2 + 1), 0, true).is_none());
        assert!(Region::new(8, (0, 8), 0, true).is_some_and(|empty| empty.start == empty.end));
    }
}
