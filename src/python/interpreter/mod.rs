//! The interpreter: exceptions, its end, one caller at a time, blocks that are undone.

pub mod errors;
pub mod exit;
pub mod gate;
pub mod identity;
pub mod types;
pub mod undo;
