//! Where a checkpoint goes: what a path may be, the sibling that is written, and how it takes the file's
//! place.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::leftover::Leftover;
use super::lock::{Lock, unique};
use super::write::Medium;

/// What is appended to the name of the file for the sibling.
const PARTIAL: &str = ".partial";

/// Symbolic links that are followed, as many as Linux does.
const LINKS: usize = 40;

/// A path that a checkpoint may be saved to.
#[derive(Debug)]
pub(super) struct Destination {
    /// The file itself, where links lead.
    target: PathBuf,
    sibling: PathBuf,
    directory: PathBuf,
    /// Of the file that is there.
    permissions: Option<Permissions>,
}

impl Destination {
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let not_a_file = |what| Err(Error::NotAFile { path: path.to_owned(), what });
        let permissions = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return not_a_file("a directory"),
            Ok(found) if !found.is_file() => return not_a_file("a device, a pipe or a socket"),
            Ok(found) => Some(found.permissions()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => {
                return Err(Error::Io { path: path.to_owned(), operation: "look at", source });
            }
        };
        let target = followed(path)?;
        let last = path.as_os_str().as_encoded_bytes().last();
        let ends_in_separator = last.is_some_and(|&byte| std::path::is_separator(byte.into()));
        let (Some(name), false) = (target.file_name(), ends_in_separator) else {
            return not_a_file("a path without a file name");
        };
        let mut sibling = OsString::from(name);
        sibling.push(PARTIAL);
        let sibling = target.with_file_name(sibling);
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Destination { target, sibling, directory, permissions })
    }

    /// A sibling for one writer alone, where no lock keeps others away from the usual one.
    fn own_sibling(&self) -> PathBuf {
        let mut name = OsString::from(self.target.file_name().unwrap_or_default());
        name.push(format!(".{}{PARTIAL}", unique()));
        self.target.with_file_name(name)
    }
}

/// Where symbolic links lead, the file need not exist.
fn followed(path: &Path) -> Result<PathBuf, Error> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if !path.is_symlink() {
            break;
        }
        let link = fs::read_link(&path);
        let link =
            link.map_err(|source| Error::Io { path: path.clone(), operation: "follow", source })?;
        path.pop();
        path.push(link);
    }
    Ok(path)
}

/// The sibling, locked, on its way to the place.
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
                    Leftover::Stays => {
                        let path = place.sibling.clone();
                        Err(Error::Io { path, operation: "open", source })
                    }
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

    /// What the file system says that has no locks.
    pub(super) fn unlocked(&self) -> Option<&io::Error> {
        self.lock.unlocked()
    }

    /// The directory that it is in.
    pub(super) fn directory(&self) -> &Path {
        &self.place.directory
    }
}

/// Removes a sibling that was made and could not be locked.
fn remove_empty(sibling: &Path) {
    if fs::symlink_metadata(sibling).is_ok_and(|found| found.is_file() && found.len() == 0) {
        // As for any sibling: one that stays is used again.
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
            // Never more than the old file allows, and this process can write it again.
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

/// Flushes the names in a directory to the disk, where the system and the file system can.
///
/// # Errors
///
/// [`Error::Io`].
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: path.to_owned(), operation: "flush", source };
    Directory::open(path)?.sync().map_err(failed)
}

/// A directory that is to be flushed, opened before anything is written: whether it is there is known
/// then. None where it cannot be flushed.
#[derive(Debug)]
struct Directory(Option<fs::File>);

impl Directory {
    fn open(path: &Path) -> Result<Self, Error> {
        if !cfg!(unix) {
            return Ok(Directory(None));
        }
        match fs::File::open(path) {
            Ok(file) => Ok(Directory(Some(file))),
            // One may be written to and not read; some systems do not open directories.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::IsADirectory
                ) =>
            {
                Ok(Directory(None))
            }
            Err(source) => Err(Error::Io { path: path.to_owned(), operation: "open", source }),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.0.as_ref().map_or(Ok(()), fs::File::sync_all) {
            Err(error) if is_unsupported(&error) => Ok(()),
            result => result,
        }
    }
}

/// What file systems say that cannot flush a directory; EBADF because it is open for reading.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::EBADF)) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported // ENOSYS, EOPNOTSUPP
}
