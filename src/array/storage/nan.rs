//! NaN in encodings, which have only one.

/// The number itself, or the one NaN that stands for all.
#[inline(always)]
pub(crate) fn of_one_nan(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7FC0_0000) } else { x }
}
