//! A parameter with its state, checked when it is taken in and again at each step.

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::array::checks::{Checked, parameter_of, written};
use crate::array::storage::kind_of;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::form::Form;
use crate::model::wording::Wording;
use thalweg::array::layout::{Layout, Order};
use thalweg::array::pointer::{ARRAYS, LOW, PARAMETER, Pointer, STATE};
use thalweg::array::storage::Storage;
use thalweg::error::Quoted;

/// A parameter.
#[derive(Debug)]
pub struct Leaf {
    pub name: String,
    /// The name as a Python string, for lookups in dicts.
    pub key: Py<PyString>,
    /// Path in the tree: the position of the entry in each container.
    pub path: Box<[usize]>,
    pub class: usize,
    /// Number of its updates.
    pub step: u64,
    /// `None` until it trains for the first time.
    pub active: Option<Active>,
    pub object: Py<PyAny>,
    /// Whether an array of uint16 has the bits of bfloat16 numbers.
    pub bits: bool,
    /// The numbers that the parameter had, while its array has its averaged point.
    pub exchanged: Option<Checked>,
}

impl Leaf {
    /// Its array, if it can be updated; `updated` precedes its name in messages. Only parameters of
    /// an optimizer may be narrow.
    pub fn array<'a, 'py>(
        &'a self,
        py: Python<'py>,
        words: &Wording,
    ) -> Outcome<(&'a Bound<'py, PyUntypedArray>, Storage)> {
        let what = || format!("{} {}", words.updated, Quoted(&self.name));
        let object = self.object.bind(py);
        match words.itself {
            Some(_) => written(object, what),
            None => parameter_of(object, what, self.bits),
        }
    }

    /// Rechecks the state arrays before they are written.
    pub fn recheck_state(&self, py: Python<'_>) -> Outcome<()> {
        let what = || format!("the state of {}", Quoted(&self.name));
        let mut states = self.active.iter().flat_map(|active| &active.state);
        states.try_for_each(|state| state.recheck(py, "", what).map(drop))
    }
}

/// A parameter that trains, or has trained: its array and its state.
#[derive(Debug)]
pub struct Active {
    pub p: Checked,
    /// The arrays of `form`, in order.
    pub state: Vec<Checked>,
    pub form: Form,
    /// Whether parameter and state have plain storage and are dense in the same order. With a
    /// gradient of the same strides, all of them are plain slices.
    pub dense: bool,
}

impl Active {
    pub fn new(p: Checked, state: Vec<Checked>, form: Form) -> Self {
        let dense = {
            let layout = Layout::new(&p.shape, [&p.strides[..]], Order::Memory);
            form.is_whole()
                && p.storage.is_plain()
                && layout.is_dense(0, p.storage.size())
                && state[..form.states()].iter().all(|s| s.strides == p.strides)
        };
        Active { p, state, form, dense }
    }

    /// The same state with the array of `leaf`, of the same shape and dtype.
    pub fn with_parameter(&self, py: Python<'_>, leaf: &Leaf, words: &Wording) -> Outcome<Self> {
        let what = || format!("parameter {}", Quoted(&leaf.name));
        let (array, storage) = leaf.array(py, words)?;
        if storage != self.p.storage || *array.shape() != *self.p.shape {
            return Err(Refusal::Value(format!(
                "{} must be {} as before, got {}; make a new optimizer for another shape or dtype",
                what(),
                kind_of(self.p.storage, &self.p.shape),
                kind_of(storage, array.shape())
            )));
        }
        let state = self.state.iter().map(|s| Checked::new(s.array.bind(py), s.storage));
        Ok(Active::new(Checked::new(array, storage), state.collect(), self.form.clone()))
    }

    /// Pointers to the arrays, and to the exponents of blocks, after a recheck of their structs. The
    /// places of the gradient and of missing arrays have the parameter's pointer.
    ///
    /// Always inlined, with the checks of an array: as a returned value, the pointers were copied in
    /// pieces that the processor cannot forward from one to the next.
    #[inline(always)]
    pub fn recheck(
        &self,
        py: Python<'_>,
        name: &str,
        words: &Wording,
    ) -> Outcome<([Pointer; ARRAYS], *mut u8)> {
        let p =
            self.p.recheck(py, words.rebind, || format!("{} {}", words.updated, Quoted(name)))?;
        let recheck =
            |state: &Checked| state.recheck(py, "", || format!("the state of {}", Quoted(name)));
        let (mut pointers, mut bases) = ([p; ARRAYS], std::ptr::null_mut());
        let (states, others) = self.state.split_at(self.form.states());
        for (pointer, state) in pointers[STATE..].iter_mut().zip(states) {
            *pointer = recheck(state)?;
        }
        for (position, other) in others.iter().enumerate() {
            let pointer = recheck(other)?;
            match pointer.storage {
                Storage::Low => pointers[LOW] = pointer,
                _ if self.form.bases() == Some(states.len() + position) => bases = pointer.address,
                _ => {}
            }
        }
        Ok((pointers, bases))
    }

    /// Strides of the arrays, and the position of the one that lacks what the array at `LOW` has.
    /// The places of the gradient and of missing arrays have the parameter's strides.
    pub fn strides(&self) -> ([&[isize]; ARRAYS], Option<usize>) {
        let mut strides = [&self.p.strides[..]; ARRAYS];
        let states = &self.state[..self.form.states()];
        for (strides, state) in strides[STATE..].iter_mut().zip(states) {
            *strides = &state.strides;
        }
        let low = self.low();
        if let Some(low) = low {
            strides[LOW] = &low.strides;
        }
        (strides, low.map(|_| PARAMETER))
    }

    /// What a narrow parameter lacks.
    pub fn low(&self) -> Option<&Checked> {
        self.form.low().map(|position| &self.state[position])
    }

    /// What the rule keeps of earlier steps, if it does.
    pub fn history(&self) -> Option<&Checked> {
        self.form.history().map(|position| &self.state[position])
    }

    /// The numbers of updates of its rows.
    pub fn row_steps(&self) -> Option<&Checked> {
        self.form.row_steps().map(|position| &self.state[position])
    }

    /// The parameter (0), or a state array from 1 on.
    pub fn array(&self, number: usize) -> &Checked {
        if number == 0 { &self.p } else { &self.state[number - 1] }
    }

    /// The parameter, then its state.
    pub fn arrays(&self) -> impl Iterator<Item = &Checked> {
        std::iter::once(&self.p).chain(&self.state)
    }
}
