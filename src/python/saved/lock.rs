//! Locks on directories, replacement of whole files, and flushes of names, for the Python layer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::interpreter::errors::{Refusal, what_system_says};
use crate::interpreter::exit::Presence;
use thalweg::checkpoint::{self, Draft, Error, Lock, ending};

/// An exclusive lock on a directory, held until `release` or garbage collection.
///
/// A forked child inherits the object but not the lock.
#[pyclass(module = "thalweg._core", frozen)]
#[derive(Debug)]
pub struct DirectoryLock {
    /// None after `release`, or if another object of this process holds the lock.
    lock: Mutex<Option<Lock>>,
    ending: String,
}

#[pymethods]
impl DirectoryLock {
    /// Locks a directory by the file `name` in it. With `join`, a lock that this process already
    /// holds is enough.
    #[new]
    #[pyo3(signature = (directory, name = ".lock", *, join = false))]
    fn new(py: Python<'_>, directory: PathBuf, name: &str, join: bool) -> PyResult<Self> {
        let _presence = Presence::begin(py);
        let (lock, unlocked) = py
            .detach(|| match Lock::directory(&directory, name) {
                Err(Error::Locked { owner, path }) => {
                    match Lock::held_here(&directory.join(name)).filter(|_| join) {
                        Some(unlocked) => Ok((None, unlocked)),
                        None => Err(Error::Locked { owner, path }),
                    }
                }
                Err(error) => Err(error),
                Ok(lock) => {
                    let unlocked = lock.unlocked().is_some();
                    Ok((Some(lock), unlocked))
                }
            })
            .map_err(Refusal::from)?;
        if let Some(reason) = lock.as_ref().and_then(Lock::unlocked) {
            warn_unlocked(py, &directory, reason)?;
        }
        Ok(DirectoryLock { lock: Mutex::new(lock), ending: ending(!unlocked) })
    }

    /// Suffix for the names of unfinished files; no other process uses it in this directory.
    #[getter]
    fn ending(&self) -> &str {
        &self.ending
    }

    /// Whether this process holds the lock, and the locked file still has its name.
    fn is_held(&self) -> bool {
        self.with(|lock| lock.as_ref().is_some_and(Lock::is_held))
    }

    /// Releases the lock if it is held.
    fn release(&self) {
        drop(self.with(Option::take));
    }
}

impl DirectoryLock {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Lock>) -> T) -> T {
        work(&mut self.lock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether this process holds the lock of a directory.
#[pyfunction]
pub fn is_locked_here(directory: PathBuf, name: &str) -> bool {
    Lock::held_here(&directory.join(name)).is_some()
}

/// Flushes the names in a directory to the disk, if the system supports it.
#[pyfunction]
pub fn sync_directory(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    let _presence = Presence::begin(py);
    Ok(py.detach(|| checkpoint::sync_directory(&path)).map_err(Refusal::from)?)
}

/// Replaces the content of a file as a whole and flushes it. After an error the old file stays.
#[pyfunction]
pub fn replace_file(py: Python<'_>, path: PathBuf, content: &[u8]) -> PyResult<()> {
    let _presence = Presence::begin(py);
    Ok(py.detach(|| Draft::open(&path)?.replace(content)).map_err(Refusal::from)?)
}

/// Warns, once per directory, that no lock excludes other processes. An error if warnings are
/// errors.
pub fn warn_unlocked(py: Python<'_>, directory: &Path, reason: &io::Error) -> PyResult<()> {
    let warn = py.import("thalweg.errors")?.getattr("warn_unlocked")?;
    warn.call1((directory, what_system_says(reason))).map(drop)
}
