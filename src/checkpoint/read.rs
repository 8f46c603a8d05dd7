//! Reading, in two passes: the first takes the checksum of the whole file, so that nothing of a damaged
//! one is used; the second hands out what the first has seen, and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use twox_hash::{XxHash3_64, XxHash3_128};

use super::error::{Error, Interrupted, check_regular, failed};
use super::header::{self, Header, LENGTH, START, SavedTensor, check_machine};
use super::source::PIECE;

/// An open checkpoint, all of it found whole.
///
/// The file stays open: if it is replaced by a save, this goes on reading the one that it has opened.
#[derive(Debug)]
pub struct Checkpoint {
    input: Input,
    header: Header,
    /// Of every piece of every tensor.
    hashes: Vec<u64>,
    /// Which of them is a tensor's first.
    first: Vec<usize>,
}

impl Checkpoint {
    /// Opens a file and checks all of it: header, sizes, checksum. `pause` is called between pieces of
    /// at most 1 MiB; an error stops.
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
                "its checksum is {}, its header says {}",
                header::digits(found),
                header::digits(header.checksum)
            )));
        }
        Ok(Checkpoint { input, header, hashes, first })
    }

    /// The header of a file, for a quick look: sizes are checked, the checksum is not.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`].
    pub fn open_header(path: &Path) -> Result<Header, Error> {
        Ok(Input::open(path)?.header()?.0)
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The caller's metadata: without checksum and format.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.header.metadata()
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[SavedTensor] {
        self.header.tensors()
    }

    /// Index of the tensor with that name among [`Checkpoint::tensors`].
    pub fn index(&self, name: &str) -> Option<usize> {
        self.header.index(name)
    }

    /// The file, as it was given to [`Checkpoint::open`].
    pub fn path(&self) -> &Path {
        &self.input.path
    }

    /// Hands `piece` the bytes of a tensor in order, with where in the tensor they are. Each piece, of at
    /// most 1 MiB, is compared with what [`Checkpoint::open`] has seen before it is handed out.
    ///
    /// # Errors
    ///
    /// [`Error::ChangedWhileRead`] if the file was changed since it was opened; pieces before the
    /// change have been handed out. [`Error::Io`].
    ///
    /// # Panics
    ///
    /// If there are not as many tensors, as a slice does.
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

    /// The same, read to where the bytes are wanted. That saves a copy; but after an error `to` may hold
    /// bytes that were never in the file when it was opened.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read`], and [`Error::Length`] if `to` is not as long as the tensor.
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

    /// Reads a piece of a tensor, and compares it with what it was.
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

/// Lengths of the pieces that a tensor of `len` bytes is read in.
fn pieces(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(PIECE).map(move |at| PIECE.min(len - at))
}

/// The first pass.
struct Walk<'a> {
    input: &'a Input,
    hasher: XxHash3_128,
    buffer: Vec<u8>,
    hashes: &'a mut Vec<u64>,
}

impl Walk<'_> {
    /// Reads pieces that lie one after another, as one: where each ends is counted from the first.
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

/// An open file, and what it was called and how long it was.
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
        let found = file.metadata().map_err(failed(path, "look at"))?;
        check_regular(path, &found)?;
        Ok(Input { file: Positioned::new(file), path: path.to_owned(), len: found.len() })
    }

    /// What the header says, and a checksum that has seen it.
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
            io::ErrorKind::UnexpectedEof => self.changed(), // it was as long as that
            _ => failed(&self.path, "read")(source),
        })
    }

    fn len_now(&self) -> Result<u64, Error> {
        self.file.len().map_err(failed(&self.path, "look at"))
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
    // Opening a FIFO would wait for a writer.
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// A file that is read at positions, by several threads if they like.
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

/// A file that is read at positions, by one thread at a time.
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
