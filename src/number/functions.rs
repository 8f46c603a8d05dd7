//! Scalar functions with the same bits on every machine.
//!
//! The C library's `cos`, `sin` and `pow` differ in the last bit between platforms. Those of the
//! `libm` crate are plain Rust without platform code, so learning rates are the same on every
//! machine on which a run continues.

use std::f64::consts::{FRAC_PI_2, PI};

use crate::number::float_mode::in_default_mode;

/// Half a cosine from 1 to 0: `(1 + cos(π·done))/2` for `done` from 0 to 1.
///
/// `left` is `1 - done`, passed separately because the caller knows it without cancellation. The
/// second half computes the equal `sin²(π·left/2)`, which keeps the relative error below 2⁻⁵⁰ up to
/// the end, where `1 + cos` would lose every digit. Both ends are exact.
///
/// # Examples
///
/// ```
/// use thalweg::number::functions::half_cosine;
///
/// assert_eq!([half_cosine(0.0, 1.0), half_cosine(0.5, 0.5), half_cosine(1.0, 0.0)], [1.0, 0.5, 0.0]);
/// ```
pub fn half_cosine(done: f64, left: f64) -> f64 {
    in_default_mode(|| {
        if done <= 0.5 {
            0.5 + 0.5 * libm::cos(PI * done)
        } else {
            let sine = libm::sin(FRAC_PI_2 * left);
            sine * sine
        }
    })
}

/// `base` to the power of `exponent`, with an error below one unit in the last place.
///
/// # Examples
///
/// ```
/// assert_eq!(thalweg::number::functions::power(0.5, 3.0), 0.125);
/// ```
pub fn power(base: f64, exponent: f64) -> f64 {
    in_default_mode(|| libm::pow(base, exponent))
}

/// `1 - beta^step` without cancellation and without the platform's `pow`.
///
/// With `x(t) = 1 - β^t`: `x(2t) = x·(2-x)` and `x(t+1) = x + (1-x)·(1-β)`, applied for the bits of
/// `step` from the highest to the lowest. Up to `step = 10^12` the relative error is below 1e-15
/// for betas up to 0.9999, and below 1e-14 for any beta.
pub(crate) fn one_minus_power(beta: f64, step: u64) -> f64 {
    let mut x = 0.0;
    for bit in (0..u64::BITS - step.leading_zeros()).rev() {
        x = x * (2.0 - x);
        if step >> bit & 1 == 1 {
            x = x + (1.0 - x) * (1.0 - beta);
        }
    }
    x
}
