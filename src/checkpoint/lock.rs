//! Locks on files and directories: one writer at a time, among processes and among the threads of one.
//!
//! On Unix it is a record lock, which a forked child does not inherit, unlike a lock on the open file.
//! Record locks are the process's: they do not exclude its threads, and closing *any* descriptor of
//! the file drops them. So all that this process holds is listed by device and inode, looked up before
//! a file is opened, and void in a forked child.
//!
//! Some file systems have no record locks: NFS, Lustre or FUSE, as they are mounted. There the list is
//! all that there is, and a lock says so.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::error::{Error, failed};
use super::leftover::{Leftover, written};
#[cfg(not(unix))]
use super::open_files as system;
#[cfg(unix)]
use super::record_locks as system;

/// How often a lock is taken anew because the file was renamed meanwhile.
const ATTEMPTS: usize = 100;

/// A locked file, until it is dropped.
///
/// A forked child inherits the value and not the lock: see [`Lock::is_held`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    held: system::Held,
    unlocked: Option<io::Error>,
}

impl Lock {
    /// Opens the file of that name, creates it if there is none, and locks it. Does not wait, and does
    /// not follow a symbolic link. The file stays when the lock is dropped.
    ///
    /// While it is held, nothing else in the process should open and close the file, or the lock is lost
    /// until [`Lock::is_held`] is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process or another thread holds it; [`Error::NotAFile`] if it is
    /// no regular file; [`Error::Io`].
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

    /// Locks a directory by a file in it, which then says which process has it.
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

    /// Whether this process holds the lock of a file, in whichever thread: None if it does not, else
    /// whether that is without a lock, as of [`Lock::unlocked`].
    pub fn held_here(path: &Path) -> Option<bool> {
        system::held_here(path)
    }

    /// Whether the calling process holds the lock, on the file that now has its name: not if it is a
    /// forked child of the one that does. A lock that was lost, because the process opened and closed
    /// the file elsewhere, is taken again unless another process was faster.
    pub fn is_held(&self) -> bool {
        self.held.is_held(self.unlocked.is_none()) && self.is_named()
    }

    /// What the file system says that has no locks: then the lock keeps other threads away, and no other
    /// process. None if it is a lock.
    pub fn unlocked(&self) -> Option<&io::Error> {
        self.unlocked.as_ref()
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the locked file still has its name: a writer that was faster may have renamed it.
    pub(super) fn is_named(&self) -> bool {
        self.held.is_named(&self.path)
    }

    pub(super) fn as_file(&self) -> &File {
        self.held.as_file()
    }

    /// Removes a file that may not be written, as one that was to take the place of a read-only file,
    /// unless somebody holds its lock.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`].
    pub(super) fn discard(path: &Path) -> Result<Leftover, Error> {
        system::discard(path)
    }
}
