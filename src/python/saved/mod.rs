//! Files: checkpoints, and locks on directories.

pub mod lock;
pub mod stored;
