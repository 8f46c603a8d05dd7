//! The core's storage for each NumPy dtype.

use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use thalweg::array::storage::Storage;

use crate::array::memory::Memory;
use crate::interpreter::errors::Shape;

/// From here on, NumPy numbers the types that extensions register.
const NPY_USERDEF: i32 = 256;

/// Dtype and shape, in messages.
pub fn kind_of(storage: Storage, shape: &[usize]) -> String {
    format!("{} {}", storage.numpy(), Shape(shape))
}

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
    // Each process has one dtype object of bfloat16; another one is found by name.
    match BFLOAT16.get(array.py()) {
        Some(bfloat16) if bfloat16.as_ptr().addr() == address => Some(Storage::BF16),
        _ => equivalent(array, known),
    }
}

/// The dtype object of bfloat16 that was seen first.
static BFLOAT16: PyOnceLock<Py<PyArrayDescr>> = PyOnceLock::new();

/// Equivalence of dtypes includes the byte order, which must be native.
#[cold]
fn equivalent(array: &Bound<'_, PyUntypedArray>, known: &[Known]) -> Option<Storage> {
    let (py, dtype) = (array.py(), array.dtype());
    let known = known.iter().find(|known| dtype.is_equiv_to(known.descr.bind(py)));
    known.map(|known| known.storage).or_else(|| {
        is_bfloat16(&dtype).then(|| {
            BFLOAT16.get_or_init(py, || dtype.unbind());
            Storage::BF16
        })
    })
}

/// Whether a dtype is the bfloat16 of `ml_dtypes`, by name: nothing is imported. NumPy gives no
/// dtype of a program's own class a number of its own.
fn is_bfloat16(dtype: &Bound<'_, PyArrayDescr>) -> bool {
    let named = |class: &Bound<'_, PyType>| {
        class.fully_qualified_name().is_ok_and(|name| name == "ml_dtypes.bfloat16")
    };
    let is_native = dtype.is_native_byteorder() != Some(false);
    is_native && dtype.num() >= NPY_USERDEF && dtype.itemsize() == 2 && named(&dtype.typeobj())
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
        let is_of_numpy = |storage: &&Storage| **storage != Storage::BF16;
        Storage::ALL.iter().filter(is_of_numpy).filter_map(known).collect()
    })
}
