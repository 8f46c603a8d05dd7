//! Arrays: where they lie, in what order their elements are taken, and how they pass through buffers.

pub(crate) mod across;
pub mod layout;
pub mod pointer;
pub(crate) mod prefetch;
pub mod storage;
