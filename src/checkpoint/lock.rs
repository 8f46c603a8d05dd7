//! Locks on files and directories: one writer at a time, among processes and among the threads of
//! one process.
//!
//! On Unix these are record locks, because a forked child inherits a lock on an open file but not a
//! record lock. Record locks belong to the process: they do not exclude its threads, and closing
//! *any* descriptor of the file drops them. Therefore a list holds all locks of the process by
//! device and inode. It is searched before a file is opened, and it is void in a forked child.
//!
//! Some file systems have no record locks: NFS, Lustre or FUSE, depending on the mount options.
//! There the list is the only protection, and [`Lock::unlocked`] tells so.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::error::{Error, failed};
use super::leftover::{Leftover, written};
#[cfg(not(unix))]
use super::open_files as system;
#[cfg(unix)]
use super::record_locks as system;

/// Attempts to take a lock when the file is renamed in between.
const ATTEMPTS: usize = 100;

/// A locked file. Dropping it releases the lock.
///
/// A forked child inherits the value but not the lock: see [`Lock::is_held`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    held: system::Held,
    unlocked: Option<io::Error>,
}

impl Lock {
    /// Opens a file and locks it. Creates a missing file, does not wait, and does not follow a
    /// symbolic link. The file stays when the lock is dropped.
    ///
    /// While the lock is held, no other code of the process should open and close the file. That
    /// drops the lock until the next [`Lock::is_held`].
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process or another thread holds the lock; [`Error::NotAFile`]
    /// if the path is not a regular file; [`Error::Io`].
    pub fn file(path: &Path) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS {
            let (held, unlocked) = system::acquire(path)?;
            let lock = Lock { path: path.to_owned(), held, unlocked };
            if lock.is_named() {
                return Ok(lock);
            }
        }
        Err(Error::Locked { path: path.to_owned(), owner: None })
    }

    /// Locks a directory by a file in it, and writes the process id to that file.
    ///
    /// # Errors
    ///
    /// As [`Lock::file`]; [`Error::Locked`] names the directory.
    pub fn directory(directory: &Path, name: &str) -> Result<Self, Error> {
        let lock = Self::file(&directory.join(name)).map_err(|error| match error {
            Error::Locked { path, owner } => Error::Locked {
                path: directory.to_owned(),
                owner: owner.or_else(|| written(&path)),
            },
            other => other,
        })?;
        let mut file = lock.as_file();
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed(&lock.path, "write"))?;
        Ok(lock)
    }

    /// Whether any thread of this process holds the lock of a file. None if not; otherwise whether
    /// the file system has no locks, as for [`Lock::unlocked`].
    pub fn held_here(path: &Path) -> Option<bool> {
        system::held_here(path)
    }

    /// Whether the calling process holds the lock, and the locked file still has its name. False in
    /// a forked child of the holder. Takes a lost lock again unless another process has it; a lock
    /// is lost when other code of the process opens and closes the file.
    pub fn is_held(&self) -> bool {
        self.held.is_held(self.unlocked.is_none()) && self.is_named()
    }

    /// The file system's error if it has no locks: then the lock excludes other threads but not
    /// other processes. None otherwise.
    pub fn unlocked(&self) -> Option<&io::Error> {
        self.unlocked.as_ref()
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the locked file still has its name. A faster writer may have renamed it.
    pub(super) fn is_named(&self) -> bool {
        self.held.is_named(&self.path)
    }

    pub(super) fn as_file(&self) -> &File {
        self.held.as_file()
    }

    /// Removes a file that cannot be written, unless its lock is held. A kill just before the
    /// rename leaves this kind of sibling if the old file is read-only.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`].
    pub(super) fn discard(path: &Path) -> Result<Leftover, Error> {
        system::discard(path)
    }
}
