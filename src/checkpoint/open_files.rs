//! Locks on systems other than Unix, by open files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::error::{Error, failed};
use super::leftover::{Leftover, is_unsupported, written};

/// Constants of Windows: access granted to other openers of a file, and the error of a conflict.
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

    /// A writer cannot open the file while another has it open, and that one renames it before it
    /// closes it. So an opened file has its name.
    pub(super) fn is_named(&self, _path: &Path) -> bool {
        true
    }

    pub(super) fn as_file(&self) -> &File {
        &self.0
    }
}

/// The holder of a directory's lock has written its process id to the file.
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
        return Ok((Held(file), None)); // a lock too would stop readers
    }
    match file.try_lock() {
        Ok(()) => Ok((Held(file), None)),
        Err(TryLockError::WouldBlock) => Err(locked()),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok((Held(file), Some(error))),
        Err(TryLockError::Error(error)) => Err(failed(path, "lock")(error)),
    }
}

/// Makes the file writable. If another writer has it open, the next open fails.
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
