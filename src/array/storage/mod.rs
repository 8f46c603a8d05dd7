//! Storages: the meaning of an array's bytes.
//!
//! A rule computes in an [`Element`]. Memory holds either the element itself or an encoding of it.
//! Encodings are decoded and encoded in the buffers that strided arrays use, and the usual ones of
//! training in `tiles` without buffers. So storages do not depend on rules, nor rules on storages. A
//! new storage is a file here and a row of `storages!`.

mod bfloat16;
pub(crate) mod dither;
pub mod e5m3;
pub(crate) mod float16;
#[cfg(feature = "toys")]
mod halves;
pub(crate) mod nan;
mod plain;

use safetensors::Dtype;

use crate::number::element::{Element, Kind};
use dither::Dither;

/// An element as it lies in memory.
pub(crate) trait Decoding: Copy + 'static {
    /// The type in which a rule computes.
    type Element: Element;

    /// The element that these bytes encode.
    fn decode(self) -> Self::Element;

    /// The element, or zero if its magnitude is below `floor`.
    #[inline(always)]
    fn flushed(self, floor: Self::Element) -> Self::Element {
        self.decode().flush(floor)
    }
}

/// An element as it lies in memory that an update writes.
pub(crate) trait Encoding: Decoding {
    /// The value that is stored of a [prepared](Encoding::prepared) element: the nearest, or a near
    /// one by the dither.
    fn encode(element: Self::Element, dither: &Dither) -> Self;

    /// An element as [`Encoding::encode`] takes it: of one NaN, where an encoding has only one.
    #[inline(always)]
    fn prepared(element: Self::Element) -> Self::Element {
        element
    }
}

/// What a live parameter of fewer digits lacks, in an array beside it.
pub(crate) trait Companion: Copy + 'static {
    /// The parameter: the live number with what it lacks.
    fn join(self, live: f32) -> f32;
    /// What the live number of this parameter, of [one NaN](nan::of_one_nan), lacks.
    fn of(element: f32) -> Self;
}

/// The table of storages. A row has the storage's name, its type in memory, its element type, and
/// its names in NumPy and in safetensors. Storages are `whole` if they keep every digit of an
/// element; `narrow` if each element is decoded and encoded by itself; `parts` if they mean nothing
/// without another array.
macro_rules! storages {
    (whole { $($whole:tt)* } narrow { $($narrow:tt)* } parts { $($parts:tt)* }) => {
        storages! { all: $($whole)* $($narrow)* $($parts)* }
        storages! { matching: match_whole, is_whole, $($whole)* }
        storages! { matching: match_narrow, is_narrow, $($narrow)* }
    };
    (matching: $name:ident, $is:ident, $($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?:
        $encoding:ty, $kind:ident, $numpy:literal, $dtype:ident;)*) => {
        /// `match_whole!(storage, S => work)` runs `work` with `S` as the type of the elements in
        /// memory, if the storage is whole; `match_narrow!`, if it is narrow.
        macro_rules! $name {
            ($value:expr, $alias:ident => $work:expr) => {
                match $value {
                    $($(#[cfg($cfg)])? $crate::array::storage::Storage::$storage => {
                        type $alias = $crate::array::storage::encodings::$storage;
                        $work
                    })*
                    _ => {}
                }
            };
        }
        pub(crate) use $name;

        impl Storage {
            /// Whether the table has it under this heading.
            pub const fn $is(self) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => true,)*
                    _ => false,
                }
            }
        }
    };
    (all: $($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?: $encoding:ty, $kind:ident,
        $numpy:literal, $dtype:ident;)*) => {
        /// The meaning of an array's bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Storage {
            $($(#[cfg($cfg)])? $(#[$doc])* $storage,)*
        }

        impl Storage {
            /// Every storage.
            pub const ALL: &[Storage] = &[$($(#[cfg($cfg)])? Storage::$storage,)*];

            /// The type in which a rule computes.
            pub const fn element(self) -> Kind {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => Kind::$kind,)*
                }
            }

            /// Bytes per element.
            pub const fn size(self) -> usize {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => size_of::<encodings::$storage>(),)*
                }
            }

            /// NumPy's name for the type.
            pub const fn numpy(self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => $numpy,)*
                }
            }

            /// The dtype in a checkpoint.
            pub const fn dtype(self) -> Dtype {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => Dtype::$dtype,)*
                }
            }
        }

        /// The types in memory, by storage name.
        pub(crate) mod encodings {
            #[cfg(feature = "toys")]
            use super::halves;
            use super::{bfloat16, float16};

            $($(#[cfg($cfg)])? pub(crate) type $storage = $encoding;)*
        }
    };
}

storages! {
    whole {
        /// `f32`
        F32: f32, F32, "float32", F32;
        /// `f64`
        F64: f64, F64, "float64", F64;
        /// `f32` as two halves; for tests only.
        Halves if feature = "toys": halves::Halves, F32, "u2,u2", I32;
    }
    narrow {
        /// Half precision; of a parameter with a [`Storage::Low`].
        F16: float16::Float16, F32, "float16", F16;
        /// The upper half of an `f32`; of a parameter with a [`Storage::Low`].
        BF16: bfloat16::Bfloat16, F32, "bfloat16", BF16;
        /// The upper half of an `f32`, dithered: state.
        Dithered: bfloat16::Dithered, F32, "uint16", BF16;
    }
    parts {
        /// What a parameter in `F16` or `BF16` lacks of its `f32`.
        Low: i16, F32, "int16", I16;
        /// Codes of one byte, with an exponent for each [block](e5m3::BLOCK) of the logical order:
        /// second moments.
        E5M3: u8, F32, "uint8", U8;
        /// Numbers of updates, of the rows of a parameter.
        Count: i64, F64, "int64", I64;
    }
}

/// `match_companion!(storage, C => work)` runs `work` with `C` as the type of the companion's
/// elements, if an array of this storage can have one.
macro_rules! match_companion {
    ($value:expr, $alias:ident => $work:expr) => {
        match $value {
            $crate::array::storage::Storage::F16 => {
                type $alias = $crate::array::storage::LowOfF16;
                $work
            }
            $crate::array::storage::Storage::BF16 => {
                type $alias = $crate::array::storage::LowOfBF16;
                $work
            }
            _ => {}
        }
    };
}
pub(crate) use match_companion;

/// The companion of a parameter in `F16`.
pub(crate) type LowOfF16 = float16::Rest;
/// The companion of a parameter in `BF16`.
pub(crate) type LowOfBF16 = bfloat16::LowerHalf;

impl Storage {
    /// Whether parameters and gradients may have it.
    pub const fn is_live(self) -> bool {
        self.is_whole() || matches!(self, Storage::F16 | Storage::BF16)
    }

    /// The storage that keeps every digit of the element.
    pub fn whole(self) -> Self {
        if self.is_whole() { self } else { self.element().into() }
    }

    /// Whether memory holds the elements themselves.
    pub fn is_plain(self) -> bool {
        self == self.element().into()
    }
}

impl From<Kind> for Storage {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::F32 => Storage::F32,
            Kind::F64 => Storage::F64,
        }
    }
}
