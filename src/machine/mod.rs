//! The machine: CPU levels, threads and their portions of work, forks, pages, the memory limit.

pub(crate) mod cores;
pub mod fork;
pub mod levels;
pub mod memory_limit;
pub mod pages;
pub mod pool;
pub(crate) mod portions;
mod region;
pub mod team;
pub mod threads;
