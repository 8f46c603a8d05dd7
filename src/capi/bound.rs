//! The arrays of a checked parameter, for the core.

use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, MAX_STATE, PARAMETER, STATE};
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

    /// The tensor of the core.
    ///
    /// # Safety
    ///
    /// The arrays are as the fields say, and nothing else uses those that are written until the last
    /// use of the result.
    #[inline]
    pub unsafe fn bind(&self, order: Order) -> Bound<'static> {
        let Checked { given, has, shape, .. } = self;
        let kind = self.storage().element();
        // The core has the state arrays that are there side by side; unused ones are the parameter.
        let (mut pointers, mut strides) = (self.pointers, self.strides);
        let mut states = 0;
        for k in (STATE..STATE + MAX_STATE).filter(|k| has[*k]) {
            (pointers[STATE + states], strides[STATE + states]) = (pointers[k], strides[k]);
            states += 1;
        }
        let used = |k: usize| k < STATE + states || k == LOW && has[LOW];
        for k in (0..ARRAYS).filter(|k| !used(*k)) {
            (pointers[k], strides[k]) = (pointers[PARAMETER], strides[PARAMETER]);
        }
        // SAFETY: the promise of the caller; alignment, extents and overlap are checked.
        unsafe {
            if self.dense && pointers.iter().all(|pointer| pointer.storage == kind.into()) {
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
                low_of: has[LOW].then_some(PARAMETER),
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
