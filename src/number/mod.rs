//! Numbers: element types, sums with definite bits, scalar functions, the floating-point mode.

pub mod element;
pub mod float_mode;
pub mod functions;
pub mod sums;
