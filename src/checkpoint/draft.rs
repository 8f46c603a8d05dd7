//! A save, in one step or in two.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{Destination, Sibling};
use super::error::{Error, Interrupted, failed};
use super::header;
use super::source::{NewTensor, Source};
use super::write::{Medium as _, Partial, put, write};

/// A file that is about to be saved: its sibling is there, empty, and is removed again if nothing comes
/// of it.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    partial: Partial<Sibling>,
}

impl Draft {
    /// Takes the lock of a file, which need not exist.
    ///
    /// # Errors
    ///
    /// [`Error::NotAFile`]; [`Error::Locked`] while another save to that file is at work;
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let sibling = Sibling::open(Destination::of(path)?)?;
        Ok(Draft { path: path.to_owned(), partial: Partial::new(sibling) })
    }

    /// What the file system says that has no locks: then nothing keeps other processes from saving to
    /// the same file at the same time. None if there is a lock.
    pub fn unlocked(&self) -> Option<&io::Error> {
        self.partial.medium.unlocked()
    }

    /// The directory of the file, where links lead.
    pub fn directory(&self) -> &Path {
        self.partial.medium.directory()
    }

    /// As [`save`].
    ///
    /// # Errors
    ///
    /// As [`save`].
    pub fn save<S: Source>(
        self,
        metadata: &BTreeMap<String, String>,
        mut tensors: Vec<NewTensor<S>>,
        pause: &mut dyn FnMut() -> Result<(), Interrupted>,
    ) -> Result<(), Error> {
        header::check_machine()?;
        tensors.sort_by(|a, b| header::Part::of(a).key().cmp(&header::Part::of(b).key()));
        let parts: Vec<_> = tensors.iter().map(header::Part::of).collect();
        let (header, stored) = header::make(metadata, &parts)?;
        write(self.partial, &self.path, &header, &tensors, &stored, pause)
    }

    /// Saves plain bytes, for files other than checkpoints.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], as for [`save`].
    pub fn replace(self, content: &[u8]) -> Result<(), Error> {
        put(self.partial, &self.path, &mut || Ok(()), |medium, _| {
            medium.append(content).map_err(failed(&self.path, "write"))
        })
    }
}

/// Saves tensors in a file, which is replaced if there is one. `pause` is called between pieces of 1 MiB,
/// and before the old file is replaced; an error stops the save.
///
/// If `path` is a symbolic link, what it leads to is replaced. The new file has the old one's permissions.
/// Whether there was a lock is told by [`Draft`], which does the same in two steps.
///
/// # Errors
///
/// [`Error::Content`] and [`Error::NotAFile`] before anything is written; [`Error::Locked`] while
/// another save to that file is at work; [`Error::Length`], [`Error::Interrupted`] and [`Error::Io`]
/// after the sibling was removed again. The old file is as it was, except as told at [`Error::Io`].
pub fn save<S: Source>(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<NewTensor<S>>,
    pause: &mut dyn FnMut() -> Result<(), Interrupted>,
) -> Result<(), Error> {
    Draft::open(path)?.save(metadata, tensors, pause)
}
