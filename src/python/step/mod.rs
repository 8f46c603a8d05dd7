//! A step: gradients, checks, update, report.

pub mod ahead;
pub mod averaged;
pub mod bind;
pub mod collect;
pub mod guarded;
pub mod keywords;
pub mod open;
pub mod peers;
pub mod release;
pub mod report;
pub mod rows;
pub mod swap;
pub mod take;
pub mod workspace;
