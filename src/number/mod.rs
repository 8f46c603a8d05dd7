//! Numbers: the types of elements, sums with definite bits, functions, the floating-point mode.

pub mod element;
pub mod float_mode;
pub mod functions;
pub(crate) mod sums;
