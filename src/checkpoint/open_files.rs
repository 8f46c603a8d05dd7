//! Locks by files that are open, elsewhere.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::error::{Error, failed};
use super::leftover::{Leftover, is_unsupported, written};

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
    let told = written(path) == Some(std::process::id());
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
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok((Held(file), Some(error))),
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
