//! Shapes and strides: one traversal of several arrays of the same shape.
//!
//! Strides are in bytes, as in NumPy, because a field of a structured array may lie at any byte
//! offset. Axes of length one are dropped, the others are ordered, and neighbouring axes that a
//! single stride spans in every array are merged. Most traversals end up with one axis.

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
}

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
        Layout { axes: joined }
    }

    /// The axes, outermost first.
    pub(crate) fn axes(&self) -> &[Axis<K>] {
        &self.axes
    }

    /// Whether array `k`, with elements of `size` bytes, is contiguous in the order of this
    /// traversal.
    pub fn is_dense(&self, k: usize, size: usize) -> bool {
        let mut stride = size as isize;
        self.axes.iter().rev().all(|axis| {
            let fits = axis.strides[k] == stride;
            stride *= axis.len as isize;
            fits
        })
    }

    /// Bytes from the address of array `k` to its element number `at`.
    pub(crate) fn offset(&self, k: usize, at: usize) -> isize {
        offset(&self.axes, k, at)
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
            run(offset(outer, k, row) + at as isize * stride, stride, count);
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

/// Bytes to element number `row` of array `k`, the last axis counting fastest.
fn offset<const K: usize>(axes: &[Axis<K>], k: usize, mut row: usize) -> isize {
    let mut bytes = 0;
    for axis in axes.iter().rev() {
        bytes += (row % axis.len) as isize * axis.strides[k];
        row /= axis.len;
    }
    bytes
}
