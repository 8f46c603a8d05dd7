//! The work of a step over many tensors: the norm of their gradients, clipping, refused gradients,
//! measures, updates, and the histories and numbers of updates that they leave.

pub mod batch;
pub mod kept;
pub mod key;
pub mod row_counts;
pub mod setting;
