//! NumPy arrays: storage, memory, overlap, and checks before use.

pub mod arguments;
pub mod checks;
pub mod counts;
pub mod files;
pub mod foreign;
pub mod gathered;
pub mod memory;
pub mod occupant;
pub mod overlap;
pub mod rows;
pub mod storage;
