//! Every way a checkpoint can be refused. A save that returns one of these has left the old file as it
//! was, except where [`Error::Io`] says otherwise.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::error::Quoted;

/// Why a checkpoint was not saved, opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. If the operation is to flush the directory, the new file is whole
    /// and in its place, but a power failure may bring the old one back.
    Io {
        /// The file that was to be saved, read or locked.
        path: PathBuf,
        /// What could not be done with it: a verb, and its object up to the path.
        operation: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path names what is no regular file.
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Another writer, or another holder of a lock file, is at work.
    Locked {
        /// The file or directory that is locked.
        path: PathBuf,
        /// The process that holds it, where the system tells; this one if another thread does.
        owner: Option<u32>,
    },
    /// The file does not begin as a checkpoint does.
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The file has a format of the future.
    Version {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: String,
        /// The one that is read.
        reads: &'static str,
    },
    /// The file begins as a checkpoint does, and is not whole.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Somebody wrote into the file while it was read.
    ChangedWhileRead {
        /// The file.
        path: PathBuf,
    },
    /// What was to be saved cannot be written in this format.
    Content {
        /// What, and what is accepted.
        why: String,
    },
    /// A tensor's source gave another number of bytes than its dtype and shape make, or what it is to be
    /// read into has another length.
    Length {
        /// The tensor.
        name: String,
        /// Bytes that the source gave (of those that are too many only the first were counted), or
        /// that there is room for.
        got: u64,
        /// Bytes that dtype and shape make.
        expected: u64,
    },
    /// The caller's `pause` asked to stop.
    Interrupted,
    /// The machine stores numbers with the most significant byte first.
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
                "{} is in use by process {owner}; one at a time writes to it: wait for it, or close it",
                shown(path)
            ),
            Error::Locked { path, owner: None } => write!(
                f,
                "{} is in use by another process; one at a time writes to it: wait for it, or close it",
                shown(path)
            ),
            Error::NotACheckpoint { path, why } => {
                write!(f, "{} is no checkpoint of thalweg: {why}", shown(path))
            }
            Error::Version { path, found, reads } => write!(
                f,
                "{} has format {}, this version of thalweg reads {reads}",
                shown(path),
                Quoted(found)
            ),
            Error::Damaged { path, why } => write!(f, "{} is damaged: {why}", shown(path)),
            Error::ChangedWhileRead { path } => {
                write!(f, "{} was changed while it was read", shown(path))
            }
            Error::Content { why } => f.write_str(why),
            Error::Length { name, got, expected } if got > expected => write!(
                f,
                "tensor {} has {expected} bytes by dtype and shape, its source gave {got} or more",
                Quoted(name)
            ),
            Error::Length { name, got, expected } => write!(
                f,
                "tensor {} has {expected} bytes by dtype and shape, its source gave {got}",
                Quoted(name)
            ),
            Error::Interrupted => f.write_str("interrupted"),
            Error::ByteOrder => f.write_str(
                "checkpoints are little endian, and this machine is big endian: they can neither be \
                 saved nor read here",
            ),
        }
    }
}

/// The error of an operation on a file, from that of the operating system.
pub(super) fn failed(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), operation, source }
}

/// [`Error::NotAFile`] unless the metadata are those of a regular file.
pub(super) fn check_regular(path: &Path, found: &Metadata) -> Result<(), Error> {
    if found.is_file() {
        return Ok(());
    }
    let what = if found.is_dir() { "a directory" } else { "a device, a pipe or a socket" };
    Err(Error::NotAFile { path: path.to_owned(), what })
}

/// A path as Python writes a string.
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

/// What a `pause` returns to stop a save or an opening, as Ctrl-C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for Error {
    fn from(_: Interrupted) -> Self {
        Error::Interrupted
    }
}
