//! The pass that reads gradients before an update.

mod input;
pub mod norm;
pub mod peers;
