//! Storages: the meaning of an array's bytes.
//!
//! A rule computes in an [`Element`]. Memory holds either the element itself or an encoding of it.
//! Encodings are decoded and encoded in the buffers that strided arrays use, so storages do not
//! depend on rules, nor rules on storages. A new storage is a file here and a row of `storages!`.

#[cfg(feature = "toys")]
mod halves;
mod plain;

use safetensors::Dtype;

use crate::number::element::{Element, Kind};

/// An element as it lies in memory.
pub(crate) trait Encoding: Copy + 'static {
    /// The type in which a rule computes.
    type Element: Element;

    /// The element that these bytes encode.
    fn decode(self) -> Self::Element;

    /// The nearest value that can be stored.
    fn encode(element: Self::Element) -> Self;
}

/// The table of storages. A row has the storage's name, its type in memory, its element type, and
/// its names in NumPy and in safetensors.
macro_rules! storages {
    ($($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?: $encoding:ty, $kind:ident, $numpy:literal,
        $dtype:ident;)*) => {
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

        /// `match_encoding!(storage, S => work)` runs `work` with `S` as the type of the elements
        /// in memory.
        macro_rules! match_encoding {
            ($value:expr, $alias:ident => $work:expr) => {
                match $value {
                    $($(#[cfg($cfg)])? $crate::array::storage::Storage::$storage => {
                        type $alias = $crate::array::storage::encodings::$storage;
                        $work
                    })*
                }
            };
        }
        pub(crate) use match_encoding;

        /// The types in memory, by storage name.
        pub(crate) mod encodings {
            #[cfg(feature = "toys")]
            use super::halves;

            $($(#[cfg($cfg)])? pub(crate) type $storage = $encoding;)*
        }
    };
}

storages! {
    /// `f32`
    F32: f32, F32, "float32", F32;
    /// `f64`
    F64: f64, F64, "float64", F64;
    /// `f32` as two halves; for tests only.
    Halves if feature = "toys": halves::Halves, F32, "u2,u2", I32;
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
