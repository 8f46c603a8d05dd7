//! Reading in two passes. The first computes the checksum of the whole file, so that no part of a
//! damaged file is used. The second returns only bytes that the first has seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use twox_hash::{XxHash3_64, XxHash3_128};

use super::error::{Error, Interrupted, check_regular, failed};
use super::header::{self, Header, LENGTH, START, SavedTensor, check_machine};
use super::source::PIECE;

/// An open checkpoint that passed all checks.
///
/// The file stays open: after a save has replaced it, reads still return the content of the opened
/// one.
#[derive(Debug)]
pub struct Checkpoint {
    input: Input,
    header: Header,
    /// Hash of every piece of every tensor.
    hashes: Vec<u64>,
    /// Index in `hashes` of each tensor's first piece.
    first: Vec<usize>,
}

impl Checkpoint {
    /// Opens a file and checks all of it: header, sizes, checksum. Calls `pause` between pieces of
    /// at most 1 MiB; an error of `pause` stops the opening.
    ///
    /// # Errors
    ///
    /// [`Error::NotAFile`], [`Error::NotACheckpoint`], [`Error::Version`], [`Error::Damaged`],
    /// [`Error::ChangedWhileRead`], [`Error::Interrupted`], [`Error::ByteOrder`], [`Error::Io`].
    pub fn open(
        path: &Path,
        pause: &mut dyn FnMut() -> Result<(), Interrupted>,
    ) -> Result<Self, Error> {
        let input = Input::open(path)?;
        let (header, hasher) = input.header()?;
        let (mut hashes, mut first) = (Vec::new(), Vec::with_capacity(header.tensors.len()));
        let mut walk = Walk { input: &input, hasher, buffer: Vec::new(), hashes: &mut hashes };
        let mut at = header.body as u64;
        let mut ends = Vec::new();
        for tensor in &header.tensors {
            first.push(walk.hashes.len() + ends.len());
            for len in pieces(tensor.len) {
                let waiting = ends.last().copied().unwrap_or(0);
                if waiting + len > PIECE {
                    pause()?;
                    at += walk.read(at, &ends)?;
                    ends.clear();
                }
                ends.push(ends.last().copied().unwrap_or(0) + len);
            }
        }
        pause()?;
        walk.read(at, &ends)?;
        let found = walk.hasher.finish_128();
        if input.len_now()? != header.len {
            return Err(input.changed());
        }
        if found != header.checksum {
            return Err(input.damaged(format!(
                "its checksum must be {}, got {}",
                header::digits(header.checksum),
                header::digits(found)
            )));
        }
        Ok(Checkpoint { input, header, hashes, first })
    }

    /// The header of a file. Checks sizes but not the checksum.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`].
    pub fn open_header(path: &Path) -> Result<Header, Error> {
        Ok(Input::open(path)?.header()?.0)
    }

    /// The header of the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The caller's metadata, without checksum and format.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.header.metadata()
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[SavedTensor] {
        self.header.tensors()
    }

    /// Index of a tensor in [`Checkpoint::tensors`], by name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.header.index(name)
    }

    /// The path given to [`Checkpoint::open`].
    pub fn path(&self) -> &Path {
        &self.input.path
    }

    /// Calls `piece` with the bytes of a tensor in order, and their offset in the tensor. Compares
    /// each piece, of at most 1 MiB, with the bytes seen by [`Checkpoint::open`] before the call.
    ///
    /// # Errors
    ///
    /// [`Error::ChangedWhileRead`] if the file was changed after it was opened; `piece` was called
    /// for the bytes before the change. [`Error::Io`].
    ///
    /// # Panics
    ///
    /// If `index` is out of range, as for a slice.
    pub fn read(&self, index: usize, piece: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        let len = self.header.tensors[index].len;
        let mut buffer = vec![0; len.min(PIECE)];
        let mut at = 0;
        for (number, len) in pieces(len).enumerate() {
            let bytes = &mut buffer[..len];
            self.read_piece(index, number, bytes)?;
            piece(at, bytes);
            at += len;
        }
        Ok(())
    }

    /// Reads a tensor into a buffer. That saves the copy of [`Checkpoint::read`], but after an
    /// error `to` may hold bytes that the opened file did not have.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read`], and [`Error::Length`] if the length of `to` is not that of the
    /// tensor.
    ///
    /// # Panics
    ///
    /// As [`Checkpoint::read`].
    pub fn read_into(&self, index: usize, to: &mut [u8]) -> Result<(), Error> {
        let tensor = &self.header.tensors[index];
        if to.len() != tensor.len {
            let (got, expected) = (to.len() as u64, tensor.len as u64);
            return Err(Error::Length { name: tensor.name.clone(), got, expected });
        }
        let mut pieces = to.chunks_mut(PIECE).enumerate();
        pieces.try_for_each(|(number, bytes)| self.read_piece(index, number, bytes))
    }

    /// Reads a piece of a tensor and compares its hash with that of the first pass.
    fn read_piece(&self, index: usize, number: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self.header.tensors[index].offset + (number * PIECE) as u64;
        self.input.read(bytes, at)?;
        if XxHash3_64::oneshot(bytes) == self.hashes[self.first[index] + number] {
            Ok(())
        } else {
            Err(self.input.changed())
        }
    }
}

/// Lengths of the pieces of a tensor of `len` bytes.
fn pieces(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(PIECE).map(move |at| PIECE.min(len - at))
}

/// State of the first pass.
struct Walk<'a> {
    input: &'a Input,
    hasher: XxHash3_128,
    buffer: Vec<u8>,
    hashes: &'a mut Vec<u64>,
}

impl Walk<'_> {
    /// Reads adjacent pieces in one call. `ends` are the pieces' ends, counted from the first
    /// piece.
    fn read(&mut self, at: u64, ends: &[usize]) -> Result<u64, Error> {
        let len = ends.last().copied().unwrap_or(0);
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let bytes = &mut self.buffer[..len];
        self.input.read(bytes, at)?;
        self.hasher.write(bytes);
        let mut begin = 0;
        for &end in ends {
            self.hashes.push(XxHash3_64::oneshot(&bytes[begin..end]));
            begin = end;
        }
        Ok(len as u64)
    }
}

/// An open file, with its path and its length when it was opened.
#[derive(Debug)]
struct Input {
    file: Positioned,
    path: PathBuf,
    len: u64,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Error> {
        check_machine()?;
        let file = open(path).map_err(failed(path, "open"))?;
        let found = file.metadata().map_err(failed(path, "inspect"))?;
        check_regular(path, &found)?;
        Ok(Input { file: Positioned::new(file), path: path.to_owned(), len: found.len() })
    }

    /// The header, and a hasher that has consumed it.
    fn header(&self) -> Result<(Header, XxHash3_128), Error> {
        let mut start = [0; START];
        let start = &mut start[..START.min(usize::try_from(self.len).unwrap_or(START))];
        self.read(start, 0)?;
        let length = header::length(&self.path, start, self.len)?;
        let mut json = vec![0; length];
        self.read(&mut json, LENGTH as u64)?;
        let header = header::parse(&self.path, &mut json, self.len)?;
        let mut hasher = XxHash3_128::new();
        hasher.write(&(length as u64).to_le_bytes());
        hasher.write(&json);
        Ok((header, hasher))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Error> {
        self.file.read(bytes, at).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(), // it was longer when opened
            _ => failed(&self.path, "read")(source),
        })
    }

    fn len_now(&self) -> Result<u64, Error> {
        self.file.len().map_err(failed(&self.path, "inspect"))
    }

    fn changed(&self) -> Error {
        Error::ChangedWhileRead { path: self.path.clone() }
    }

    fn damaged(&self, why: String) -> Error {
        Error::Damaged { path: self.path.clone(), why }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Without this flag, opening a FIFO waits for a writer.
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// A file read at given positions. Several threads can read at the same time.
#[cfg(unix)]
#[derive(Debug)]
struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    fn new(file: File) -> Self {
        Positioned(file)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// A file read at given positions, by one thread at a time.
#[cfg(not(unix))]
#[derive(Debug)]
struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    fn new(file: File) -> Self {
        Positioned(std::sync::Mutex::new(file))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        use std::io::{Read as _, Seek as _};
        let mut file = self.lock();
        file.seek(io::SeekFrom::Start(at))?;
        file.read_exact(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().metadata()?.len())
    }
}
