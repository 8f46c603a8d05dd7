//! Checkpoint files for Python: tensors that are read on demand, and arrays as sources of a save.

#![allow(unsafe_code)] // reads and writes the memory of arrays

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::array::checks::Checked;
use crate::array::memory::Memory;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::exit::Presence;
use crate::saved::elements::Elements;
use crate::saved::elsewhere::{Elsewhere, Raised};
use crate::saved::lock::warn_unlocked;
use thalweg::array::storage::Storage;
use thalweg::checkpoint::{self, Checkpoint, Draft, Dtype, Interrupted, NewTensor, Source};
use thalweg::error::Quoted;
use thalweg::machine::{pool, threads};

/// Metadata; then name, type, shape, offset and size of each tensor.
type HeaderParts = (BTreeMap<String, String>, Vec<(String, String, Py<PyTuple>, u64, usize)>);

/// NumPy's names of the types that safetensors and NumPy share.
const DTYPES: [(Dtype, &str); 12] = [
    (Dtype::BOOL, "?"),
    (Dtype::U8, "u1"),
    (Dtype::I8, "i1"),
    (Dtype::U16, "u2"),
    (Dtype::I16, "i2"),
    (Dtype::F16, "f2"),
    (Dtype::U32, "u4"),
    (Dtype::I32, "i4"),
    (Dtype::F32, "f4"),
    (Dtype::U64, "u8"),
    (Dtype::I64, "i8"),
    (Dtype::F64, "f8"),
];

/// The type of state in the bits of bfloat16, which NumPy has as unsigned integers.
const BITS: (Dtype, &str) = (Dtype::BF16, "u2");

/// Types of tensors with their NumPy names. Where types share a name, an array without further
/// information has the last type.
fn dtypes() -> impl Iterator<Item = (Dtype, &'static str)> {
    let storages = Storage::ALL.iter().filter(|storage| storage.is_whole() && !storage.is_plain());
    storages.map(|storage| (storage.dtype(), storage.numpy())).chain([BITS]).chain(DTYPES)
}

/// NumPy dtypes with their safetensors names.
#[pyfunction]
pub fn checkpoint_dtypes(py: Python<'_>) -> PyResult<Vec<(Bound<'_, PyArrayDescr>, String)>> {
    dtypes().map(|(dtype, name)| Ok((PyArrayDescr::new(py, name)?, dtype.to_string()))).collect()
}

impl From<checkpoint::Error> for Refusal {
    fn from(error: checkpoint::Error) -> Self {
        Refusal::File(error)
    }
}

/// Shortest time between two checks for Ctrl-C. A check takes the interpreter lock, for which a
/// busy thread lets others wait some milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);

/// Runs `work` without the interpreter lock. `work` calls its argument between pieces, so that
/// Ctrl-C can stop it.
fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> Result<(), Interrupted>) -> Result<T, checkpoint::Error>
    + Send,
) -> PyResult<T> {
    let (mut raised, mut asked) = (None, Instant::now());
    let done = py.detach(|| {
        work(&mut || {
            if asked.elapsed() < PATIENCE {
                return Ok(());
            }
            asked = Instant::now();
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                Interrupted
            })
        })
    });
    match (raised, done) {
        (Some(error), _) => Err(error),
        (None, done) => Ok(done.map_err(Refusal::from)?),
    }
}

/// An open checkpoint file that passed all checks.
#[pyclass(module = "thalweg._core", name = "Checkpoint", frozen)]
#[derive(Debug)]
pub struct CheckpointFile {
    file: Arc<Checkpoint>,
}

#[pymethods]
impl CheckpointFile {
    /// Opens a file and checks all of it.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let _presence = Presence::begin(py);
        let file = interruptible(py, |pause| Checkpoint::open(&path, pause))?;
        Ok(CheckpointFile { file: Arc::new(file) })
    }

    /// The file's metadata without format and checksum.
    #[getter]
    fn metadata(&self) -> BTreeMap<String, String> {
        self.file.metadata().clone()
    }

    /// The tensors by name, in the order of the file.
    #[getter]
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tensors = PyDict::new(py);
        for (index, tensor) in self.file.tensors().iter().enumerate() {
            let stored = Stored { file: self.file.clone(), index };
            tensors.set_item(&tensor.name, Bound::new(py, stored)?)?;
        }
        Ok(tensors)
    }
}

/// A tensor in a checkpoint file, read on demand.
#[pyclass(module = "thalweg._core", frozen)]
#[derive(Debug)]
pub struct Stored {
    file: Arc<Checkpoint>,
    index: usize,
}

#[pymethods]
impl Stored {
    /// The safetensors name of the type.
    #[getter]
    fn kind(&self) -> String {
        self.file.tensors()[self.index].dtype.to_string()
    }

    /// The NumPy dtype.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDescr>> {
        let dtype = self.file.tensors()[self.index].dtype;
        let Some((_, name)) = dtypes().find(|(known, _)| *known == dtype) else {
            return Err(Refusal::Value(format!("NumPy has no dtype for {dtype}")).into());
        };
        PyArrayDescr::new(py, name)
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.file.tensors()[self.index].shape)
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.file.tensors()[self.index].len
    }

    /// Calls `take(start, bytes)` with the bytes of the tensor, piece by piece.
    fn pieces(&self, py: Python<'_>, take: &Bound<'_, PyAny>) -> PyResult<()> {
        let _presence = Presence::begin(py);
        let mut raised = None;
        let done = self.file.read(self.index, &mut |start, bytes| {
            if raised.is_none() {
                raised = take.call1((start, PyBytes::new(py, bytes))).err();
            }
        });
        match raised {
            Some(error) => Err(error),
            None => Ok(done.map_err(Refusal::from)?),
        }
    }

    /// Reads the tensor into a new array.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _presence = Presence::begin(py);
        let made = py.import("numpy")?.call_method1("empty", (self.shape(py)?, self.dtype(py)?))?;
        let array = made.cast::<PyUntypedArray>()?;
        let transfer = self.to(&Memory::of(array), array.dtype().itemsize(), (0, 0));
        py.detach(|| transfer.run()).map_err(Refusal::from)?;
        Ok(made)
    }
}

impl Stored {
    /// The transfer of the tensor to a checked array of the same shape and type.
    pub fn transfer(&self, py: Python<'_>, live: &Checked) -> Outcome<Transfer> {
        let array = live.array.bind(py);
        let tensor = &self.file.tensors()[self.index];
        if *tensor.shape != *live.shape || tensor.dtype != live.storage.dtype() {
            return Err(Refusal::Value(format!(
                "tensor {} of the checkpoint has another shape or dtype than the array to fill",
                Quoted(&tensor.name)
            )));
        }
        let memory = Memory::of(array);
        Ok(self.to(&memory, live.storage.size(), memory.extent(live.storage)))
    }

    fn to(&self, memory: &Memory<'_>, size: usize, extent: (usize, usize)) -> Transfer {
        // SAFETY: the caller holds the array until the transfer has run.
        let to = unsafe { Elements::new(memory, size) };
        Transfer { file: self.file.clone(), index: self.index, to, extent }
    }
}

/// A tensor and its destination array.
#[derive(Debug)]
pub struct Transfer {
    file: Arc<Checkpoint>,
    index: usize,
    to: Elements,
    /// Start and end address of the array; the end is exclusive.
    extent: (usize, usize),
}

impl Transfer {
    /// Reads the tensor into the array. After an error the array may hold any content.
    pub fn run(&self) -> Result<(), checkpoint::Error> {
        match self.to.dense() {
            Some(bytes) => self.file.read_into(self.index, bytes),
            None => self.file.read(self.index, &mut |start, bytes| self.to.fill(start, bytes)),
        }
    }

    /// Reads several tensors into their arrays, on the threads of a step unless arrays may overlap.
    /// After a failure, no further transfer begins.
    pub fn run_all(transfers: &[Transfer]) -> Result<(), checkpoint::Error> {
        let mut extents: Vec<_> = transfers.iter().map(|transfer| transfer.extent).collect();
        extents.sort_unstable();
        let apart = extents.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        let threads = if apart { threads::num_threads().0 } else { 1 };
        let failure = OnceLock::new();
        pool::for_each(transfers.len(), threads, |i| {
            if failure.get().is_none()
                && let Err(error) = transfers[i].run()
            {
                let _ = failure.set(error); // of simultaneous errors, the first is enough
            }
        });
        failure.into_inner().map_or(Ok(()), Err)
    }
}

/// Writes a checkpoint file. Each tensor is a name, the safetensors name of its type, and an array;
/// or an object with the `dtype` and the `shape` of an array, whose bytes `read(start, stop)` gives.
#[pyfunction]
pub fn write_checkpoint(
    py: Python<'_>,
    path: PathBuf,
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, String, Bound<'_, PyAny>)>,
) -> PyResult<()> {
    let _presence = Presence::begin(py);
    let draft = py.detach(|| Draft::open(&path)).map_err(Refusal::from)?;
    if let Some(reason) = draft.unlocked() {
        warn_unlocked(py, draft.directory(), reason)?; // before anything is written or looked at
    }
    let raised = Raised::default();
    let entries = tensors.iter().map(|(name, kind, object)| {
        let dtype = dtypes().map(|(dtype, _)| dtype).find(|d| d.to_string() == *kind);
        let of_size = |size| match dtype.filter(|dtype| dtype.bitsize() == 8 * size) {
            Some(dtype) => Ok(dtype),
            None => Err(Refusal::Value(format!("an array is not of the type {kind}"))),
        };
        let (size, shape, source): (usize, Vec<usize>, Box<dyn Source + Send + Sync>);
        if let Ok(array) = object.cast::<PyUntypedArray>() {
            let memory = Memory::of(array);
            (size, shape) = (array.dtype().itemsize(), memory.shape.to_vec());
            // SAFETY: `tensors` holds the arrays until the save has ended.
            source = Box::new(unsafe { Elements::new(&memory, size) });
        } else {
            size = object.getattr("dtype")?.getattr("itemsize")?.extract()?;
            shape = object.getattr("shape")?.extract()?;
            let len = size * shape.iter().product::<usize>();
            source = Box::new(Elsewhere::new(object, len, &raised));
        }
        Ok(NewTensor { name: name.clone(), dtype: of_size(size)?, shape, source })
    });
    let entries = entries.collect::<Outcome<Vec<_>>>()?;
    let done = interruptible(py, |pause| draft.save(&metadata, entries, pause));
    match raised.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => done,
    }
}

/// The content of a checkpoint file's header, with the body unchecked: the metadata with the
/// format; then name, type, shape, offset in the file, and size in bytes of each tensor.
#[pyfunction]
pub fn checkpoint_header(py: Python<'_>, path: PathBuf) -> PyResult<HeaderParts> {
    let _presence = Presence::begin(py);
    let header = py.detach(|| Checkpoint::open_header(&path)).map_err(Refusal::from)?;
    let mut metadata = header.metadata().clone();
    metadata.insert("thalweg.format".to_owned(), header.format().to_owned());
    let tensors = header.tensors().iter().map(|tensor| {
        let shape = PyTuple::new(py, &tensor.shape)?.unbind();
        Ok((tensor.name.clone(), tensor.dtype.to_string(), shape, tensor.offset, tensor.len))
    });
    Ok((metadata, tensors.collect::<PyResult<_>>()?))
}
