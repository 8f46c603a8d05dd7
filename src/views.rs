//! Tensors and inputs made from views of the crate `ndarray`.

#![allow(unsafe_code)] // binds views by address

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::array::layout::Order;
use crate::array::pointer::{ARRAYS, GRADIENT, MAX_STATE, Pointer, STATE};
use crate::error::{Error, check_shape};
use crate::number::element::{Element, Kind};
use crate::read::norm::Input;
use crate::update::tensor::Tensor;

impl<'a> Tensor<'a> {
    /// Binds arrays of one shape, with any strides; the gradient may have another element type. The
    /// order affects speed only, except that norms of an update need [`Order::Logical`].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if shapes differ, [`Error::State`] for more than three state arrays.
    pub fn from_views<E: Element, G: Element, D: Dimension>(
        mut p: ArrayViewMut<'a, E, D>,
        g: ArrayView<'a, G, D>,
        state: Vec<ArrayViewMut<'a, E, D>>,
        order: Order,
    ) -> Result<Self, Error> {
        if state.len() > MAX_STATE {
            return Err(Error::State { got: state.len(), expected: &[0, 1, 2, 3] });
        }
        check_shape("the gradient", g.shape(), p.shape())?;
        let bytes = |strides: &[isize], kind: Kind| -> Vec<isize> {
            strides.iter().map(|stride| stride * kind.size() as isize).collect()
        };
        let shape = p.shape().to_vec();
        let own = bytes(p.strides(), E::KIND);
        let mut pointers = [Pointer::of(p.as_mut_ptr()); ARRAYS];
        let mut strides: [Vec<isize>; ARRAYS] = std::array::from_fn(|_| own.clone());
        pointers[GRADIENT] = Pointer::of(g.as_ptr().cast_mut());
        strides[GRADIENT] = bytes(g.strides(), G::KIND);
        let states = state.len();
        for (k, mut s) in state.into_iter().enumerate() {
            check_shape("a state array", s.shape(), &shape)?;
            pointers[STATE + k] = Pointer::of(s.as_mut_ptr());
            strides[STATE + k] = bytes(s.strides(), E::KIND);
        }
        let strides = strides.each_ref().map(|s| &s[..]);
        // SAFETY: a view is valid for 'a; a mutable view is exclusive, so it overlaps no other
        // array.
        Ok(unsafe { Tensor::new(&shape, pointers, strides, states, order) })
    }
}

impl<'a> Input<'a> {
    /// Binds an array with any strides.
    pub fn from_view<E: Element, D: Dimension>(view: ArrayView<'a, E, D>) -> Self {
        let strides: Vec<isize> =
            view.strides().iter().map(|stride| stride * E::KIND.size() as isize).collect();
        let pointer = Pointer::of(view.as_ptr().cast_mut());
        // SAFETY: a view is valid for 'a, and nothing writes to it meanwhile.
        unsafe { Input::new(view.shape(), pointer, &strides, E::KIND) }
    }
}
