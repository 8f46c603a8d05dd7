//! float16: half precision of IEEE 754.

use super::Decoding;

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
}
