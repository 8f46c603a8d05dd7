//! Checkpoints: files in the safetensors format, written completely or not at all.
//!
//! # The promise
//!
//! A save that is cut short by a full disk, Ctrl-C, a kill or a power failure leaves the old file
//! unchanged. The save writes a sibling, `<file>.partial`, under a lock. When the whole sibling is
//! on the disk, it is renamed to the file, and the directory is flushed. A sibling left by a kill
//! is reused by the next save.
//!
//! On a file system without locks, each save has its own sibling, `<file>.<16 digits>.partial`. Of
//! two simultaneous saves the later one's file stays, and both files are complete. A sibling left
//! by a kill stays, because no lock distinguishes it from one that is being written. See
//! [`Draft::unlocked`].
//!
//! An opened file is complete: header, sizes and checksum are checked before any of it is used. If
//! the file changes later, reading returns an error and never other bytes.
//!
//! # The format
//!
//! The file is a safetensors file, readable by any reader of that format: eight bytes with the
//! length of the header, little endian; the header, JSON; the body. Safetensors allows several
//! headers for one content. Format 1 allows exactly this one:
//!
//! - `__metadata__` comes first. It begins with `thalweg.checksum` and `thalweg.format`; the caller's
//!   keys follow, sorted by their UTF-8 bytes. So the 32 digits of the checksum always begin at byte 45.
//! - Tensors follow in the order of the body: by descending element size, then by name. The body holds
//!   them without gaps, in C order, little endian.
//! - There is no white space except spaces at the end, which pad the header so that the body begins at
//!   a multiple of 64. Strings have only the escapes that JSON requires, in their short form if any.
//!
//! The checksum is the XXH3-128, seed 0, of the whole file with zeros (`0`) in place of its own
//! digits, in lower-case hex. It detects damage, not forgery.
//!
//! Equal content gives equal bytes.
//!
//! # Examples
//!
//! ```
//! use std::collections::BTreeMap;
//! use thalweg::checkpoint::{Checkpoint, Dtype, NewTensor, save};
//!
//! let path = std::env::temp_dir().join(format!("thalweg-doc-{}.safetensors", std::process::id()));
//! let (w, b) = ([1.0_f32, 2.0, 3.0, 4.0], [0.5_f32, -0.5]);
//! let tensors = vec![
//!     NewTensor { name: "w".to_owned(), dtype: Dtype::F32, shape: vec![2, 2], source: &w[..] },
//!     NewTensor { name: "b".to_owned(), dtype: Dtype::F32, shape: vec![2], source: &b[..] },
//! ];
//! let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
//! save(&path, &metadata, tensors, &mut || Ok(()))?;
//!
//! let checkpoint = Checkpoint::open(&path, &mut || Ok(()))?;
//! assert_eq!(checkpoint.metadata(), &metadata);
//! let index = checkpoint.index("b").unwrap();
//! assert_eq!(checkpoint.tensors()[index].shape, [2]);
//! let mut bytes = Vec::new();
//! checkpoint.read(index, &mut |_, piece| bytes.extend_from_slice(piece))?;
//! assert_eq!(bytes, [0.5_f32.to_le_bytes(), (-0.5_f32).to_le_bytes()].concat());
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), thalweg::checkpoint::Error>(())
//! ```

mod destination;
mod draft;
mod error;
mod header;
mod leftover;
mod lock;
#[cfg(not(unix))]
mod open_files;
mod read;
#[cfg(unix)]
mod record_locks;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use destination::{ending, sync_directory};
pub use draft::{Draft, save};
pub use error::{Error, Interrupted};
pub use header::{FORMAT, Header, SavedTensor};
pub use lock::Lock;
pub use read::Checkpoint;
pub use safetensors::Dtype;
pub use source::{NewTensor, Source};
