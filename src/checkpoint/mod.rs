//! Checkpoints: files in the safetensors format that are whole or not there.
//!
//! # The promise
//!
//! A save that is cut short, by a full disk, Ctrl-C, a kill or a power failure, leaves the old file as
//! it was. What is written is a sibling, `<file>.partial`, under a lock; when all of it is on
//! the disk it is renamed to the file, and the directory is flushed. A sibling that a kill has left is
//! used again by the next save.
//!
//! On a file system without locks the sibling is `<file>.<16 digits>.partial`, another one for each save:
//! of two that save at the same time the later one's file stays, and each is whole. There nobody can tell
//! a sibling that a kill has left from one that is written, so it stays. See [`Draft::unlocked`].
//!
//! An opened file is whole: header, sizes and checksum were checked before anything of it is used.
//! A file that changes after that gives an error and never other bytes.
//!
//! # The format
//!
//! The file is a safetensors file, which any reader of that format takes: eight bytes with the length of
//! the header, little endian; the header, JSON; the body. Of all the ways to write one, format 1 is this,
//! and a header in another form is refused:
//!
//! - `__metadata__` comes first, in it `thalweg.checksum` and `thalweg.format`, then the caller's keys
//!   by their UTF-8 bytes. So the checksum's 32 digits are at a fixed place, byte 45.
//! - Tensors follow in the order of the body: those with the largest elements first, then by name. They
//!   lie there without gaps, in C order, little endian.
//! - There is no white space but spaces at the end, so many that the body begins at the next multiple of
//!   64. Strings have no escapes but those JSON needs, the short ones where there are some.
//!
//! The checksum is the XXH3-128 with seed 0 of the whole file, with zeros (`0`) for its own digits; it is
//! written in lower-case hex. It finds damage, and no forgery.
//!
//! The same content gives the same bytes.
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
