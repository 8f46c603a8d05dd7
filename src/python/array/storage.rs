//! The core's storage for each NumPy dtype.

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use thalweg::array::storage::Storage;

use crate::array::memory::Memory;

/// A storage with NumPy's dtype object for it.
pub struct Known {
    storage: Storage,
    descr: Py<PyArrayDescr>,
    /// Address of the dtype object.
    address: usize,
}

/// The storage of the array's elements; `None` if the core has none for the dtype or the byte order
/// is not native.
#[inline]
pub fn storage_of(array: &Bound<'_, PyUntypedArray>) -> Option<Storage> {
    // Nearly every array has NumPy's own dtype object, which its address identifies.
    let (known, address) = (known(array.py()), Memory::descr(array));
    for known in known {
        if known.address == address {
            return Some(known.storage);
        }
    }
    equivalent(array, known)
}

/// Equivalence of dtypes includes the byte order, which must be native.
#[cold]
fn equivalent(array: &Bound<'_, PyUntypedArray>, known: &[Known]) -> Option<Storage> {
    let (py, dtype) = (array.py(), array.dtype());
    known.iter().find(|known| dtype.is_equiv_to(known.descr.bind(py))).map(|known| known.storage)
}

/// Storages with NumPy's dtype objects; made once, when this module is loaded, before any array is
/// checked.
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
