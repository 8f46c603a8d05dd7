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
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Write as _};
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
    unlocked: Option<io::Error>,
}

/// What became of a file that may not be written.
pub(super) enum Leftover {
    /// It is there no longer, or may be written now.
    Gone,
    /// It stays, and so does the reason that it may not be written.
    Stays,
    /// Its file system has no locks, so nobody can say whose it is.
    #[cfg_attr(not(unix), allow(dead_code))] // there nobody is asked
    Unlocked,
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

/// What no other process, thread or call makes up for the same purpose: 16 digits.
pub fn unique() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id()); // a forked child begins with the same seeds
    format!("{:016x}", hasher.finish())
}

/// The process that a lock file says has it.
fn written(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What file systems say that have no locks.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EINVAL | libc::ENOTSUP)) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported // ENOSYS, EOPNOTSUPP
}

fn failed(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
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
    use super::{Leftover, failed, is_unsupported};
    use crate::machine::fork;

    /// Device and inode.
    type Identity = (u64, u64);

    fn identity(metadata: &Metadata) -> Identity {
        (metadata.dev(), metadata.ino())
    }

    /// What this process holds.
    type Files = BTreeMap<Identity, Entry>;

    #[derive(Debug)]
    struct Entry {
        /// The file system has no locks.
        unlocked: bool,
        /// Descriptors of the file that must not be closed before.
        files: Vec<File>,
    }

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
        pub(super) fn is_held(&self, recorded: bool) -> bool {
            self.is_ours()
                && (!recorded || record(&self.file, libc::F_SETLK, libc::F_WRLCK).is_ok())
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
                // SAFETY: taken here alone, and the value is not used after it was dropped.
                let file = unsafe { ManuallyDrop::take(&mut self.file) };
                if self.is_ours() {
                    held.remove(&self.identity);
                } else if let Some(entry) = held.get_mut(&self.identity) {
                    entry.files.push(file); // a child that has locked the file since
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

    /// Also what the file system says if it has no locks.
    pub(super) fn acquire(path: &Path) -> Result<(Held, Option<io::Error>), Error> {
        listed(|held| {
            if entry(held, path).is_some() {
                return Err(locked_here(path));
            }
            let file = opened(path, OpenOptions::new().write(true).create(true).truncate(false))?;
            let metadata = file.metadata().map_err(failed(path, "look at"))?;
            if !metadata.is_file() {
                return Err(Error::NotAFile { path: path.to_owned(), what: "no regular file" });
            }
            let identity = identity(&metadata);
            if let Some(entry) = held.get_mut(&identity) {
                entry.files.push(file); // renamed in between
                return Err(locked_here(path));
            }
            let unlocked = locks(&file, path, libc::F_WRLCK)?;
            held.insert(identity, Entry { unlocked: unlocked.is_some(), files: Vec::new() });
            let generation = fork::generation();
            Ok((Held { file: ManuallyDrop::new(file), identity, generation }, unlocked))
        })
    }

    /// A lock for reading needs no more than that the file may be read, and tells writers apart.
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
            if locks(&file, path, libc::F_RDLCK)?.is_some() {
                return Ok(Leftover::Unlocked);
            }
            let gone = is_named(path, identity) && fs::remove_file(path).is_ok();
            Ok(if gone { Leftover::Gone } else { Leftover::Stays })
        })
    }

    fn opened(path: &Path, options: &mut OpenOptions) -> Result<File, Error> {
        options
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK) // nor wait for a FIFO's reader
            .open(path)
            .map_err(failed(path, "open"))
    }

    /// Takes a lock, or returns what the file system says that has none.
    fn locks(file: &File, path: &Path, kind: libc::c_int) -> Result<Option<io::Error>, Error> {
        match record(file, libc::F_SETLK, kind) {
            Ok(_) => Ok(None),
            Err(error) if is_contended(&error) => {
                // Zero if it was unlocked meanwhile, or is held from where pids mean nothing here.
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

    /// Sets a lock on the whole file, or asks who has one that is against it.
    fn record(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::flock> {
        // SAFETY: a C structure of integers, for which zeros are values: the whole file.
        let mut lock: libc::flock = unsafe { mem::zeroed() };
        lock.l_type = kind as _;
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
    use std::fs::{self, File, OpenOptions, TryLockError};
    use std::io;
    use std::path::Path;

    use super::super::Error;
    use super::{Leftover, failed, is_unsupported};

    /// Windows's numbers: who else may open a file, and its error if that is against it.
    #[cfg(windows)]
    const SHARE_READ: u32 = 1;
    #[cfg(windows)]
    const SHARE_DELETE: u32 = 4;
    const SHARING_VIOLATION: i32 = 32;

    #[derive(Debug)]
    pub(super) struct Held(File);

    impl Held {
        pub(super) fn is_held(&self, _recorded: bool) -> bool {
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

    /// Whoever it is that has the file says so in it.
    pub(super) fn held_here(path: &Path) -> Option<bool> {
        let told = super::written(path) == Some(std::process::id());
        (told && matches!(acquire(path), Err(Error::Locked { .. }))).then_some(false)
    }

    pub(super) fn acquire(path: &Path) -> Result<(Held, Option<io::Error>), Error> {
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
        if cfg!(windows) {
            return Ok((Held(file), None)); // a lock besides would keep others from reading
        }
        match file.try_lock() {
            Ok(()) => Ok((Held(file), None)),
            Err(TryLockError::WouldBlock) => Err(locked()),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                Ok((Held(file), Some(error)))
            }
            Err(TryLockError::Error(error)) => Err(failed(path, "lock")(error)),
        }
    }

    /// Whoever has it open is in the way of writing it all the same.
    pub(super) fn discard(path: &Path) -> Result<Leftover, Error> {
        let Some(mut permissions) = fs::symlink_metadata(path)
            .ok()
            .filter(|found| found.is_file())
            .map(|found| found.permissions())
            .filter(|permissions| permissions.readonly())
        else {
            return Ok(Leftover::Stays);
        };
        permissions.set_readonly(false);
        let writable = fs::set_permissions(path, permissions).is_ok();
        Ok(if writable { Leftover::Gone } else { Leftover::Stays })
    }
}
