//! Storages: the meaning of an array's bytes.
//!
//! A rule computes in an [`Element`]. Memory holds either the element itself or an encoding of it.
//! Encodings are decoded and encoded in the buffers that strided arrays use, so storages do not
//! depend on rules, nor rules on storages. A new storage is a file here and a row of `storages!`.

mod bfloat16;
mod float16;
#[cfg(feature = "toys")]
mod halves;
mod plain;

use safetensors::Dtype;

use crate::number::element::{Element, Kind};

/// An element as it lies in memory.
pub(crate) trait Decoding: Copy + 'static {
    /// The type in which a rule computes.
    type Element: Element;

    /// The element that these bytes encode.
    fn decode(self) -> Self::Element;
}

/// An element as it lies in memory that an update writes.
pub(crate) trait Encoding: Decoding {
    /// The nearest value that can be stored.
    fn encode(element: Self::Element) -> Self;
}

/// The table of storages: those that an update writes, and those that it only reads, as gradients. A
/// row has the storage's name, its type in memory, its element type, and its names in NumPy and in
/// safetensors.
macro_rules! storages {
    (written { $($written:tt)* } read { $($read:tt)* }) => {
        storages! { all: $($written)* $($read)* }
        storages! { matching: match_written, $($written)* }
        storages! { matching: match_read, $($read)* }

        impl Storage {
            /// Whether an update writes it: only then parameters and state may have it.
            pub const fn is_written(self) -> bool {
                storages! { is_one: self, $($written)* }
            }
        }
    };
    (is_one: $value:expr, $($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?: $encoding:ty,
        $kind:ident, $numpy:literal, $dtype:ident;)*) => {
        match $value {
            $($(#[cfg($cfg)])? Storage::$storage => true,)*
            _ => false,
        }
    };
    (matching: $name:ident, $($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?: $encoding:ty,
        $kind:ident, $numpy:literal, $dtype:ident;)*) => {
        /// `match_written!(storage, S => work)` runs `work` with `S` as the type of the elements
        /// in memory, if an update writes the storage; `match_read!`, if it only reads it.
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
                    $($(#[cfg($cfg)])? Storage::$storage => size_of::<$encoding>(),)*
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
    written {
        /// `f32`
        F32: f32, F32, "float32", F32;
        /// `f64`
        F64: f64, F64, "float64", F64;
        /// `f32` as two halves; for tests only.
        Halves if feature = "toys": halves::Halves, F32, "u2,u2", I32;
    }
    read {
        /// Half precision
        F16: float16::Float16, F32, "float16", F16;
        /// The upper half of an `f32`
        BF16: bfloat16::Bfloat16, F32, "bfloat16", BF16;
    }
}

impl Storage {
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
