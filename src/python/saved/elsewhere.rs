//! Arrays of a save that are not in the memory of this process: a Python object gives their bytes.

use std::io;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use thalweg::checkpoint::Source;

/// Bytes asked for at a time.
const PIECE: usize = 1 << 20;

/// An array whose bytes `read(start, stop)` of an object gives, in C order.
#[derive(Debug)]
pub struct Elsewhere<'a> {
    object: Py<PyAny>,
    len: usize,
    /// What `read` raised, for the caller of the save.
    raised: &'a Raised,
}

/// The first exception of several sources.
pub type Raised = Mutex<Option<PyErr>>;

impl<'a> Elsewhere<'a> {
    /// The `len` bytes of an object.
    pub fn new(object: &Bound<'_, PyAny>, len: usize, raised: &'a Raised) -> Self {
        Elsewhere { object: object.clone().unbind(), len, raised }
    }

    fn pieces(
        &self,
        py: Python<'_>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> PyResult<io::Result<()>> {
        for start in (0..self.len).step_by(PIECE) {
            let stop = self.len.min(start + PIECE);
            let bytes = self.object.bind(py).call_method1("read", (start, stop))?;
            if let Err(error) = sink(bytes.cast::<PyBytes>()?.as_bytes()) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

impl Source for Elsewhere<'_> {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        Python::attach(|py| self.pieces(py, sink)).unwrap_or_else(|error| {
            if let Ok(mut raised) = self.raised.lock() {
                raised.get_or_insert(error);
            }
            Err(io::Error::other("the bytes of an array cannot be read"))
        })
    }
}
