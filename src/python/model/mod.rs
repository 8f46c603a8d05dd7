//! What an optimizer holds: the tree of parameters, their state, classes, counters and record.

pub mod counters;
pub mod leaf;
pub mod model;
pub mod record;
pub mod replacement;
pub mod snapshot;
pub mod tree;
pub mod wording;
