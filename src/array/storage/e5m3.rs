//! Second moments in one byte: five bits of exponent and three of fraction, above an exponent that
//! a block of elements shares.
//!
//! A code is never rounded to zero in a block that has anything: the smallest numbers become 2^-31
//! of the block's largest. No denominator of an update can vanish under a first moment.

use std::hint::black_box;

use super::dither::{Dither, STRATA};
use super::nan::of_one_nan;

/// Elements that share an exponent.
pub const BLOCK: usize = 64;

/// Bits of an `f32` below a code's last one.
const CUT: u32 = 20;
/// The position of the exponent in an `f32`.
const EXPONENT: u32 = 23;
/// Octaves from the smallest code to the one of the largest number.
const OCTAVES: u32 = 31;
/// The smallest exponent of a block that has anything: 2^-115, below which second moments count as
/// zero.
const LEAST: u32 = 12;
/// The exponent of a block that has a NaN.
const MOST: u32 = 255 - OCTAVES;

/// Decodes elements from the start of a block on; one exponent for each block.
#[inline(always)]
pub(crate) fn decode(codes: &[u8], bases: &[u8], places: &mut [f32]) {
    let whole = codes.len() / BLOCK;
    let (blocks, rest) = codes.as_chunks::<BLOCK>();
    let (room, room_rest) = places.as_chunks_mut::<BLOCK>();
    for ((codes, base), places) in blocks.iter().zip(bases).zip(room) {
        decode_block(codes, *base, places);
    }
    if let (false, Some(base)) = (rest.is_empty(), bases.get(whole)) {
        for (code, place) in rest.iter().zip(room_rest) {
            *place = value(*code, floor(*base));
        }
    }
}

#[inline(always)]
fn decode_block(codes: &[u8; BLOCK], base: u8, places: &mut [f32; BLOCK]) {
    let (codes, _) = codes.as_chunks::<STRATA>();
    let (places, _) = places.as_chunks_mut::<STRATA>();
    let floor = floor(base);
    for (codes, places) in codes.iter().zip(places) {
        *places = numbers(black_box(codes), floor);
    }
}

/// The numbers of codes in a block with this [floor].
#[inline(always)]
pub(crate) fn numbers(codes: &[u8; STRATA], floor: u32) -> [f32; STRATA] {
    let mut made = [0.0; STRATA];
    for k in 0..STRATA {
        made[k] = value(codes[k], floor);
    }
    made
}

/// The bits of the smallest number of a block with this exponent.
#[inline(always)]
pub(crate) fn floor(base: u8) -> u32 {
    u32::from(base) << EXPONENT
}

#[inline(always)]
fn value(code: u8, floor: u32) -> f32 {
    f32::from_bits((u32::from(code) << CUT) + floor)
}

/// Whether every block is as [`encode`] makes it: its numbers are zero, at least 2^-115, or NaN
/// without a sign. Codes are from the start of a block on.
pub(crate) fn are_made(codes: &[u8], bases: &[u8]) -> bool {
    let is_zero = |codes: &[u8]| codes.iter().all(|code| *code == 0);
    codes.chunks(BLOCK).zip(bases).all(|(codes, base)| match u32::from(*base) {
        LEAST..=MOST => true,
        base => base == 0 && is_zero(codes),
    })
}

/// Encodes numbers from the start of a block on. Negative ones count as zero.
#[inline(always)]
pub(crate) fn encode(values: &[f32], dither: &Dither, codes: &mut [u8], bases: &mut [u8]) {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let (code_blocks, code_rest) = codes.as_chunks_mut::<BLOCK>();
    let mut bases = bases.iter_mut();
    for ((values, codes), base) in blocks.iter().zip(code_blocks).zip(bases.by_ref()) {
        (*codes, *base) = encode_block(values, dither);
    }
    if let (false, Some(base)) = (rest.is_empty(), bases.next()) {
        let mut padded = [0.0; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        let (codes, exponent) = encode_block(&padded, dither);
        code_rest.copy_from_slice(&codes[..rest.len()]);
        *base = exponent;
    }
}

#[inline(always)]
fn encode_block(values: &[f32; BLOCK], dither: &Dither) -> ([u8; BLOCK], u8) {
    let (mut clean, mut made) = ([[0.0; STRATA]; BLOCK / STRATA], [0; BLOCK]);
    let (values, _) = values.as_chunks::<STRATA>();
    for (clean, values) in clean.iter_mut().zip(values) {
        let values = *black_box(values);
        for k in 0..STRATA {
            let value = if values[k] <= 0.0 { 0.0 } else { values[k] };
            clean[k] = of_one_nan(value);
        }
    }
    let scale = Scale::of(&clean, dither);
    let (codes, _) = made.as_chunks_mut::<STRATA>();
    for (codes, clean) in codes.iter_mut().zip(&clean) {
        *codes = scale.codes(*black_box(clean));
    }
    (made, scale.base())
}

/// The numbers of a block: zero, positive, or NaN as arithmetic makes it.
pub(crate) type Numbers = [[f32; STRATA]; BLOCK / STRATA];

/// How the numbers of a block are encoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    /// The smallest number of the block.
    floor: f32,
    /// The dither, less the bits of the floor.
    words: [u32; STRATA],
}

/// The bits of the one NaN; those of all that arithmetic makes are as large or have a sign.
const NAN: u32 = 0x7FC0_0000;

impl Scale {
    #[inline(always)]
    pub(crate) fn of(numbers: &Numbers, dither: &Dither) -> Self {
        let mut tops = [0; STRATA];
        for numbers in numbers {
            for k in 0..STRATA {
                tops[k] = tops[k].max(numbers[k].to_bits());
            }
        }
        // An integer maximum, which is right for NaN and which the compiler reduces by itself.
        let mut top = 0;
        for of_lane in tops {
            top = top.max(of_lane);
        }
        let floor = base(top.min(NAN)) << EXPONENT;
        let mut words = dither.strata;
        for word in &mut words {
            *word = word.wrapping_sub(floor);
        }
        Scale { floor: f32::from_bits(floor), words }
    }

    /// The exponent of the block.
    #[inline(always)]
    pub(crate) fn base(&self) -> u8 {
        (self.floor.to_bits() >> EXPONENT) as u8
    }

    #[inline(always)]
    pub(crate) fn codes(&self, numbers: [f32; STRATA]) -> [u8; STRATA] {
        let Scale { floor, words } = *self;
        let mut made = [0; STRATA];
        for k in 0..STRATA {
            // A NaN stays, because this comparison is false.
            let kept = if floor > numbers[k] { floor } else { numbers[k] };
            made[k] = (kept.to_bits().min(NAN).wrapping_add(words[k]) >> CUT) as u8;
        }
        made
    }
}

/// The exponent of a block from the bits of its largest number, such that this number has a code
/// whatever the dither.
#[inline(always)]
fn base(top: u32) -> u32 {
    let above = (top + ((1 << CUT) - 1)) >> EXPONENT;
    if top == 0 { 0 } else { above.max(LEAST + OCTAVES) - OCTAVES }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(values: &[f32], dither: &Dither) -> Vec<f32> {
        let (mut codes, mut bases) = (vec![0; values.len()], vec![0; values.len().div_ceil(BLOCK)]);
        encode(values, dither, &mut codes, &mut bases);
        let mut found = vec![f32::NAN; values.len()];
        decode(&codes, &bases, &mut found);
        found
    }

    #[test]
    fn numbers_are_kept_to_an_eighth_and_none_vanishes() {
        for scale in [1e-25_f32, 1e-10, 1.0, 1e20] {
            let values: Vec<f32> = (0..150)
                .map(|i| scale * (1.0 + i as f32).powi(if i % 2 == 0 { -3 } else { 1 }))
                .collect();
            for step in [1, 2, 1 << 40] {
                for (found, value) in round_trip(&values, &Dither::at(step)).iter().zip(&values) {
                    assert!(*found > 0.0);
                    let error = (found / value - 1.0).abs();
                    assert!(
                        error <= 0.125 || *value <= scale * 150.0 * 2.0_f32.powi(-30),
                        "{value}: {found}"
                    );
                }
            }
        }
    }

    #[test]
    fn zeros_stay_and_nan_and_infinity_are_kept() {
        assert!(round_trip(&[0.0; 70], &Dither::at(7)).iter().all(|x| x.to_bits() == 0));
        for step in 1..100 {
            let found = round_trip(&[1.0, f32::NAN, -f32::NAN, f32::INFINITY], &Dither::at(step));
            assert!(found[1].is_nan() && found[2].is_nan() && found[3] == f32::INFINITY);
            let found = round_trip(&[f32::INFINITY, f32::MAX], &Dither::at(step));
            assert!(found[0] == f32::INFINITY && found[1] > 2.0_f32.powi(127));
        }
    }

    /// Every code of every exponent decodes to a number that encodes to itself.
    #[test]
    fn codes_are_fixed_points() {
        for base in LEAST as u8..=223 {
            let codes: [u8; 256] = std::array::from_fn(|code| code as u8);
            // The largest code fixes the exponent of its block.
            for codes in codes.chunks(BLOCK - 1) {
                let mut block = codes.to_vec();
                block.push(255);
                let mut values = vec![0.0; block.len()];
                decode(&block, &[base], &mut values);
                let (mut again, mut exponent) = (vec![0; block.len()], [0]);
                encode(&values, &Dither::default(), &mut again, &mut exponent);
                assert_eq!((again, exponent), (block, [base]));
            }
        }
    }
}
