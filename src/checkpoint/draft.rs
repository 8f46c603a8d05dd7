//! A save, in one call or in two.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{Destination, Sibling};
use super::error::{Error, Interrupted, failed};
use super::header;
use super::source::{NewTensor, Source};
use super::write::{Medium as _, Partial, put, write};

/// A save that has begun: the sibling exists and is empty. Dropping the draft removes it.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    partial: Partial<Sibling>,
}

impl Draft {
    /// Takes the lock of a file. The file need not exist.
    ///
    /// # Errors
    ///
    /// [`Error::NotAFile`]; [`Error::Locked`] during another save to the same file; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let sibling = Sibling::open(Destination::of(path)?)?;
        Ok(Draft { path: path.to_owned(), partial: Partial::new(sibling) })
    }

    /// The file system's error if it has no locks: then other processes can save to the same file
    /// at the same time. None if the file is locked.
    pub fn unlocked(&self) -> Option<&io::Error> {
        self.partial.medium.unlocked()
    }

    /// The directory of the file, after symbolic links.
    pub fn directory(&self) -> &Path {
        self.partial.medium.directory()
    }

    /// The same as [`save`].
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

    /// Replaces the file with plain bytes. For files other than checkpoints.
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

/// Saves tensors in a file and replaces an existing one. Calls `pause` between pieces of 1 MiB and
/// before the old file is replaced; an error of `pause` stops the save.
///
/// If `path` is a symbolic link, its target is replaced. The new file gets the permissions of the
/// old one. To learn whether the file was locked, save in two steps with [`Draft`].
///
/// # Errors
///
/// [`Error::Content`] and [`Error::NotAFile`] before anything is written; [`Error::Locked`] during
/// another save to the same file; [`Error::Length`], [`Error::Interrupted`] and [`Error::Io`] after
/// the sibling was removed. The old file is unchanged, with one exception: see [`Error::Io`].
pub fn save<S: Source>(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<NewTensor<S>>,
    pause: &mut dyn FnMut() -> Result<(), Interrupted>,
) -> Result<(), Error> {
    Draft::open(path)?.save(metadata, tensors, pause)
}
