//! Views of arrays of the crate `ndarray`.

#![allow(unsafe_code)] // binds views by address

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::array::layout::Order;
use crate::array::pointer::{ARRAYS, GRADIENT, MAX_STATE, Pointer, STATE};
use crate::error::{Error, check_shape};
use crate::number::element::{Element, Kind};
use crate::read::norm::Input;
use crate::update::tensor::Tensor;

impl<'a> Tensor<'a> {
    /// Binds arrays of one shape and any strides; the gradient may be of another type. The order
    /// decides nothing but speed, and whether norms can be had.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where shapes differ, [`Error::State`] for more than three arrays.
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
        // SAFETY: views are valid for 'a, and the mutable ones are exclusive and overlap nothing.
        Ok(unsafe { Tensor::new(&shape, pointers, strides, states, order) })
    }
}

impl<'a> Input<'a> {
    /// An array of any strides.
    pub fn from_view<E: Element, D: Dimension>(view: ArrayView<'a, E, D>) -> Self {
        let strides: Vec<isize> =
            view.strides().iter().map(|stride| stride * E::KIND.size() as isize).collect();
        let pointer = Pointer::of(view.as_ptr().cast_mut());
        // SAFETY: a view is valid for 'a and not written.
        unsafe { Input::new(view.shape(), pointer, &strides, E::KIND) }
    }
}
