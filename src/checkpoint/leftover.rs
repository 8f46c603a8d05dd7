//! What both ways to lock have in common: files that cannot be locked, and what is said of them.

use std::io::{self, ErrorKind};
use std::path::Path;

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

/// The process that a lock file says has it.
pub(super) fn written(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What file systems say that have no locks.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EINVAL | libc::ENOTSUP)) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported // ENOSYS, EOPNOTSUPP
}
