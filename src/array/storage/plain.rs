//! Elements stored without encoding.

use super::Encoding;

macro_rules! plain {
    ($($float:ident)*) => {
        $(impl Encoding for $float {
            type Element = Self;

            #[inline(always)]
            fn decode(self) -> Self {
                self
            }

            #[inline(always)]
            fn encode(element: Self) -> Self {
                element
            }
        })*
    };
}

plain!(f32 f64);
