//! What the bytes of an array mean.
//!
//! A rule computes in an [`Element`]. What lies in memory may be the element itself, or something that it
//! is decoded from and encoded to, in the buffers through which strided arrays go: so a storage knows
//! nothing of rules, and rules nothing of storages. A new one is its file here and a row of
//! `storages!`.

#[cfg(feature = "toys")]
mod halves;
mod plain;

use safetensors::Dtype;

use crate::number::element::{Element, Kind};

/// An element as it lies in memory.
pub(crate) trait Encoding: Copy + 'static {
    /// What a rule computes in.
    type Element: Element;

    /// The element.
    fn decode(self) -> Self::Element;

    /// The nearest that can be stored.
    fn encode(element: Self::Element) -> Self;
}

/// The table of storages. A row is its name, what it looks like in memory, its element, and what NumPy
/// and safetensors call it.
macro_rules! storages {
    ($($(#[$doc:meta])* $storage:ident $(if $cfg:meta)?: $encoding:ty, $kind:ident, $numpy:literal,
        $dtype:ident;)*) => {
        /// What the bytes of an array mean.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Storage {
            $($(#[cfg($cfg)])? $(#[$doc])* $storage,)*
        }

        impl Storage {
            /// All of them.
            pub const ALL: &[Storage] = &[$($(#[cfg($cfg)])? Storage::$storage,)*];

            /// What a rule computes in.
            pub const fn element(self) -> Kind {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => Kind::$kind,)*
                }
            }

            /// Bytes of an element.
            pub const fn size(self) -> usize {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => size_of::<$encoding>(),)*
                }
            }

            /// NumPy's description of the type.
            pub const fn numpy(self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => $numpy,)*
                }
            }

            /// The type in a checkpoint.
            pub const fn dtype(self) -> Dtype {
                match self {
                    $($(#[cfg($cfg)])? Storage::$storage => Dtype::$dtype,)*
                }
            }
        }

        /// `match_encoding!(storage, S => work)`: does the work with the type that elements have in memory.
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

        /// The types by the names of their storages.
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
    /// `f32` as two halves, of which tests have use.
    Halves if feature = "toys": halves::Halves, F32, "u2,u2", I32;
}

impl Storage {
    /// Whether elements are stored as themselves.
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
