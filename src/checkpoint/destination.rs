//! The destination of a checkpoint: which paths are accepted, the sibling that is written, and how
//! the sibling replaces the file.

use std::fs::{self, Permissions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::error::{Error, check_regular, failed};
use super::leftover::Leftover;
use super::lock::Lock;
use super::write::Medium;

/// Limit of symbolic links in a chain, as on Linux.
const LINKS: usize = 40;

/// A path that a checkpoint can be saved to.
#[derive(Debug)]
pub(super) struct Destination {
    /// The file itself, after symbolic links.
    target: PathBuf,
    sibling: PathBuf,
    directory: PathBuf,
    /// Permissions of the existing file, if there is one.
    permissions: Option<Permissions>,
}

impl Destination {
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let permissions = match fs::metadata(path) {
            Ok(found) => {
                check_regular(path, &found)?;
                Some(found.permissions())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(path, "inspect")(error)),
        };
        let target = followed(path)?;
        let last = path.as_os_str().as_encoded_bytes().last();
        let ends_in_separator = last.is_some_and(|&byte| std::path::is_separator(byte.into()));
        if target.file_name().is_none() || ends_in_separator {
            let what = "a path without a file name";
            return Err(Error::NotAFile { path: path.to_owned(), what });
        }
        let sibling = with_ending(&target, &ending(true));
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Destination { target, sibling, directory, permissions })
    }

    /// A sibling for this writer alone, for file systems without locks.
    fn own_sibling(&self) -> PathBuf {
        with_ending(&self.target, &ending(false))
    }
}

fn with_ending(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    target.with_file_name(name)
}

/// The ending of a sibling's name. Without locks it has 16 digits that differ between processes,
/// threads and calls.
pub fn ending(locked: bool) -> String {
    if locked {
        return ".partial".to_owned();
    }
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id()); // a forked child inherits the seeds
    format!(".{:016x}.partial", hasher.finish())
}

/// The path after symbolic links. The file need not exist.
fn followed(path: &Path) -> Result<PathBuf, Error> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if !path.is_symlink() {
            break;
        }
        let link = fs::read_link(&path).map_err(failed(&path, "follow"))?;
        path.pop();
        path.push(link);
    }
    Ok(path)
}

/// The locked sibling and its destination.
#[derive(Debug)]
pub(super) struct Sibling {
    place: Destination,
    lock: Lock,
    directory: Directory,
}

impl Sibling {
    pub(super) fn open(place: Destination) -> Result<Self, Error> {
        let directory = Directory::open(&place.directory)?;
        let lock = match Lock::file(&place.sibling) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                match Lock::discard(&place.sibling)? {
                    Leftover::Gone => Lock::file(&place.sibling),
                    Leftover::Unlocked => Lock::file(&place.own_sibling()),
                    Leftover::Stays => Err(failed(&place.sibling, "open")(source)),
                }
            }
            result => result,
        };
        let lock = lock.inspect_err(|error| {
            if matches!(error, Error::Io { .. }) {
                remove_empty(&place.sibling);
            }
        })?;
        if lock.unlocked().is_none() || lock.path() != place.sibling {
            return Ok(Sibling { place, lock, directory });
        }
        remove_empty(&place.sibling);
        drop(lock);
        let lock = Lock::file(&place.own_sibling())?;
        Ok(Sibling { place, lock, directory })
    }

    /// The file system's error if it has no locks.
    pub(super) fn unlocked(&self) -> Option<&io::Error> {
        self.lock.unlocked()
    }

    /// The directory of the file.
    pub(super) fn directory(&self) -> &Path {
        &self.place.directory
    }
}

/// Removes a sibling that was created but could not be locked.
fn remove_empty(sibling: &Path) {
    if fs::symlink_metadata(sibling).is_ok_and(|found| found.is_file() && found.len() == 0) {
        // An error is ignored: the next save reuses a sibling that stays.
        let _ = fs::remove_file(sibling);
    }
}

impl Medium for Sibling {
    fn empty(&mut self) -> io::Result<()> {
        let file = self.lock.as_file();
        file.set_len(0)?;
        #[cfg(unix)]
        if self.place.permissions.is_some() {
            use std::os::unix::fs::PermissionsExt as _;
            // Until `permit`, other users have no access, which the old file may deny them too. The
            // owner can write, so that the next save can reuse the sibling after a kill.
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lock.as_file().write_all(bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.lock.as_file();
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn permit(&mut self) -> io::Result<()> {
        match &self.place.permissions {
            Some(permissions) => self.lock.as_file().set_permissions(permissions.clone()),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.lock.as_file().sync_all()
    }

    fn rename(&mut self) -> io::Result<()> {
        if !self.lock.is_named() {
            let gone = "the .partial file beside it was removed or replaced";
            return Err(io::Error::new(ErrorKind::NotFound, gone));
        }
        fs::rename(self.lock.path(), &self.place.target)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync()
    }

    fn remove(&mut self) -> io::Result<()> {
        if self.lock.is_named() { fs::remove_file(self.lock.path()) } else { Ok(()) }
    }
}

/// Flushes the names in a directory to the disk, if the system and the file system support it.
///
/// # Errors
///
/// [`Error::Io`].
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    Directory::open(path)?.sync().map_err(failed(path, "flush"))
}

/// A directory to flush, opened before anything is written, so that a missing directory is found
/// then. None if it cannot be flushed.
#[derive(Debug)]
struct Directory(Option<fs::File>);

impl Directory {
    fn open(path: &Path) -> Result<Self, Error> {
        if !cfg!(unix) {
            return Ok(Directory(None));
        }
        match fs::File::open(path) {
            Ok(file) => Ok(Directory(Some(file))),
            // A directory may be writable but not readable, and some systems cannot open
            // directories.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::IsADirectory
                ) =>
            {
                Ok(Directory(None))
            }
            Err(error) => Err(failed(path, "open")(error)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.0.as_ref().map_or(Ok(()), fs::File::sync_all) {
            Err(error) if is_unsupported(&error) => Ok(()),
            result => result,
        }
    }
}

/// Whether the error means that the file system cannot flush a directory. EBADF: the directory is
/// open for reading only.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::EBADF)) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported // ENOSYS, EOPNOTSUPP
}
