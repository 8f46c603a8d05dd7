//! The averaged point of a schedule-free parameter.

#![allow(unsafe_code)] // binds slices and state for the time of a call

use super::error::Error;
use super::held::Held;
use super::param::{Live, Values};
use super::state::Array;
use crate::array::layout::Order;
use crate::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, STATE};
use crate::machine::fork;
use crate::machine::levels::Level;
use crate::machine::threads::{num_threads, useful_threads};
use crate::number::float_mode::in_default_mode;
use crate::rule::{AveragedPoint, Numbers};
use crate::update::plan::{Plan, Task};
use crate::update::tensor::{Narrow, Tensor};

impl Held {
    /// Writes the averaged point of a parameter to `out`.
    pub fn average(&self, name: &str, p: &Values<'_>, mut out: Live<'_>) -> Result<(), Error> {
        let storage = p.pointer.storage;
        let leaf = self.check(name, (storage, p.len))?;
        if (out.pointer.storage, out.len) != (storage, p.len) {
            return Err(Error::of(name, "the place for the average must be like the parameter"));
        }
        let Some([_, _, beta1]) = leaf.kept() else {
            return Err(Error::Settings(format!("{} averages no points", self.rule.name)));
        };
        if leaf.step == 0 {
            return Err(Error::of(name, "it has no average before its first step"));
        }
        let update = Numbers::from(AveragedPoint { beta1 }).at_step(storage.element(), 1, 1.0)?;

        out.bytes_mut().copy_from_slice(p.bytes());
        // The rule keeps the parameter here, and what it lacks is that of the average.
        let mut kept = Array::zeros("", storage.whole(), p.len);
        let mut low = leaf.low().map(|low| {
            let mut copy = Array::zeros("", low.storage, p.len);
            copy.bytes_mut().copy_from_slice(low.bytes());
            copy
        });
        let mut pointers = [out.pointer; ARRAYS];
        pointers[GRADIENT] = leaf.arrays[0].read_only();
        pointers[STATE] = kept.pointer();
        if let Some(low) = &mut low {
            pointers[LOW] = low.pointer();
        }
        // SAFETY: `out` is borrowed exclusively, `z` shared with the optimizer, and the others are
        // made here; all of them have the parameter's number of elements, aligned and dense.
        let tensor = unsafe {
            if low.is_none() {
                Tensor::dense(p.len, pointers, 1, Order::Logical)
            } else {
                let strides = pointers.map(|pointer| [pointer.storage.size() as isize]);
                let strides = strides.each_ref().map(|stride| &stride[..]);
                let bases = std::ptr::null_mut();
                let narrow = Narrow { step: 1, bases, low_of: Some(PARAMETER) };
                Tensor::narrow(&[p.len], pointers, strides, 1, Order::Logical, narrow)
            }
        };
        let threads = useful_threads(p.len, num_threads().0);
        let tasks = &mut [Task { tensor, update: 0 }];
        let work = || Plan::default().run(tasks, &[update], Level::current(), threads);
        Ok(in_default_mode(|| fork::whole(work))?)
    }
}
