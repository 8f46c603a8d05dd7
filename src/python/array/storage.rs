//! What the elements of arrays are.

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use thalweg::array::storage::Storage;

use crate::array::memory::Memory;

/// What the array's elements are, if that is one of ours in native byte order.
pub fn storage_of(array: &Bound<'_, PyUntypedArray>) -> Option<Storage> {
    let py = array.py();
    // Nearly every array has NumPy's own dtype object, which is told by its address.
    let known = known(py);
    let descr = Memory::descr(array);
    if let Some((storage, _)) = known.iter().find(|(_, known)| known.as_ptr().addr() == descr) {
        return Some(*storage);
    }
    let dtype = array.dtype();
    // Equivalence asks for native byte order too.
    let found = known.iter().find(|(_, known)| dtype.is_equiv_to(known.bind(py)));
    found.map(|(storage, _)| *storage)
}

/// Storages with NumPy's dtype objects; made once, before there are arrays to check.
pub fn known(py: Python<'_>) -> &[(Storage, Py<PyArrayDescr>)] {
    static KNOWN: PyOnceLock<Vec<(Storage, Py<PyArrayDescr>)>> = PyOnceLock::new();
    KNOWN.get_or_init(py, || {
        let descr = |storage: &Storage| {
            PyArrayDescr::new(py, storage.numpy()).ok().map(|descr| (*storage, descr.unbind()))
        };
        Storage::ALL.iter().filter_map(descr).collect()
    })
}
