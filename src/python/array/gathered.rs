//! Gradients by rows, bound to the rows of their parameter.

#![allow(unsafe_code)] // binds checked arrays by address

use std::sync::Arc;

use thalweg::array::layout::Rows;
use thalweg::array::pointer::{ARRAYS, GRADIENT, Pointer};
use thalweg::array::rows::Named;
use thalweg::number::element::{Element, Kind};
use thalweg::number::float_mode::in_default_mode;
use thalweg::read::norm::Input;
use thalweg::update::tensor::{Narrow, Tensor};

use crate::array::memory::Memory;

/// Buffers for sums of rows, reused between steps.
#[derive(Debug, Default)]
pub struct Sums {
    buffers: Vec<Vec<f64>>,
    used: usize,
}

impl Sums {
    /// Frees the buffers for other sums.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// A buffer of any contents, which stays where it is until the sums are cleared or dropped.
    fn take<E: Element>(&mut self, len: usize) -> &mut [E] {
        if self.used == self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        let buffer = &mut self.buffers[self.used];
        self.used += 1;
        let words = (len * size_of::<E>()).div_ceil(size_of::<f64>());
        if buffer.len() < words {
            *buffer = vec![0.0; words];
        }
        // SAFETY: the buffer has that many bytes, is aligned for f64, and an element is f32 or f64,
        // for which all bytes are valid.
        unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len) }
    }
}

/// A gradient of some rows of a parameter, or of all.
pub struct RowGradient {
    /// Rows of the parameter; `None` for all.
    pub rows: Rows,
    /// For each of these, the row of the array at `pointer` that is its gradient.
    places: Rows,
    pointer: Pointer,
    strides: Vec<isize>,
    /// The shape of the rows together.
    shape: Vec<usize>,
}

impl RowGradient {
    /// An array that has a row for each row of the parameter.
    pub fn of_all(memory: &Memory<'_>, pointer: Pointer) -> Self {
        let (strides, shape) = (memory.strides.to_vec(), memory.shape.to_vec());
        RowGradient { rows: None, places: None, pointer, strides, shape }
    }

    /// The rows with these indices, repeated ones summed in type `kind`.
    ///
    /// # Safety
    ///
    /// `memory` is that of a checked array with a row for each index, which nothing writes to.
    pub unsafe fn of_some(
        indices: &[usize],
        (memory, pointer): (&Memory<'_>, Pointer),
        kind: Kind,
        sums: &mut Sums,
    ) -> Self {
        let named = Named::of(indices);
        let count = named.rows.len();
        let mut made = RowGradient::of_all(memory, pointer);
        if named.repeats {
            // SAFETY: the caller's promise.
            unsafe { made.sum(&named, indices, memory, kind, sums) };
        } else if !named.order.is_sorted() {
            made.places = Some(named.order);
        }
        made.shape[0] = count;
        made.rows = Some(named.rows);
        made
    }

    /// All rows of a parameter of this height: those with these indices as in
    /// [`RowGradient::of_some`], and zero for all others.
    ///
    /// # Safety
    ///
    /// As [`RowGradient::of_some`]; indices are below `height`.
    pub unsafe fn with_zeros(
        (indices, height): (&[usize], usize),
        (memory, pointer): (&Memory<'_>, Pointer),
        kind: Kind,
        sums: &mut Sums,
    ) -> Self {
        let named = Named::of(indices);
        let mut made = RowGradient::of_all(memory, pointer);
        // SAFETY: the caller's promise.
        unsafe { made.sum(&named, indices, memory, kind, sums) };
        // A row of zeros follows the sums.
        let mut places = vec![named.rows.len(); height];
        named.rows.iter().enumerate().for_each(|(place, row)| places[*row] = place);
        made.shape[0] = height;
        made.places = Some(places.into());
        made
    }

    /// Takes the sums of the rows, followed by a row of zeros, as the array.
    ///
    /// # Safety
    ///
    /// As [`RowGradient::of_some`].
    unsafe fn sum(
        &mut self,
        named: &Named,
        indices: &[usize],
        memory: &Memory<'_>,
        kind: Kind,
        sums: &mut Sums,
    ) {
        // SAFETY: the caller's promise.
        in_default_mode(|| unsafe {
            match kind {
                Kind::F32 => self.sum_as::<f32>(named, indices, memory, sums),
                Kind::F64 => self.sum_as::<f64>(named, indices, memory, sums),
            }
        });
    }

    /// # Safety
    ///
    /// As [`RowGradient::of_some`].
    unsafe fn sum_as<E: Element>(
        &mut self,
        named: &Named,
        indices: &[usize],
        memory: &Memory<'_>,
        sums: &mut Sums,
    ) {
        let width = memory.shape[1..].iter().product::<usize>();
        let buffer = sums.take::<E>((named.rows.len() + 1) * width);
        let (rows, zeros) = buffer.split_at_mut(named.rows.len() * width);
        let values = (memory.shape, memory.strides);
        // SAFETY: the caller's promise.
        unsafe { named.sum(indices, self.pointer, values, rows) };
        zeros.fill(E::ZERO);
        self.pointer = Pointer::of(buffer.as_mut_ptr());
        let mut stride = size_of::<E>() as isize;
        for (axis, strides) in memory.shape.iter().zip(&mut self.strides).rev() {
            *strides = stride;
            stride *= *axis as isize;
        }
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.shape[0]
    }

    /// The gradient as input of the read pass, in type `kind`; rows are in the order of their
    /// indices.
    ///
    /// # Safety
    ///
    /// The array, or the sums, live as long as the input.
    pub unsafe fn read(&self, kind: Kind) -> Input<'static> {
        let RowGradient { shape, pointer, strides, places, .. } = self;
        // SAFETY: the caller's promise; the rows lie in the array.
        unsafe {
            match places {
                None => Input::new(shape, *pointer, strides, kind),
                Some(places) => Input::rows(shape, *pointer, (strides, Some(places.clone())), kind),
            }
        }
    }

    /// Binds the gradient to its rows of parameter and state; with `some`, only those at these
    /// positions.
    ///
    /// # Safety
    ///
    /// As [`Tensor::rows`]; the array, or the sums, live as long as the tensor.
    pub unsafe fn tensor<'a>(
        &'a self,
        some: Option<&[usize]>,
        (mut pointers, mut strides): ([Pointer; ARRAYS], [&'a [isize]; ARRAYS]),
        states: usize,
        narrow: Narrow,
    ) -> Tensor<'static> {
        pointers[GRADIENT] = self.pointer;
        strides[GRADIENT] = &self.strides;
        let mut shape = self.shape.clone();
        let mut rows = (self.rows.clone(), self.places.clone());
        if let Some(some) = some {
            let of = |rows: &Rows| -> Arc<[usize]> {
                some.iter().map(|at| rows.as_ref().map_or(*at, |rows| rows[*at])).collect()
            };
            shape[0] = some.len();
            rows = (Some(of(&rows.0)), Some(of(&rows.1)));
        }
        // SAFETY: the caller's promise.
        unsafe { Tensor::rows(&shape, pointers, strides, states, rows, narrow) }
    }
}
