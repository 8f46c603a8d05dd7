//! Every reason to refuse a checkpoint. After an error of a save the old file is unchanged, with
//! one exception: see [`Error::Io`].

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::error::Quoted;

/// Why a checkpoint was not saved, opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error. If the failed operation is the flush of the
    /// directory, the new file is complete and in place, but a power failure may bring the old one
    /// back.
    Io {
        /// The file to save, read or lock.
        path: PathBuf,
        /// The failed operation: a verb and its object, up to the path.
        operation: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path does not name a regular file.
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// Description of the path.
        what: &'static str,
    },
    /// Another writer holds the lock.
    Locked {
        /// The locked file or directory.
        path: PathBuf,
        /// The process that holds the lock, if the system tells. This process if another thread
        /// holds it.
        owner: Option<u32>,
    },
    /// The beginning of the file is not that of a checkpoint.
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// Description of the file.
        why: &'static str,
    },
    /// The file has a later format.
    Version {
        /// The file.
        path: PathBuf,
        /// The format named in the file.
        found: String,
        /// The format that this version reads.
        reads: &'static str,
    },
    /// The file begins as a checkpoint does, but is incomplete or changed.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part that is wrong.
        why: String,
    },
    /// The file was changed during a read.
    ChangedWhileRead {
        /// The file.
        path: PathBuf,
    },
    /// The format cannot hold the content to save.
    Content {
        /// The content refused, and what is accepted.
        why: String,
    },
    /// A tensor's source gave more or fewer bytes than dtype and shape require, or the buffer to
    /// read into has another length.
    Length {
        /// The tensor.
        name: String,
        /// Bytes from the source (counting stops after the first excess), or the length of the
        /// buffer.
        got: u64,
        /// Bytes required by dtype and shape.
        expected: u64,
    },
    /// The caller's `pause` asked to stop.
    Interrupted,
    /// The machine is big endian.
    ByteOrder,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, operation, source } => {
                write!(f, "cannot {operation} {}: {source}", shown(path))
            }
            Error::NotAFile { path, what } => {
                write!(f, "{} is {what}; a checkpoint is a regular file", shown(path))
            }
            Error::Locked { path, owner: Some(owner) } => write!(
                f,
                "{} is locked by process {owner}; one writer at a time is allowed: wait for it, or close it",
                shown(path)
            ),
            Error::Locked { path, owner: None } => write!(
                f,
                "{} is locked by another process; one writer at a time is allowed: wait for it, or close it",
                shown(path)
            ),
            Error::NotACheckpoint { path, why } => {
                write!(f, "{} is not a checkpoint of thalweg: {why}", shown(path))
            }
            Error::Version { path, found, reads } => write!(
                f,
                "{} must have format {}, which this version of thalweg reads, got {}",
                shown(path),
                Quoted(reads),
                Quoted(found)
            ),
            Error::Damaged { path, why } => write!(f, "{} is damaged: {why}", shown(path)),
            Error::ChangedWhileRead { path } => {
                write!(f, "{} was changed while it was read", shown(path))
            }
            Error::Content { why } => f.write_str(why),
            Error::Length { name, got, expected } if got > expected => write!(
                f,
                "tensor {} must have {expected} bytes by its dtype and shape, got {got} or more",
                Quoted(name)
            ),
            Error::Length { name, got, expected } => write!(
                f,
                "tensor {} must have {expected} bytes by its dtype and shape, got {got}",
                Quoted(name)
            ),
            Error::Interrupted => f.write_str("interrupted"),
            Error::ByteOrder => f.write_str(
                "checkpoints can be saved and read on little-endian machines only; this machine is \
                 big-endian",
            ),
        }
    }
}

/// Makes an [`Error::Io`] from an error of the operating system.
pub(super) fn failed(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), operation, source }
}

/// [`Error::NotAFile`] unless the metadata belong to a regular file.
pub(super) fn check_regular(path: &Path, found: &Metadata) -> Result<(), Error> {
    if found.is_file() {
        return Ok(());
    }
    let what = if found.is_dir() { "a directory" } else { "a device, a pipe or a socket" };
    Err(Error::NotAFile { path: path.to_owned(), what })
}

/// A path, quoted as by Python's `repr`.
fn shown(path: &Path) -> String {
    Quoted(&path.to_string_lossy()).to_string()
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Returned by a `pause` to stop a save or an opening, for example on Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for Error {
    fn from(_: Interrupted) -> Self {
        Error::Interrupted
    }
}
