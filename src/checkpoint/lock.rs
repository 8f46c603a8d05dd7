//! Locks on files: one writer at a time, among processes and among the threads of one.
//!
//! On Unix it is a record lock, which a forked child does not inherit, unlike a lock on the open file.
//! Record locks are the process's: they do not exclude its threads, and closing *any* descriptor of
//! the file drops them. So all that this process holds is listed, looked up before a file is opened, and
//! void in a forked child.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Error;

/// How often a lock is taken anew because the file was renamed meanwhile.
const ATTEMPTS: usize = 100;

/// A locked file, until it is dropped.
///
/// A forked child inherits the value and not the lock: see [`Lock::is_held`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    held: system::Held,
}

impl Lock {
    /// Opens the file of that name, creates it if there is none, and locks it. Does not wait, and does
    /// not follow a symbolic link. The file stays when the lock is dropped.
    ///
    /// While it is held, nothing else in the process may open and close the file, or the lock is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process or another thread holds it; [`Error::NotAFile`] if it is
    /// no regular file; [`Error::Io`].
    pub fn file(path: &Path) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS {
            let held = system::acquire(path)?;
            let lock = Lock { path: path.to_owned(), held };
            if lock.is_named() {
                return Ok(lock);
            }
        }
        Err(Error::Locked { path: path.to_owned(), owner: None })
    }

    /// Whether the calling process holds the lock: not if it is a forked child of the one that does.
    pub fn is_held(&self) -> bool {
        self.held.is_held()
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
}

fn failed(path: &Path, operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), operation, source }
}

#[cfg(unix)]
mod system {
    #![allow(unsafe_code)] // record locks are not in std

    use std::collections::BTreeMap;
    use std::fs::{self, File, Metadata, OpenOptions};
    use std::mem::{self, ManuallyDrop};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};
    use std::{io, process};

    use super::super::Error;
    use super::failed;
    use crate::fork;

    /// Device and inode.
    type Identity = (u64, u64);

    fn identity(metadata: &Metadata) -> Identity {
        (metadata.dev(), metadata.ino())
    }

    /// What this process holds. With each, descriptors of the file that must not be closed before.
    type Files = BTreeMap<Identity, Vec<File>>;

    /// With the generation of the process that it is about.
    static HELD: Mutex<(u32, Files)> = Mutex::new((0, Files::new()));

    /// No thread is in here when a process forks, so that a child finds the list free.
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
        pub(super) fn is_held(&self) -> bool {
            self.generation == fork::generation()
        }

        pub(super) fn is_named(&self, path: &Path) -> bool {
            fs::symlink_metadata(path).is_ok_and(|found| identity(&found) == self.identity)
        }

        pub(super) fn as_file(&self) -> &File {
            &self.file
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            listed(|held| {
                // SAFETY: taken here alone, and the value is not used after it was dropped.
                let file = unsafe { ManuallyDrop::take(&mut self.file) };
                if self.is_held() {
                    held.remove(&self.identity);
                } else if let Some(files) = held.get_mut(&self.identity) {
                    files.push(file); // a child that has locked the file since
                }
            });
        }
    }

    pub(super) fn acquire(path: &Path) -> Result<Held, Error> {
        let locked = |owner| Error::Locked { path: path.to_owned(), owner };
        let here = || locked(Some(process::id()));
        listed(|held| {
            if fs::symlink_metadata(path).is_ok_and(|found| held.contains_key(&identity(&found))) {
                return Err(here());
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK) // nor wait for a FIFO's reader
                .open(path)
                .map_err(failed(path, "open"))?;
            let metadata = file.metadata().map_err(failed(path, "look at"))?;
            if !metadata.is_file() {
                return Err(Error::NotAFile { path: path.to_owned(), what: "no regular file" });
            }
            let identity = identity(&metadata);
            if let Some(files) = held.get_mut(&identity) {
                files.push(file); // renamed in between
                return Err(here());
            }
            match record(&file, libc::F_SETLK) {
                Ok(_) => {}
                Err(error) if is_contended(&error) => {
                    // Zero if it was unlocked meanwhile, or is held from where pids mean nothing here.
                    let owner = record(&file, libc::F_GETLK).map_or(0, |lock| lock.l_pid);
                    return Err(locked(u32::try_from(owner).ok().filter(|&pid| pid != 0)));
                }
                Err(error) => return Err(failed(path, "lock")(error)),
            }
            held.insert(identity, Vec::new());
            let generation = fork::generation();
            Ok(Held { file: ManuallyDrop::new(file), identity, generation })
        })
    }

    fn is_contended(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN))
    }

    /// Sets a write lock on the whole file, or asks who has one.
    fn record(file: &File, command: libc::c_int) -> io::Result<libc::flock> {
        // SAFETY: a C structure of integers, for which zeros are values: the whole file.
        let mut lock: libc::flock = unsafe { mem::zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        lock.l_whence = libc::SEEK_SET as _;
        // SAFETY: the descriptor is open, and the structure is this function's own; both commands take
        // one, and write nothing else.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(lock),
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{File, OpenOptions, TryLockError};
    use std::path::Path;

    use super::super::Error;
    use super::failed;

    /// Windows's numbers: who else may open a file, and its error if that is against it.
    #[cfg(windows)]
    const SHARE_READ: u32 = 1;
    #[cfg(windows)]
    const SHARE_DELETE: u32 = 4;
    const SHARING_VIOLATION: i32 = 32;

    #[derive(Debug)]
    pub(super) struct Held(File);

    impl Held {
        pub(super) fn is_held(&self) -> bool {
            true
        }

        /// Nobody opens a file that another writer has open: where that is so it keeps its name.
        pub(super) fn is_named(&self, _path: &Path) -> bool {
            true
        }

        pub(super) fn as_file(&self) -> &File {
            &self.0
        }
    }

    pub(super) fn acquire(path: &Path) -> Result<Held, Error> {
        let locked = || Error::Locked { path: path.to_owned(), owner: None };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(windows)]
        {
            use std::os::windows::fs::OpenOptionsExt as _;
            options.share_mode(SHARE_READ | SHARE_DELETE);
        }
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if cfg!(windows) && error.raw_os_error() == Some(SHARING_VIOLATION) => {
                return Err(locked());
            }
            Err(error) => return Err(failed(path, "open")(error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Held(file)),
            Err(TryLockError::WouldBlock) => Err(locked()),
            Err(TryLockError::Error(error)) => Err(failed(path, "lock")(error)),
        }
    }
}
