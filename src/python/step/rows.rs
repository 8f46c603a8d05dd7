//! The binding of gradients that have rows, and of all gradients of a parameter whose rows have
//! numbers of updates of their own.

#![allow(unsafe_code)] // binds checked arrays by address

use pyo3::prelude::*;
use thalweg::array::pointer::{ARRAYS, Pointer};
use thalweg::error::Quoted;
use thalweg::step::batch::Batch;
use thalweg::step::kept::Kept;
use thalweg::step::key::UpdateKey;
use thalweg::step::row_counts::RowCounts;
use thalweg::step::setting::Setting;
use thalweg::update::tensor::Narrow;

use crate::array::gathered::{RowGradient, Sums};
use crate::array::memory::Memory;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::leaf::{Active, Leaf};
use crate::model::rows::check_alone;
use crate::values::hyper::RowsMeaning;

/// A leaf with its arrays, checked in this step.
pub struct Bound<'a> {
    pub leaf: (usize, &'a Leaf),
    pub active: &'a Active,
    pub pointers: [Pointer; ARRAYS],
    pub bases: *mut u8,
    /// The place of its history, if the rule keeps one.
    pub kept: Option<Kept>,
    /// The gradient: an array with a row for each index or, without indices, of the shape of the
    /// parameter.
    pub given: (&'a Memory<'a>, Pointer),
}

/// Adds a leaf to the batch: the rows of its gradient at these indices or, without indices, all rows.
pub fn push(
    py: Python<'_>,
    (batch, sums): (&mut Batch, &mut Sums),
    Bound { leaf: (index, leaf), active, pointers, bases, kept, given }: Bound<'_>,
    rows: Option<(&[usize], RowsMeaning)>,
    (mut key, setting): (UpdateKey, &Setting),
    mut coefficients: impl FnMut(&mut Batch, UpdateKey) -> Outcome<usize>,
) -> Outcome<()> {
    let kind = active.p.storage.element();
    // SAFETY: the array was checked in this step, and `given` keeps it alive until the work is
    // cleared. The caller guarantees that no other thread resizes or writes it meanwhile.
    let gradient = unsafe {
        match rows {
            None => RowGradient::of_all(given.0, given.1),
            Some((indices, RowsMeaning::Lazy)) => RowGradient::of_some(indices, given, kind, sums),
            Some((indices, RowsMeaning::Dense)) => {
                RowGradient::with_zeros((indices, active.p.shape[0]), given, kind, sums)
            }
        }
    };
    let what = || format!("row_steps of {}", Quoted(&leaf.name));
    let counted = (gradient.rows.clone(), gradient.count());
    let counts = active.row_steps().map(|array| {
        let address = array.recheck(py, "", what)?.address;
        // SAFETY: as above; the optimizer keeps the array alive, and the rows are those of the
        // parameter.
        Outcome::Ok(unsafe { RowCounts::new(address, array.strides[0], counted.0, counted.1) })
    });
    let counts = counts.transpose()?;
    let groups = match &counts {
        None => vec![(leaf.step, None)],
        Some(counts) => counts.groups(leaf.step).map_err(|(count, row)| {
            let what = what();
            Refusal::Value(format!(
                "{what} must be at least 0, got {count} in row {row}; set it to 0"
            ))
        })?,
    };
    if gradient.rows.is_some() || groups.len() > 1 {
        check_alone(&leaf.name, &active.p.shape, &active.form)?;
    }
    // The strides of the gradient are set with its pointer.
    let (strides, low_of) = active.strides();
    let reads = setting.reads() || setting.measured;
    // SAFETY: as above, and the sums live until the work is cleared.
    let mut read = reads.then(|| unsafe { gradient.read(kind) });
    for (position, (step, some)) in groups.iter().enumerate() {
        key.step = step + 1;
        let narrow = Narrow { step: step + 1, bases, low_of };
        // SAFETY: as above. Parameter and state were checked when they were taken in and again in
        // this step; each row is in one group, and has whole blocks.
        let tensor = unsafe {
            gradient.tensor(some.as_deref(), (pointers, strides), active.form.states(), narrow)
        };
        let update = coefficients(batch, key)?;
        match position {
            0 => batch.push(index, (tensor, kept), update, read.take()),
            _ => batch.push_more(tensor, update),
        }
    }
    batch.count(counts);
    Ok(())
}
