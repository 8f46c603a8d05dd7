//! What the elements of arrays are.

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use thalweg::array::storage::Storage;

use crate::array::memory::Memory;

/// A storage with NumPy's dtype object for it.
pub struct Known {
    storage: Storage,
    descr: Py<PyArrayDescr>,
    /// Of the object.
    address: usize,
}

/// What the array's elements are, if that is one of ours in native byte order.
#[inline]
pub fn storage_of(array: &Bound<'_, PyUntypedArray>) -> Option<Storage> {
    // Nearly every array has NumPy's own dtype object, which is told by its address.
    let (known, address) = (known(array.py()), Memory::descr(array));
    for known in known {
        if known.address == address {
            return Some(known.storage);
        }
    }
    equivalent(array, known)
}

/// Equivalence asks for native byte order too.
#[cold]
fn equivalent(array: &Bound<'_, PyUntypedArray>, known: &[Known]) -> Option<Storage> {
    let (py, dtype) = (array.py(), array.dtype());
    known.iter().find(|known| dtype.is_equiv_to(known.descr.bind(py))).map(|known| known.storage)
}

/// Storages with NumPy's dtype objects; made once, before there are arrays to check.
pub fn known(py: Python<'_>) -> &[Known] {
    static KNOWN: PyOnceLock<Vec<Known>> = PyOnceLock::new();
    KNOWN.get_or_init(py, || {
        let known = |storage: &Storage| {
            let descr = PyArrayDescr::new(py, storage.numpy()).ok()?;
            let address = descr.as_ptr().addr();
            Some(Known { storage: *storage, descr: descr.unbind(), address })
        };
        Storage::ALL.iter().filter_map(known).collect()
    })
}
