//! Updates: the loop over a block, a parameter with its gradient and state, many tensors on many
//! threads.

pub(crate) mod apply;
pub(crate) mod fused;
pub(crate) mod kernel;
pub(crate) mod lines;
mod measure;
pub(crate) mod narrow;
pub(crate) mod passes;
pub mod plan;
pub mod statistics;
pub mod tensor;
