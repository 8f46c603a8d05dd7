//! Rows that were given for a table: sorted by index, and repeated ones summed.

#![allow(unsafe_code)] // reads the values of rows given by address

use std::sync::Arc;

use crate::array::layout::{Layout, Order};
use crate::array::pointer::Pointer;
use crate::number::element::Element;

/// The rows that some indices name, in the order of the indices.
#[derive(Clone, Debug)]
pub struct Named {
    /// The rows, each once.
    pub rows: Arc<[usize]>,
    /// Positions among the indices, sorted by index and then by position.
    pub order: Arc<[usize]>,
    /// Whether an index is repeated.
    pub repeats: bool,
}

impl Named {
    /// The rows that these indices name.
    pub fn of(indices: &[usize]) -> Self {
        let rising = |pair: &[usize]| pair[0] < pair[1];
        if indices.windows(2).all(rising) {
            return Named {
                rows: indices.into(),
                order: (0..indices.len()).collect(),
                repeats: false,
            };
        }
        let mut pairs: Vec<(usize, usize)> =
            indices.iter().enumerate().map(|(position, index)| (*index, position)).collect();
        pairs.sort_unstable();
        let order = pairs.iter().map(|(_, position)| *position).collect();
        pairs.dedup_by_key(|(index, _)| *index);
        let rows: Arc<[usize]> = pairs.into_iter().map(|(index, _)| index).collect();
        let repeats = rows.len() < indices.len();
        Named { rows, order, repeats }
    }

    /// Writes the sums of the rows to `sums`, row by row. Values are cast to `E` first; those of a
    /// repeated index are added in the order in which they were given.
    ///
    /// # Safety
    ///
    /// `values` has this shape, with one row for each index, and these strides (in bytes), in memory
    /// that is valid and not written during the call. `indices` are those of [`Named::of`], and
    /// `sums` has an element for each element of the rows.
    pub unsafe fn sum<E: Element>(
        &self,
        indices: &[usize],
        values: Pointer,
        (shape, strides): (&[usize], &[isize]),
        sums: &mut [E],
    ) {
        let layout = Layout::new(&shape[1..], [&strides[1..]], Order::Logical);
        let width = shape[1..].iter().product::<usize>();
        if width == 0 {
            return;
        }
        let mut given = vec![E::ZERO; width];
        let mut before = None;
        let mut row = 0;
        for position in &*self.order {
            let again = before == Some(indices[*position]);
            before = Some(indices[*position]);
            row += usize::from(!again);
            let sum = &mut sums[(row - 1) * width..row * width];
            let to = if again { &mut given[..] } else { &mut *sum };
            let address = values.address.wrapping_offset(*position as isize * strides[0]);
            // SAFETY: the caller's promise; the row lies in the array.
            unsafe { Pointer { address, ..values }.read(&layout, 0, 0, to) };
            if again {
                sum.iter_mut().zip(&given).for_each(|(sum, value)| *sum = *sum + *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_repeated_ones_summed_in_order() {
        let indices = [7, 2, 7, 0, 7];
        let named = Named::of(&indices);
        assert_eq!((&*named.rows, &*named.order), (&[0, 2, 7][..], &[3, 1, 0, 2, 4][..]));
        let mut values = [1e8_f32, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1e8, 7.0];
        let pointer = Pointer::of(values.as_mut_ptr());
        let mut sums = [0.0_f32; 6];
        // SAFETY: the shape and the strides are those of the array.
        unsafe { named.sum(&indices, pointer, (&[5, 2], &[8, 4]), &mut sums) };
        let sum = (1e8_f32 + 3.0) - 1e8;
        assert_eq!(sums, [5.0, 6.0, 1.0, 2.0, sum, 1.0 + 4.0 + 7.0]);
    }

    #[test]
    fn indices_that_rise_are_taken_as_they_are() {
        let named = Named::of(&[1, 5, 9]);
        assert_eq!((&*named.rows, &*named.order), (&[1, 5, 9][..], &[0, 1, 2][..]));
        assert!(!named.repeats && !Named::of(&[5, 1]).repeats && Named::of(&[1, 1]).repeats);
    }
}
