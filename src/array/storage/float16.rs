//! float16: half precision of IEEE 754. A companion array has what a parameter has beyond it.

use super::dither::Dither;
use super::nan::of_one_nan;
use super::{Companion, Decoding, Encoding};

/// The bits of a float16.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Float16(u16);

/// Bits of the fraction that an `f32` has and a float16 has not.
const FRACTION: u32 = 13;
/// One in the exponent of an `f32`.
const ONE: u32 = 1 << 23;
/// Difference between the biases of the exponents.
const BIAS: u32 = (127 - 15) * ONE;
/// The exponent of infinity and NaN in a float16, at its place in an `f32`.
const TOP: u32 = 31 * ONE;
/// The smallest normal float16.
const SMALLEST: f32 = f32::from_bits(BIAS + ONE);

impl Decoding for Float16 {
    type Element = f32;

    /// Exact, also for subnormal numbers, without a branch and without a subnormal `f32`.
    #[inline(always)]
    fn decode(self) -> f32 {
        let bits = u32::from(self.0);
        let magnitude = (bits & 0x7FFF) << FRACTION;
        let exponent = magnitude & TOP;
        let normal = magnitude + BIAS;
        // 2^-14·(1 + fraction) minus 2^-14.
        let subnormal = (f32::from_bits(normal + ONE) - SMALLEST).to_bits();
        let endless = normal + BIAS;
        let value = if exponent == 0 { subnormal } else { normal };
        let value = if exponent == TOP { endless } else { value };
        f32::from_bits(value | (bits & 0x8000) << 16)
    }
}

/// The sign bit of an `f32`.
const SIGN: u32 = 1 << 31;
/// From here on, numbers are rounded to infinity or are NaN.
const ENDLESS: u32 = (127 + 16) * ONE;

/// The exponent of a float16 near a magnitude, as a power of two: at least that of the smallest
/// normal float16, whose last place all smaller ones share.
#[inline(always)]
fn power(magnitude: f32) -> f32 {
    let power = f32::from_bits(magnitude.to_bits() & INFINITE);
    if power > SMALLEST { power } else { SMALLEST }
}

/// The bits of the nearest float16 to a magnitude below [`ENDLESS`], and its number; halves go to
/// the even one. The number is 2^16 in place of infinity.
#[inline(always)]
fn nearest(magnitude: u32) -> (u32, f32) {
    let magnitude = f32::from_bits(magnitude);
    let power = power(magnitude).to_bits();
    // 1.5·2^13 times the power: its last place is that of the float16, so the sum is rounded to it.
    let large = power.wrapping_add(13 * ONE + ONE / 2);
    let sum = magnitude + f32::from_bits(large);
    let places = sum.to_bits().wrapping_sub(large);
    let below = power.wrapping_sub(BIAS + ONE) >> FRACTION;
    (places.wrapping_add(below), sum - f32::from_bits(large))
}

impl Encoding for Float16 {
    /// The nearest; halves go to the even one.
    #[inline(always)]
    fn encode(element: f32, _: &Dither) -> Self {
        let bits = element.to_bits();
        let magnitude = bits & !SIGN;
        let endless = if magnitude > INFINITE { 0x7E00 } else { 0x7C00 };
        let value = if magnitude >= ENDLESS { endless } else { nearest(magnitude).0 };
        Float16((value | bits >> 16 & 0x8000) as u16)
    }

    #[inline(always)]
    fn prepared(element: f32) -> f32 {
        of_one_nan(element)
    }
}

/// The bits of infinity.
const INFINITE: u32 = 0x7F80_0000;

/// The bits of the smallest number that becomes infinite as a float16.
const ROUNDED_UP: u32 = 65_520.0_f32.to_bits();

/// Whether a number is finite and becomes infinite as a float16.
#[inline(always)]
pub(crate) fn overflows(numbers: &[f32]) -> bool {
    let mut found = 0;
    for x in numbers {
        let magnitude = x.to_bits() & !SIGN;
        found |= u32::from((ROUNDED_UP..INFINITE).contains(&magnitude));
    }
    found != 0
}

/// The companion of a [`Float16`]: the difference to the `f32`, in units of 2^-15 of the float16's
/// last place. Both together are exactly the `f32` from 2^-16 up to the largest float16; below, they
/// are a multiple of 2^-39.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Rest(i16);

/// Added to a small number, this leaves the nearest whole number in the last bits.
const TO_WHOLE: f32 = 12_582_912.0;

impl Companion for Rest {
    #[inline(always)]
    fn join(self, live: f32) -> f32 {
        // As `f32::from(self.0)`, in operations that SSE2 has too: 2^23 + 2^15 + rest, less the sum.
        let biased = u32::from(self.0 as u16 ^ 0x8000) | 8_388_608.0_f32.to_bits();
        let rest = f32::from_bits(biased) - 8_421_376.0;
        let unit = f32::from_bits(power(live).to_bits().wrapping_sub(25 * ONE));
        live + rest * unit
    }

    #[inline(always)]
    fn of(element: f32) -> Self {
        let magnitude = element.to_bits() & !SIGN;
        let (_, live) = nearest(magnitude);
        let units_in_one = f32::from_bits((254 + 25) * ONE - power(live).to_bits());
        let live = f32::from_bits(live.to_bits() | element.to_bits() & SIGN);
        let units = (element - live) * units_in_one + TO_WHOLE;
        // What becomes infinite, and NaN, has no rest.
        Rest(if magnitude < ROUNDED_UP { units.to_bits() as i16 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: sign, exponent and fraction.
    #[test]
    fn every_pattern_is_decoded() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let magnitude = match (exponent, fraction) {
                (31, 0.0) => f32::INFINITY,
                (31, _) => f32::NAN,
                (0, _) => fraction * 2.0_f32.powi(-24),
                _ => (1024.0 + fraction) * 2.0_f32.powi(exponent - 25),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
            let found = Float16(bits).decode();
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#06x}: {found} instead of {expected}"
            );
        }
    }

    /// Nearest by the definition: no other float16 is nearer, and of two as near it is the even one.
    #[test]
    fn numbers_become_the_nearest() {
        let near = |x: f32| Float16::encode(of_one_nan(x), &Dither::default()).0;
        for bits in 0..0x7C00_u16 {
            let (this, next) = (Float16(bits).decode(), Float16(bits + 1).decode());
            let next = if next.is_finite() { next } else { 65536.0 };
            let middle = (this + next) / 2.0; // exact in f32
            let even = bits + (bits & 1);
            for (x, expected) in [
                (this, bits),
                (middle.next_down(), bits),
                (middle, even),
                (middle.next_up(), bits + 1),
            ] {
                assert_eq!(near(x), expected, "{x:e}");
                assert_eq!(near(-x), expected | 0x8000, "{x:e}");
            }
        }
        assert_eq!(near(f32::MAX), 0x7C00);
        assert_eq!(near(f32::NEG_INFINITY), 0xFC00);
        assert!(Float16(near(f32::NAN)).decode().is_nan());
        assert_eq!(near(f32::from_bits(1)), 0);
    }

    #[test]
    fn a_float16_and_its_rest_are_the_whole_number() {
        let joined = |x: f32| Rest::of(x).join(Float16::encode(x, &Dither::default()).decode());
        let mut bits = (127 - 16) * ONE;
        while f32::from_bits(bits) < 65_520.0 {
            let x = f32::from_bits(bits);
            assert_eq!((joined(x), joined(-x)), (x, -x));
            bits += 97;
        }
        for bits in (0..(127 - 16) * ONE).step_by(1 << 12 | 1) {
            let x = f32::from_bits(bits);
            assert!((joined(x) - x).abs() <= 2.0_f32.powi(-40), "{x:e}");
        }
        assert_eq!(joined(f32::INFINITY), f32::INFINITY);
        assert!(joined(f32::NAN).is_nan());
    }
}
