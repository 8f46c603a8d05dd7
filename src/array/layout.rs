//! Shapes and strides: one traversal of several arrays of the same shape.
//!
//! Strides are in bytes, as in NumPy, because a field of a structured array may lie at any byte
//! offset. Axes of length one are dropped, the others are ordered, and neighbouring axes that a
//! single stride spans in every array are merged. Most traversals end up with one axis. A traversal
//! may also take chosen rows of an array, in any order.

use std::sync::Arc;

/// An axis of a traversal of `K` arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis<const K: usize> {
    /// Number of elements along the axis; never 1.
    pub(crate) len: usize,
    /// Bytes from one element to the next, for each array.
    pub(crate) strides: [isize; K],
}

/// The order in which a traversal takes elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Last axis fastest: the logical order, independent of the strides.
    Logical,
    /// The axis with the smallest stride of the first array fastest: that array's memory order.
    Memory,
}

/// A traversal of `K` arrays of one shape, outermost axis first.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout<const K: usize> {
    axes: Vec<Axis<K>>,
    /// For each array, the entries of its first axis that are taken; `None` for all, in order.
    rows: [Rows; K],
}

/// Entries of the first axis of an array, in the order in which they are taken; `None` for all.
pub type Rows = Option<Arc<[usize]>>;

impl<const K: usize> Layout<K> {
    /// The traversal of arrays of this shape; each array's strides have one entry per axis of
    /// `shape`.
    pub fn new(shape: &[usize], strides: [&[isize]; K], order: Order) -> Self {
        let mut axes: Vec<Axis<K>> = (0..shape.len())
            .filter(|&i| shape[i] != 1)
            .map(|i| Axis { len: shape[i], strides: strides.map(|s| s[i]) })
            .collect();
        if order == Order::Memory {
            axes.sort_by_key(|axis| std::cmp::Reverse(axis.strides[0].unsigned_abs()));
        }
        let mut joined: Vec<Axis<K>> = Vec::with_capacity(axes.len());
        for axis in axes {
            match joined.last_mut() {
                Some(outer) if spans(outer, &axis) => {
                    *outer = Axis { len: outer.len * axis.len, strides: axis.strides };
                }
                _ => joined.push(axis),
            }
        }
        Layout { axes: joined, rows: [const { None }; K] }
    }

    /// The traversal in logical order of arrays of this shape, each of which has the given rows in
    /// an array with these strides.
    pub(crate) fn of_rows(shape: &[usize], strides: [&[isize]; K], rows: [Rows; K]) -> Self {
        let Layout { axes: row, .. } =
            Layout::new(&shape[1..], strides.map(|strides| &strides[1..]), Order::Logical);
        let first = Axis { len: shape[0], strides: strides.map(|strides| strides[0]) };
        let mut axes = vec![first];
        axes.extend(row);
        if axes.len() == 1 {
            axes.push(Axis { len: 1, strides: [0; K] });
        }
        Layout { axes, rows }
    }

    /// Whether array `k` is taken by rows.
    pub(crate) fn has_rows(&self, k: usize) -> bool {
        self.rows[k].is_some()
    }

    /// The length of a row, if rows are taken and each is dense in every array; `size` is that of an
    /// element.
    pub(crate) fn dense_rows(&self, size: usize) -> Option<usize> {
        let [_, columns] = &self.axes[..] else { return None };
        let dense = columns.strides.iter().all(|stride| *stride == size as isize);
        (dense && self.rows.iter().any(Rows::is_some)).then_some(columns.len)
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// Calls `part(element, start, len)` for parts of elements `start..start + len` of the
    /// traversal: `element` is the position of the part's first one in array `k`, which is dense in
    /// logical order.
    #[inline(always)]
    pub(crate) fn parts(
        &self,
        k: usize,
        (start, len): (usize, usize),
        mut part: impl FnMut(usize, usize, usize),
    ) {
        let Some(rows) = &self.rows[k] else { return part(start, start, len) };
        let width = self.axes[1..].iter().map(|axis| axis.len).product::<usize>();
        let end = start + len;
        let mut start = start;
        while start < end {
            let (row, at) = (start / width, start % width);
            let len = (width - at).min(end - start);
            part(rows[row] * width + at, start, len);
            start += len;
        }
    }

    /// The axes, outermost first.
    pub(crate) fn axes(&self) -> &[Axis<K>] {
        &self.axes
    }

    /// Whether array `k`, with elements of `size` bytes, is contiguous in the order of this
    /// traversal.
    pub fn is_dense(&self, k: usize, size: usize) -> bool {
        let mut stride = size as isize;
        self.rows[k].is_none()
            && self.axes.iter().rev().all(|axis| {
                let fits = axis.strides[k] == stride;
                stride *= axis.len as isize;
                fits
            })
    }

    /// Bytes from the address of array `k` to its element number `at`.
    pub(crate) fn offset(&self, k: usize, at: usize) -> isize {
        offset((&self.axes, self.rows[k].as_deref()), k, at)
    }

    /// Calls `run(offset, stride, count)` for each run of array `k` among elements
    /// `start..start + len` of the traversal; offset and stride are in bytes.
    #[inline(always)]
    pub fn runs(
        &self,
        k: usize,
        start: usize,
        len: usize,
        mut run: impl FnMut(isize, isize, usize),
    ) {
        let Some((inner, outer)) = self.axes.split_last() else {
            return run(0, 0, len);
        };
        let (mut done, mut row, mut at) = (0, start / inner.len, start % inner.len);
        while done < len {
            let count = (inner.len - at).min(len - done);
            let stride = inner.strides[k];
            run(
                offset((outer, self.rows[k].as_deref()), k, row) + at as isize * stride,
                stride,
                count,
            );
            done += count;
            row += 1;
            at = 0;
        }
    }
}

/// Whether one step along `outer` covers the whole of `inner` in every array.
fn spans<const K: usize>(outer: &Axis<K>, inner: &Axis<K>) -> bool {
    outer
        .strides
        .iter()
        .zip(&inner.strides)
        .all(|(&o, &i)| i.checked_mul(inner.len as isize) == Some(o))
}

/// Bytes to element number `at` of array `k`, the last axis counting fastest; with `rows`, those of
/// its first axis are taken.
fn offset<const K: usize>(
    (axes, rows): (&[Axis<K>], Option<&[usize]>),
    k: usize,
    mut at: usize,
) -> isize {
    let mut bytes = 0;
    for (position, axis) in axes.iter().enumerate().rev() {
        let index = at % axis.len;
        let index = rows.filter(|_| position == 0).map_or(index, |rows| rows[index]);
        bytes += index as isize * axis.strides[k];
        at /= axis.len;
    }
    bytes
}
