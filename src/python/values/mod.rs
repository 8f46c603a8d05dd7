//! Numbers, flags, strings and callables given by Python.

pub mod hyper;
pub mod scalars;
