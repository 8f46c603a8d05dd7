//! Arrays of other libraries: converted by NumPy if they offer it, else refused with advice.

use numpy::PyUntypedArray;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::interpreter::errors::{Outcome, Refusal, if_said};
use crate::interpreter::types::type_name;

/// The use of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Written,
    Read,
}

/// Whether the object offers an array to NumPy by `__array__`; true for NumPy's scalars too.
///
/// The lookup is on the type, which runs no code of the object.
pub fn offers_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.get_type().hasattr(intern!(object.py(), "__array__"))
}

/// `object` as an ndarray, without a copy if its library shares memory. `None` for ndarrays, and
/// for objects without `__array__`, from which NumPy would have to guess an array.
pub fn as_array<'py>(
    object: &Bound<'py, PyAny>,
    what: impl Fn() -> String,
) -> Outcome<Option<Bound<'py, PyAny>>> {
    if object.is_instance_of::<PyUntypedArray>() || !offers_array(object)? {
        return Ok(None);
    }
    let py = object.py();
    match py.import(intern!(py, "numpy"))?.call_method1(intern!(py, "asarray"), (object,)) {
        Ok(array) => Ok(Some(array)),
        Err(cause) if is_a_refusal(py, &cause) => {
            let advice = match advice(object, Role::Read) {
                Some(advice) => advice.to_owned(),
                None => first_line(py, &cause)?,
            };
            let (what, got) = (what(), type_name(object));
            Err(Refusal::Unreadable { what, got, advice, cause: Box::new(cause) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an exception says that an object gives no array or number. Subclasses of `RuntimeError`
/// say something else, such as that an optimizer is in use.
pub fn is_a_refusal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyValueError>(py)
        || error.get_type(py).is(py.get_type::<PyRuntimeError>())
}

/// The first line of a library's message; the exception, as the cause, has the rest.
fn first_line(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let text = if_said(py, error.value(py).str().and_then(|text| text.extract::<String>()))?;
    Ok(text.unwrap_or_default().lines().next().unwrap_or_default().to_owned())
}

/// Advice about an object of a known library that is not an ndarray.
pub fn advice(object: &Bound<'_, PyAny>, role: Role) -> Option<&'static str> {
    // The object's class may derive from one of the library.
    let types = object.get_type().mro();
    types.iter().find_map(|class| {
        let name = class.cast::<PyType>().ok()?.fully_qualified_name().ok()?.to_string();
        advice_by_name(&name, role)
    })
}

fn advice_by_name(name: &str, role: Role) -> Option<&'static str> {
    let library = name.split('.').next()?;
    match (library, role) {
        ("jax" | "jaxlib", _) if name.ends_with("Tracer") => Some(
            "call this outside the functions that JAX transforms (jit, grad, vmap), with the \
             arrays that they return",
        ),
        ("jax" | "jaxlib", Role::Written) => Some(
            "JAX arrays are immutable, so keep parameters in NumPy arrays (np.array(x)) and give \
             those to the functions that JAX transforms",
        ),
        ("autograd", _) => Some(
            "call this outside the function that autograd differentiates, with the gradients that \
             grad returns",
        ),
        ("torch", Role::Written) => Some(
            "pass the memory of a CPU tensor (t.detach().numpy()), or use thalweg.torch with the \
             tensors themselves",
        ),
        ("torch", Role::Read) => Some(
            "pass a dense float32 or float64 tensor on the CPU that requires no gradient \
             (g.detach().float().cpu())",
        ),
        ("scipy", Role::Written) => Some("convert the sparse array to a dense one (x.toarray())"),
        ("scipy", Role::Read) => Some(
            "pass its rows (thalweg.Rows.from_scipy(g)), or convert it to a dense array \
             (g.toarray())",
        ),
        _ => None,
    }
}
