//! The arrays of a checked parameter, for the core.

use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, PARAMETER};
use thalweg::optimizer::{Live, Values};
use thalweg::read::norm;
use thalweg::update::tensor::{Narrow, Tensor as Bound};

use crate::checked::Checked;

impl<'a> Checked<'a> {
    /// The parameter, for an optimizer.
    ///
    /// # Safety
    ///
    /// For `'a` the array is as the fields say, and nothing else uses it.
    pub unsafe fn live(&self) -> Live<'a> {
        // SAFETY: the caller's promise; `add` has checked the alignment.
        unsafe { Live::at(self.pointers[PARAMETER], self.given.len) }
    }

    /// The parameter to be saved, or its gradient.
    ///
    /// # Safety
    ///
    /// For `'a` the array is as the fields say, and nothing writes it.
    pub unsafe fn values(&self, k: usize) -> Values<'a> {
        // SAFETY: the caller's promise; `add` has checked the alignment.
        unsafe { Values::at(self.pointers[k], self.given.len) }
    }

    /// If every array is plain, runs `work` with tensors of the core that allocate nothing: with one
    /// if they are dense, else with each row. Returns whether it has.
    ///
    /// # Safety
    ///
    /// As [`Checked::bind`].
    #[inline]
    pub unsafe fn in_rows<E>(
        &self,
        mut work: impl FnMut(Bound<'static>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (mut pointers, kind) = (self.pointers, self.storage().element().into());
        if pointers.iter().any(|pointer| pointer.storage != kind) {
            return Ok(false);
        }
        let [rows, len] = if self.dense { [1, self.given.len] } else { self.shape };
        for _ in 0..rows {
            // SAFETY: the promise of the caller; alignment, extents and overlap are checked, and
            // the elements of a row are dense.
            work(unsafe { Bound::dense(len, pointers, self.states, Order::Logical) })?;
            for (pointer, stride) in pointers.iter_mut().zip(self.strides) {
                pointer.address = pointer.address.wrapping_offset(stride);
            }
        }
        Ok(true)
    }

    /// The tensor of the core.
    ///
    /// # Safety
    ///
    /// The arrays are as the fields say, and nothing else uses those that are written until the last
    /// use of the result.
    pub unsafe fn bind(&self, order: Order) -> Bound<'static> {
        let Checked { given, pointers, strides, shape, states, .. } = self;
        let (pointers, states) = (*pointers, *states);
        let kind = self.storage().element().into();
        // SAFETY: the promise of the caller; alignment, extents and overlap are checked.
        unsafe {
            if self.dense && pointers.iter().all(|pointer| pointer.storage == kind) {
                return Bound::dense(given.len, pointers, states, order);
            }
            let both: [[isize; 2]; ARRAYS] =
                std::array::from_fn(|k| [strides[k], pointers[k].storage.size() as isize]);
            let each = both.each_ref().map(|both| &both[..]);
            if pointers.iter().all(|pointer| pointer.storage.is_whole()) {
                return Bound::new(shape, pointers, each, states, order);
            }
            let narrow = Narrow {
                step: given.step,
                bases: given.bases,
                low_of: self.is_narrow().then_some(PARAMETER),
            };
            Bound::narrow(shape, pointers, each, states, order, narrow)
        }
    }

    /// The gradient, to be read.
    ///
    /// # Safety
    ///
    /// The gradient is as the fields say, and nothing writes it until the last use of the result.
    #[inline]
    pub unsafe fn input(&self) -> norm::Input<'static> {
        let (gradient, kind) = (self.pointers[GRADIENT], self.storage().element());
        let strides = [self.strides[GRADIENT], gradient.storage.size() as isize];
        // SAFETY: the promise of the caller; alignment and extent are checked.
        unsafe {
            match self.dense && gradient.storage == kind.into() {
                true => norm::Input::dense(self.given.len, gradient),
                false => norm::Input::new(&self.shape, gradient, &strides, kind),
            }
        }
    }
}
