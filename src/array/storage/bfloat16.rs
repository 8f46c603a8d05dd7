//! bfloat16: the upper half of an `f32`.

use super::Decoding;

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
