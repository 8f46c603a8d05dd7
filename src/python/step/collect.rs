//! Collection of a step's gradients, from a tree or by name.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use thalweg::error::Quoted;

use crate::array::checks::{gradient_of, same};
use crate::array::files::Maps;
use crate::array::foreign::{Role, advice, as_array, offers_array};
use crate::array::memory::Memory;
use crate::array::rows::GivenRows;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::interpreter::types::type_name;
use crate::model::Model;
use crate::model::gradients::{Given, Known, collect_by_name, collect_flat};
use crate::model::leaf::Active;
use crate::model::tree::{BARE, flatten};
use crate::step::workspace::Workspace;

/// Finds the gradient of each leaf; refuses names that do not fit.
pub fn collect(
    model: &Model,
    work: &mut Workspace,
    grads: &Bound<'_, PyAny>,
    partial: bool,
) -> Outcome<()> {
    let words = model.options.wording;
    let Model { tree, leaves, index, classes, sorted, .. } = model;
    let trains = |leaf: usize| !classes[leaves[leaf].class].frozen;
    let given = &mut work.given;
    given.resize_with(leaves.len(), Given::default);
    let mut extra = Vec::new();
    if !tree.collect(grads, given, &mut 0)?
        && !collect_flat(grads, leaves.iter().map(|leaf| &leaf.key), given)?
    {
        extra = collect_by_name(grads, tree, index, (leaves, sorted), given)?;
    }
    if let [name] = &extra[..]
        && name == BARE
        && !is_array(grads)?
    {
        return Err(Refusal::NotAnArray {
            what: words.inputs.to_owned(),
            kind: "a tree like that of the parameters, or a dict of names",
            got: type_name(grads),
            advice: advice(grads, Role::Read).unwrap_or("pass all arrays in one tree"),
        });
    }
    let mut missing = Vec::new();
    let mut any = false;
    for (leaf, given) in given.iter().enumerate().filter(|(leaf, _)| trains(*leaf)) {
        match given {
            Given::Missing if !partial => missing.push(leaves[leaf].name.clone()),
            Given::Object(_) | Given::Rows(_) => any = true,
            Given::Missing | Given::Skipped => {}
        }
    }
    let mut inner: Vec<&String> = extra.iter().collect();
    inner.sort_unstable();
    let inside = |name: &String| {
        let prefix = format!("{name}.");
        let start = inner.partition_point(|other| **other < prefix);
        inner.get(start).is_some_and(|other| other.starts_with(&prefix))
    };
    if let Some(name) = missing.iter().find(|name| inside(name)) {
        return Err(Refusal::NotAnArray {
            what: format!("{} {}", words.input, Quoted(name)),
            kind: words.kind,
            got: "a container".to_owned(),
            advice: words.advice,
        });
    }
    if !missing.is_empty() || !extra.is_empty() {
        return Err(Refusal::Names {
            tree: words.inputs,
            owner: words.owner,
            missing,
            extra,
            if_missing: words.if_missing,
            if_extra: words.if_extra,
        });
    }
    if !any {
        return Err(Refusal::Value(words.none.to_owned()));
    }
    let is_given = |leaf: &usize| trains(*leaf) && matches!(given[*leaf], Given::Object(_));
    work.chosen.extend(sorted.iter().copied().filter(is_given));
    convert(grads.py(), model, work)
}

/// Whether the object is an ndarray or offers one.
fn is_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.is_instance_of::<PyUntypedArray>() || offers_array(object)?)
}

/// Finds the gradients of some leaves in an open step, each leaf at most once per step.
pub fn collect_some(model: &Model, work: &mut Workspace, grads: &Bound<'_, PyAny>) -> Outcome<()> {
    let words = model.options.wording;
    let py = grads.py();
    let Model { tree, leaves, index, classes, open, .. } = model;
    let done = |leaf: usize| open.as_ref().is_some_and(|open| open.done[leaf]);
    work.given.resize_with(leaves.len(), Given::default);
    let known = Known::of(tree);
    let mut extra = Vec::new();
    for (name, object) in flatten(grads)? {
        match index.get(&name) {
            Some(leaf) if object.is_none() || classes[leaves[*leaf].class].frozen => {}
            Some(leaf) if done(*leaf) => return Err(Refusal::Twice { name }),
            Some(leaf) => {
                work.given[*leaf] = Given::Object(object.unbind());
                work.chosen.push(*leaf);
            }
            None if object.is_none() && (grads.is_none() || known.has(&name)) => {}
            None => extra.push(name),
        }
    }
    if !extra.is_empty() {
        return Err(Refusal::Names {
            tree: words.inputs,
            owner: words.owner,
            missing: Vec::new(),
            extra,
            if_missing: words.if_missing,
            if_extra: words.if_extra,
        });
    }
    work.chosen.sort_by(|one, other| leaves[*one].name.cmp(&leaves[*other].name));
    for leaf in &work.chosen {
        if let Some(name) = tree.first_rebound_above(py, &leaves[*leaf].path)? {
            return Err(Refusal::Rebound { name: name.to_owned() });
        }
    }
    convert(py, model, work)
}

/// Conversions that may run Python code, and so come before the checks of arrays: the indices of
/// rows are copied; NumPy scalars and arrays of other libraries become ndarrays. If the optimizer's
/// arrays are files, gradients are looked up in the table of mappings.
fn convert(py: Python<'_>, model: &Model, work: &mut Workspace) -> Outcome<()> {
    let mut maps = Maps::default();
    for leaf in &work.chosen {
        let given = &mut work.given[*leaf];
        let what =
            || format!("{} {}", model.options.wording.input, Quoted(&model.leaves[*leaf].name));
        if let Given::Object(object) = given
            && let Some(rows) = GivenRows::of(object.bind(py), what)?
        {
            *given = Given::Rows(Box::new(rows));
        }
        let object = match given {
            Given::Object(object) => object,
            Given::Rows(rows) => &mut rows.values,
            Given::Missing | Given::Skipped => continue,
        };
        if let Some(array) = as_array(object.bind(py), what)? {
            *object = array.unbind();
        }
        let array = object.bind(py).cast::<PyUntypedArray>().ok();
        work.places.push(match array {
            Some(array) if !model.written.mapped.is_empty() => maps.place(array)?,
            _ => None,
        });
    }
    Ok(())
}

/// The gradients of all leaves in order, if those of leaves that train are slices of the leaf's own
/// type and shape, or missing. `work` is cleared.
pub fn slices(
    py: Python<'_>,
    model: &Model,
    work: &mut Workspace,
    grads: &Bound<'_, PyAny>,
) -> Outcome<Option<Vec<Option<Py<PyAny>>>>> {
    work.clear();
    collect(model, work, grads, false)?;
    let mut found = vec![];
    found.resize_with(model.leaves.len(), || None);
    for leaf in &work.chosen {
        let Given::Object(object) = &work.given[*leaf] else { continue };
        let Some(active) = &model.leaves[*leaf].active else { continue };
        if !is_slice(object.bind(py), active) {
            work.clear();
            return Ok(None);
        }
        found[*leaf] = Some(object.clone_ref(py));
    }
    let has_rows = work.given.iter().any(|given| matches!(given, Given::Rows(_)));
    work.clear();
    Ok((!has_rows).then_some(found))
}

/// Whether an object is a slice of numbers like those of the parameter.
fn is_slice(object: &Bound<'_, PyAny>, active: &Active) -> bool {
    let Ok((array, storage)) = gradient_of(object, String::new, false) else { return false };
    let memory = Memory::of(array);
    storage == active.p.storage
        && same(memory.shape, &active.p.shape)
        && memory.c_contiguous()
        && memory.aligned()
}
