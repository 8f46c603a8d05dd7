//! bfloat16: the upper half of an `f32`. A parameter is rounded to nearest, and a companion array
//! has what was cut off; state is dithered.

use super::dither::Dither;
use super::nan::of_one_nan;
use super::{Companion, Decoding, Encoding};

/// The bits of a bfloat16.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Bfloat16(u16);

impl Decoding for Bfloat16 {
    type Element = f32;

    #[inline(always)]
    fn decode(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl Encoding for Bfloat16 {
    /// The nearest; halves go up in magnitude.
    #[inline(always)]
    fn encode(element: f32, _: &Dither) -> Self {
        Bfloat16((element.to_bits().wrapping_add(0x8000) >> 16) as u16)
    }

    #[inline(always)]
    fn prepared(element: f32) -> f32 {
        of_one_nan(element)
    }
}

/// The bits of a bfloat16 of state, rounded up or down by the dither.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Dithered(u16);

impl Decoding for Dithered {
    type Element = f32;

    #[inline(always)]
    fn decode(self) -> f32 {
        Bfloat16(self.0).decode()
    }

    /// Compares before it decodes, while twice as many fit a vector. The floor is a power of two.
    #[inline(always)]
    fn flushed(self, floor: f32) -> f32 {
        let least = (floor.to_bits() >> 16) as u16;
        Dithered(if self.0 & 0x7FFF < least { 0 } else { self.0 }).decode()
    }
}

impl Encoding for Dithered {
    #[inline(always)]
    fn encode(element: f32, dither: &Dither) -> Self {
        Dithered((element.to_bits().wrapping_add(dither.word) >> 16) as u16)
    }

    #[inline(always)]
    fn prepared(element: f32) -> f32 {
        of_one_nan(element)
    }
}

/// The companion of a [`Bfloat16`]: the lower half of the `f32`, negative if the upper half was
/// rounded up. Both together are exactly the `f32`.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct LowerHalf(i16);

impl Companion for LowerHalf {
    #[inline(always)]
    fn join(self, live: f32) -> f32 {
        f32::from_bits(live.to_bits().wrapping_add_signed(self.0.into()))
    }

    #[inline(always)]
    fn of(element: f32) -> Self {
        LowerHalf(element.to_bits() as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with every pattern in the lower half, and special and ordinary upper halves.
    #[test]
    fn the_halves_are_the_whole_number() {
        let special = [0, 1, 0x7F, 0x80, 0x3F7F, 0x3F80, 0x7F7E, 0x7F7F, 0x7F80, 0x7FC0, 0x1234];
        for upper in special.into_iter().flat_map(|upper| [upper, upper | 0x8000]) {
            for lower in 0..=0xFFFF {
                let x = f32::from_bits(upper << 16 | lower);
                let one = of_one_nan(x);
                let live = Bfloat16::encode(one, &Dither::default()).decode();
                let whole = LowerHalf::of(one).join(live);
                let error = (f64::from(live) - f64::from(x)).abs();
                assert!(whole.to_bits() == x.to_bits() || whole.is_nan() && x.is_nan(), "{x:e}");
                assert!(live.is_nan() == x.is_nan());
                let unit = f64::from(f32::from_bits((x.to_bits() & 0x7F80_0000) | 0x1_0000))
                    - f64::from(f32::from_bits(x.to_bits() & 0x7F80_0000));
                assert!(!x.is_finite() || !live.is_finite() || error <= unit / 2.0, "{x:e}");
            }
        }
    }

    /// Over the words of many steps, the mean of the stored values is the number.
    #[test]
    fn dither_has_no_bias() {
        for x in [1.0_f32, 1.003, -3.7e-8, 2.0e20] {
            let steps = 1..=4096;
            let sum: f64 = steps
                .clone()
                .map(|t| f64::from(Dithered::encode(x, &Dither::at(t)).decode()))
                .sum();
            let mean = sum / steps.count() as f64;
            assert!((mean / f64::from(x) - 1.0).abs() < 2e-6, "{x}: {mean}");
        }
    }
}
