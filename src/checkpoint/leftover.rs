//! What both kinds of locks share: siblings that cannot be written, and file systems without locks.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Result of discarding a file that cannot be written.
pub(super) enum Leftover {
    /// The file was removed, or can be written now.
    Gone,
    /// The file is still there and cannot be written.
    Stays,
    /// The file system has no locks, so the owner of the file is unknown.
    #[cfg_attr(not(unix), allow(dead_code))] // made on Unix only
    Unlocked,
}

/// The process id in a lock file.
pub(super) fn written(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether the error means that the file system has no locks.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EINVAL | libc::ENOTSUP)) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported // ENOSYS, EOPNOTSUPP
}
