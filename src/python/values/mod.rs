//! Numbers, flags and callables as Python gives them.

pub mod hyper;
pub mod scalars;
