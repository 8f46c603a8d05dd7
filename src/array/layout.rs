//! Shapes and strides: one traversal of several arrays of the same shape.
//!
//! Strides are in bytes, as NumPy has them, because a field of a structured array need not lie at
//! a multiple of its own size. Axes are ordered, those of length one dropped, and neighbours that
//! one stride spans in every array are joined. What is left is mostly one axis.

/// An axis of a traversal of `K` arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis<const K: usize> {
    /// Number of elements along it; above 1.
    pub(crate) len: usize,
    /// Bytes from one element to the next, for each array.
    pub(crate) strides: [isize; K],
}

/// In which order the elements of a traversal come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Last axis fastest: the logical order, whatever the strides.
    Logical,
    /// The axis with the smallest stride of the first array fastest: the order of its memory.
    Memory,
}

/// A traversal of `K` arrays of one shape, outermost axis first.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout<const K: usize> {
    axes: Vec<Axis<K>>,
}

impl<const K: usize> Layout<K> {
    /// The traversal of arrays of this shape with these strides, each as long as `shape`.
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

    /// Whether array `k`, of elements of `size` bytes, lies in memory without gaps in the order of
    /// this traversal.
    pub fn is_dense(&self, k: usize, size: usize) -> bool {
        let mut stride = size as isize;
        self.axes.iter().rev().all(|axis| {
            let fits = axis.strides[k] == stride;
            stride *= axis.len as isize;
            fits
        })
    }

    /// Offset in bytes of element number `at` in array `k`.
    pub(crate) fn offset(&self, k: usize, at: usize) -> isize {
        offset(&self.axes, k, at)
    }

    /// Calls `run(offset, stride, count)` for the runs of array `k` that make up elements
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

/// Whether `outer` steps over exactly one whole `inner` in every array.
fn spans<const K: usize>(outer: &Axis<K>, inner: &Axis<K>) -> bool {
    outer
        .strides
        .iter()
        .zip(&inner.strides)
        .all(|(&o, &i)| i.checked_mul(inner.len as isize) == Some(o))
}

/// Offset in bytes of the given index, counted over the axes from the last.
fn offset<const K: usize>(axes: &[Axis<K>], k: usize, mut row: usize) -> isize {
    let mut bytes = 0;
    for axis in axes.iter().rev() {
        bytes += (row % axis.len) as isize * axis.strides[k];
        row /= axis.len;
    }
    bytes
}
