//! Names of types, and loaded modules, read without running Python code.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// The name of an object's type, with its module unless it is a builtin.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    match object.get_type().fully_qualified_name() {
        Ok(name) => name.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

/// `sys.modules`; looked up once, when this module is loaded, before any array is checked.
pub fn loaded_modules(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = || Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into()?.unbind());
    Ok(MODULES.get_or_try_init(py, modules)?.bind(py))
}
