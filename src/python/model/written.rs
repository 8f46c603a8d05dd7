//! The memory that a step may write.

use std::collections::HashMap;

use pyo3::prelude::*;
use thalweg::error::Quoted;

use crate::array::checks::Checked;
use crate::array::overlap::{Extents, first_in_files, first_overlap, mapped};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::leaf::Active;
use crate::model::{Model, Written};

const TIED: &str =
    "pass tied weights once and add up their gradients, or pass views that do not overlap";

impl Model {
    /// The arrays that a step writes if these leaves train; refused if any overlap. `thawed` are
    /// the leaves among them that are not yet active in the model.
    pub fn written_with(
        &self,
        py: Python<'_>,
        leaves: Vec<usize>,
        thawed: &[(usize, Active)],
    ) -> Outcome<Written> {
        let thawed: HashMap<usize, &Active> = thawed.iter().map(|(i, a)| (*i, a)).collect();
        let mut arrays = Vec::new();
        let mut occupants = Vec::new();
        let mut elements = 0;
        for leaf in &leaves {
            let active = thawed.get(leaf).copied().or(self.leaves[*leaf].active.as_ref());
            elements += active.map_or(0, |active| active.p.shape.iter().product());
            for (number, checked) in active.into_iter().flat_map(Active::arrays).enumerate() {
                arrays.push((*leaf, number));
                occupants.push(checked.occupant(py));
            }
        }
        let mapped = mapped(&occupants)?;
        let overlap = first_overlap(&occupants).or_else(|| first_in_files(&occupants, &mapped));
        if let Some((earlier, later)) = overlap {
            return Err(Refusal::Overlap {
                written: self.describe(arrays[earlier]),
                other: self.describe(arrays[later]),
                advice: TIED,
            });
        }
        Ok(Written { leaves, elements, arrays, extents: Extents::of(&occupants), mapped })
    }

    /// The array at a position of `written`.
    pub fn written_array(&self, position: usize) -> Option<&Checked> {
        let (leaf, number) = self.written.arrays[position];
        self.leaves[leaf].active.as_ref().map(|active| active.array(number))
    }

    /// The name in messages: "parameter 'w'" or "exp_avg of 'w'".
    pub fn describe(&self, (leaf, array): (usize, usize)) -> String {
        let name = &self.leaves[leaf].name;
        match array {
            0 => format!("{} {}", self.options.wording.updated, Quoted(name)),
            k => {
                let form = self.leaves[leaf].active.as_ref().map(|active| &active.form);
                format!("{} of {}", form.map_or("state", |form| form.name(k - 1)), Quoted(name))
            }
        }
    }
}
