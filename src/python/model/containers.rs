//! Mappings, lists and tuples: the containers in trees.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::interpreter::errors::{Outcome, Refusal, if_said};
use crate::interpreter::types::type_name;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Container {
    Mapping,
    List,
    /// Its entries cannot be replaced.
    Tuple,
}

pub struct Child<'py> {
    /// The key, in a mapping.
    pub key: Option<Bound<'py, PyAny>>,
    pub name: String,
    pub child: Bound<'py, PyAny>,
}

/// The entries of `object` if it is a container, with their full names.
pub fn open<'py>(
    object: &Bound<'py, PyAny>,
    path: &str,
) -> Outcome<Option<(Container, Vec<Child<'py>>)>> {
    let join = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    let keyed = |(key, child): (Bound<'py, PyAny>, Bound<'py, PyAny>)| -> Outcome<Child<'py>> {
        Ok(Child { name: join(&key_name(path, &key)?), key: Some(key), child })
    };
    if let Ok(dict) = object.cast::<PyDict>() {
        // All entries are taken first: naming them runs code of the keys, which can change the
        // dict.
        let entries: Vec<_> = dict.iter().collect();
        let entries = entries.into_iter().map(keyed).collect::<Outcome<_>>()?;
        return Ok(Some((Container::Mapping, entries)));
    }
    if let Ok(list) = object.cast::<PyList>() {
        let entries = list.iter().enumerate();
        let entry = |(i, child): (usize, _)| Child { key: None, name: join(&i.to_string()), child };
        return Ok(Some((Container::List, entries.map(entry).collect())));
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        let fields = fields_of(tuple)?.unwrap_or_default();
        let entry = |(i, child): (usize, _)| {
            let name = fields.get(i).map_or_else(|| join(&i.to_string()), |field| join(field));
            Child { key: None, name, child }
        };
        return Ok(Some((Container::Tuple, tuple.iter().enumerate().map(entry).collect())));
    }
    if is_mapping(object)? {
        let keys = object.call_method0("keys")?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let child = object.get_item(&key)?;
            entries.push(keyed((key, child))?);
        }
        return Ok(Some((Container::Mapping, entries)));
    }
    Ok(None)
}

/// Whether the object is a `collections.abc.Mapping`; false for arrays.
///
/// PyO3's cast to a mapping also runs Python code, but loses exceptions raised there, such as an
/// interrupt.
pub fn is_mapping(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static MAPPING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if object.is_instance_of::<PyUntypedArray>() {
        return Ok(false);
    }
    object.is_instance(MAPPING.import(object.py(), "collections.abc", "Mapping")?)
}

/// The field names of a namedtuple; `None` for other tuples.
fn fields_of(tuple: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
    let fields = tuple.getattr_opt("_fields")?;
    Ok(fields.map(|fields| if_said(tuple.py(), fields.extract())).transpose()?.flatten())
}

/// Whether a tuple has no field names, or the same as `other`.
pub fn same_fields(tuple: &Bound<'_, PyTuple>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Comparing types first avoids attribute lookups.
    if tuple.is_exact_instance_of::<PyTuple>() || tuple.get_type().is(other.get_type()) {
        return Ok(true);
    }
    let fields = fields_of(tuple)?;
    Ok(fields.is_none() || fields == fields_of(other)?)
}

fn key_name(path: &str, key: &Bound<'_, PyAny>) -> Outcome<String> {
    if key.is_instance_of::<PyString>() || key.hasattr("__index__")? {
        return Ok(key.str()?.to_cow()?.into_owned());
    }
    Err(Refusal::Key { path: path.to_owned(), got: type_name(key) })
}
