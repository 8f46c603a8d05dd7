//! The interpreter: dicts, exceptions, exit, exclusive access, checks by identity, undo of `with`
//! blocks.

pub mod dicts;
pub mod errors;
pub mod exit;
pub mod gate;
pub mod identity;
pub mod types;
pub mod undo;
