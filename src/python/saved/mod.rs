//! Files: checkpoints, and locks on directories.

pub mod elsewhere;
pub mod lock;
pub mod stored;
