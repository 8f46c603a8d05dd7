//! The pass that reads gradients before an update.

pub mod norm;
pub mod peers;
