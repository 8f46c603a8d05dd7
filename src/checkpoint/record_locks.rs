//! Record locks, for Unix.

#![allow(unsafe_code)] // record locks are not in std

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::mem::{self, ManuallyDrop};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{io, process};

use super::error::{Error, failed};
use super::leftover::{Leftover, is_unsupported};
use crate::machine::fork;

/// Device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Locks of this process.
type Files = BTreeMap<Identity, Entry>;

#[derive(Debug)]
struct Entry {
    /// The file system has no locks.
    unlocked: bool,
    /// Other descriptors of the file. Closing one drops the lock, so they stay open as long as the
    /// entry.
    files: Vec<File>,
}

/// The list, with the generation of the process it belongs to.
static HELD: Mutex<(u32, Files)> = Mutex::new((0, Files::new()));

/// Runs `work` on the list of this process. A fork waits for it, so a child never inherits a locked
/// mutex.
fn listed<T>(work: impl FnOnce(&mut Files) -> T) -> T {
    fork::whole(|| {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = fork::generation();
        if held.0 != generation {
            *held = (generation, Files::new());
        }
        work(&mut held.1)
    })
}

#[derive(Debug)]
pub(super) struct Held {
    file: ManuallyDrop<File>,
    identity: Identity,
    generation: u32,
}

impl Held {
    pub(super) fn is_held(&self, recorded: bool) -> bool {
        self.is_ours() && (!recorded || record(&self.file, libc::F_SETLK, Kind::Write).is_ok())
    }

    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    pub(super) fn is_named(&self, path: &Path) -> bool {
        is_named(path, self.identity)
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        listed(|held| {
            // SAFETY: `file` is taken only here, and the value is not used after its drop.
            let file = unsafe { ManuallyDrop::take(&mut self.file) };
            if self.is_ours() {
                held.remove(&self.identity);
            } else if let Some(entry) = held.get_mut(&self.identity) {
                entry.files.push(file); // closing it drops a lock of this child
            }
        });
    }
}

fn is_named(path: &Path, identity: Identity) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| self::identity(&found) == identity)
}

fn entry<'a>(held: &'a Files, path: &Path) -> Option<&'a Entry> {
    fs::symlink_metadata(path).ok().and_then(|found| held.get(&identity(&found)))
}

pub(super) fn held_here(path: &Path) -> Option<bool> {
    listed(|held| entry(held, path).map(|entry| entry.unlocked))
}

fn locked(path: &Path, owner: Option<u32>) -> Error {
    Error::Locked { path: path.to_owned(), owner }
}

fn locked_here(path: &Path) -> Error {
    locked(path, Some(process::id()))
}

/// Opens and locks a file. Also returns the file system's error if it has no locks.
pub(super) fn acquire(path: &Path) -> Result<(Held, Option<io::Error>), Error> {
    listed(|held| {
        if entry(held, path).is_some() {
            return Err(locked_here(path));
        }
        let file = opened(path, OpenOptions::new().write(true).create(true).truncate(false))?;
        let metadata = file.metadata().map_err(failed(path, "inspect"))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: path.to_owned(), what: "no regular file" });
        }
        let identity = identity(&metadata);
        if let Some(entry) = held.get_mut(&identity) {
            entry.files.push(file); // the file got this name after the check above
            return Err(locked_here(path));
        }
        let unlocked = locks(&file, path, Kind::Write)?;
        held.insert(identity, Entry { unlocked: unlocked.is_some(), files: Vec::new() });
        let generation = fork::generation();
        Ok((Held { file: ManuallyDrop::new(file), identity, generation }, unlocked))
    })
}

/// Takes a read lock: it needs only read permission, and it conflicts with the lock of a writer.
pub(super) fn discard(path: &Path) -> Result<Leftover, Error> {
    listed(|held| {
        if entry(held, path).is_some() {
            return Err(locked_here(path));
        }
        let Ok(file) = opened(path, OpenOptions::new().read(true)) else {
            return Ok(Leftover::Stays);
        };
        let Some(metadata) = file.metadata().ok().filter(Metadata::is_file) else {
            return Ok(Leftover::Stays);
        };
        let identity = identity(&metadata);
        if let Some(entry) = held.get_mut(&identity) {
            entry.files.push(file);
            return Err(locked_here(path));
        }
        if locks(&file, path, Kind::Read)?.is_some() {
            return Ok(Leftover::Unlocked);
        }
        let gone = is_named(path, identity) && fs::remove_file(path).is_ok();
        Ok(if gone { Leftover::Gone } else { Leftover::Stays })
    })
}

fn opened(path: &Path, options: &mut OpenOptions) -> Result<File, Error> {
    options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK) // do not wait for a reader of a FIFO
        .open(path)
        .map_err(failed(path, "open"))
}

/// A lock that readers share, or one for a single writer.
#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

/// Takes a lock, or returns the file system's error if it has no locks.
fn locks(file: &File, path: &Path, kind: Kind) -> Result<Option<io::Error>, Error> {
    match record(file, libc::F_SETLK, kind) {
        Ok(_) => Ok(None),
        Err(error) if is_contended(&error) => {
            // Zero if the lock was released meanwhile, or if the holder has no process id in this
            // container.
            let owner = record(file, libc::F_GETLK, kind).map_or(0, |lock| lock.l_pid);
            Err(locked(path, u32::try_from(owner).ok().filter(|&pid| pid != 0)))
        }
        Err(error) if is_unsupported(&error) => Ok(Some(error)),
        Err(error) => Err(failed(path, "lock")(error)),
    }
}

fn is_contended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN))
}

/// Sets a lock on the whole file, or asks for the holder of a conflicting one.
fn record(file: &File, command: libc::c_int, kind: Kind) -> io::Result<libc::flock> {
    // SAFETY: `flock` is a C structure of integers, for which zeros are valid; they mean the whole
    // file.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    // The constants are of another type on each system.
    lock.l_type = match kind {
        Kind::Read => libc::F_RDLCK as _,
        Kind::Write => libc::F_WRLCK as _,
    };
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: the descriptor is open, and `lock` is a local variable. Both commands take one
    // structure and write no other memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(lock),
    }
}
