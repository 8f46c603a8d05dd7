//! Room that a step needs, kept between steps.

use crate::array::files::Place;
use crate::model::gradients::Given;
use crate::step::batch::Batch;

/// Room that a step needs, kept between steps.
#[derive(Debug, Default)]
pub struct Workspace {
    /// For each leaf, its gradient.
    pub given: Vec<Given>,
    /// Leaves that are updated, in the order of their names.
    pub chosen: Vec<usize>,
    /// For each of them, where its gradient lies in a file that a step writes too.
    pub places: Vec<Option<Place>>,
    pub batch: Batch,
}

impl Workspace {
    /// Lets go of all arrays.
    pub fn clear(&mut self) {
        self.given.fill_with(Given::default);
        self.chosen.clear();
        self.places.clear();
        self.batch.clear();
    }

    /// The same, if no others than the chosen leaves were given gradients.
    pub fn clear_chosen(&mut self) {
        for leaf in self.chosen.drain(..) {
            self.given[leaf] = Given::default();
        }
        self.places.clear();
        self.batch.clear();
    }
}
