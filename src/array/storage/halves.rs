//! `f32` as two 16-bit halves, the high one first. The encoding changes no number; tests use it to
//! show that only this folder depends on storages.

use super::dither::Dither;
use super::{Decoding, Encoding};

/// The high half, then the low half.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Halves([u16; 2]);

impl Decoding for Halves {
    type Element = f32;

    #[inline(always)]
    fn decode(self) -> f32 {
        let Halves([high, low]) = self;
        f32::from_bits(u32::from(high) << 16 | u32::from(low))
    }
}

impl Encoding for Halves {
    #[inline(always)]
    fn encode(element: f32, _: &Dither) -> Self {
        let bits = element.to_bits();
        Halves([(bits >> 16) as u16, bits as u16])
    }
}
