//! Arrays: their addresses, the order in which their elements are taken, and buffers for strided or
//! encoded ones.

pub(crate) mod across;
pub mod layout;
pub mod overlap;
pub mod pointer;
pub mod prefetch;
pub mod rows;
pub mod storage;
pub(crate) mod tiles;
