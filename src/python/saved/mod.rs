//! Files: checkpoints, and locks on directories.

pub mod elements;
pub mod elsewhere;
pub mod lock;
pub mod stored;
