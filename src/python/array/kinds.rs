//! Element types of arrays.

use numpy::{
    PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype, npyffi,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use thalweg::number::element::Kind;

use crate::array::memory::Memory;

/// The array's element type, if it is one of ours in native byte order.
pub fn kind_of(array: &Bound<'_, PyUntypedArray>) -> Option<Kind> {
    static USUAL: PyOnceLock<[Py<PyArrayDescr>; 2]> = PyOnceLock::new();
    // Nearly every array has NumPy's own dtype object, which is told by its address.
    let py = array.py();
    let [single, double] =
        USUAL.get_or_init(py, || [dtype::<f32>(py).unbind(), dtype::<f64>(py).unbind()]);
    let descr = Memory::descr(array);
    if descr == single.as_ptr().addr() {
        return Some(Kind::F32);
    }
    if descr == double.as_ptr().addr() {
        return Some(Kind::F64);
    }
    let dtype = array.dtype();
    let kind = match dtype.num() {
        n if n == npyffi::NPY_TYPES::NPY_FLOAT as i32 => Kind::F32,
        n if n == npyffi::NPY_TYPES::NPY_DOUBLE as i32 => Kind::F64,
        _ => return None,
    };
    dtype.is_native_byteorder().unwrap_or(false).then_some(kind)
}
