//! The buffers of a step, reused between steps.

use thalweg::step::batch::Batch;

use crate::array::files::Place;
use crate::array::gathered::Sums;
use crate::model::gradients::Given;

/// The buffers of a step, reused between steps.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The gradient of each leaf.
    pub given: Vec<Given>,
    /// Leaves to update, in the order of their names.
    pub chosen: Vec<usize>,
    /// For each chosen leaf, the place of its gradient in a file, if the optimizer's arrays map
    /// files too.
    pub places: Vec<Option<Place>>,
    pub batch: Batch,
    /// Sums of rows that were given repeatedly.
    pub sums: Sums,
}

impl Workspace {
    /// Drops all references to arrays.
    pub fn clear(&mut self) {
        self.given.fill_with(Given::default);
        self.chosen.clear();
        self.places.clear();
        self.batch.clear();
        self.sums.clear();
    }

    /// As [`Workspace::clear`], if only chosen leaves were given gradients; costs only what those
    /// cost.
    pub fn clear_chosen(&mut self) {
        for leaf in self.chosen.drain(..) {
            self.given[leaf] = Given::default();
        }
        self.places.clear();
        self.batch.clear();
        self.sums.clear();
    }
}
