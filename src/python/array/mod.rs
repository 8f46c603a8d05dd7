//! NumPy arrays: what they are, where they lie, and whether they may be used.

pub mod arguments;
pub mod checks;
pub mod files;
pub mod foreign;
pub mod memory;
pub mod occupant;
pub mod overlap;
pub mod storage;
