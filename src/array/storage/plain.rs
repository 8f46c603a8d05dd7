//! Elements stored without encoding.

use super::dither::Dither;
use super::{Decoding, Encoding};

macro_rules! plain {
    ($($float:ident)*) => {
        $(impl Decoding for $float {
            type Element = Self;

            #[inline(always)]
            fn decode(self) -> Self {
                self
            }
        }

        impl Encoding for $float {
            #[inline(always)]
            fn encode(element: Self, _: &Dither) -> Self {
                element
            }
        })*
    };
}

plain!(f32 f64);
