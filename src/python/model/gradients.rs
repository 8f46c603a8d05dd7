//! Gradients of leaves, found in a tree or by name.
//!
//! Gradients mostly come in the same tree as the parameters, so both trees are walked together
//! first. Then a flat dict of names is tried. Any other tree is flattened and looked up by name.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::array::foreign::offers_array;
use crate::array::rows::GivenRows;
use crate::interpreter::dicts::Lookup;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::containers::{Container, is_mapping, same_fields};
use crate::model::leaf::Leaf;
use crate::model::tree::{Content, Node, flatten};

/// The entry for a leaf's gradient.
#[derive(Debug, Default)]
pub enum Given {
    /// No entry.
    #[default]
    Missing,
    /// `None`, at the leaf or above.
    Skipped,
    /// An object that should be an array.
    Object(Py<PyAny>),
    /// Rows, found among the objects.
    Rows(Box<GivenRows>),
}

impl Node {
    /// Collects the gradients from a tree with the structure of this node; false if the structure
    /// differs.
    ///
    /// `given` has an entry for each leaf, in order. Those of this node begin at `next`, which is
    /// moved past them.
    pub fn collect(
        &self,
        grads: &Bound<'_, PyAny>,
        given: &mut [Given],
        next: &mut usize,
    ) -> PyResult<bool> {
        let py = grads.py();
        let Content::Inner { container, entries } = &self.content else {
            if self.object.is_none(py) {
                return Ok(grads.is_none());
            }
            given[*next] = match () {
                () if grads.is_none() => Given::Skipped,
                () if is_container(grads) => return Ok(false),
                () => Given::Object(grads.clone().unbind()),
            };
            *next += 1;
            return Ok(true);
        };
        if grads.is_none() {
            let below = *next..*next + self.count(py);
            *next = below.end;
            given[below].fill_with(|| Given::Skipped);
            return Ok(true);
        }
        if let (Container::Mapping, Ok(dict)) = (container, grads.cast::<PyDict>()) {
            if dict.len() != entries.len() {
                return Ok(false);
            }
            let mut dict = Lookup::of(dict);
            for (key, node) in entries {
                let child = key.as_ref().map_or(Ok(None), |key| dict.next(key))?;
                let Some(child) = child else { return Ok(false) };
                if !node.collect(&child, given, next)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let children: Vec<Bound<'_, PyAny>> = match (container, grads.cast::<PyList>()) {
            (Container::Mapping, _) => return Ok(false),
            (_, Ok(list)) => list.iter().collect(),
            (_, Err(_)) => match grads.cast::<PyTuple>() {
                // Fields in another order have other names.
                Ok(tuple) if !same_fields(tuple, self.object.bind(py))? => return Ok(false),
                Ok(tuple) => tuple.iter().collect(),
                Err(_) => return Ok(false),
            },
        };
        if children.len() != entries.len() {
            return Ok(false);
        }
        for ((_, node), child) in entries.iter().zip(&children) {
            if !node.collect(child, given, next)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_container(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyDict>()
        || object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyTuple>()
}

/// Collects the gradients from a dict of names; `keys` are in the order of the leaves. False if the
/// dict has other keys, or values that are neither arrays nor `None`.
pub fn collect_flat<'k>(
    grads: &Bound<'_, PyAny>,
    keys: impl Iterator<Item = &'k Py<PyString>>,
    given: &mut [Given],
) -> PyResult<bool> {
    let Ok(dict) = grads.cast::<PyDict>() else { return Ok(false) };
    let mut found = 0;
    for (key, given) in keys.zip(given) {
        *given = match dict.get_item(key)? {
            None => Given::Missing,
            Some(gradient) if gradient.is_none() => Given::Skipped,
            Some(gradient)
                if gradient.is_instance_of::<PyUntypedArray>()
                    || (offers_array(&gradient)? && !is_mapping(&gradient)?) =>
            {
                Given::Object(gradient.unbind())
            }
            Some(_) => return Ok(false),
        };
        found += usize::from(!matches!(given, Given::Missing));
    }
    Ok(found == dict.len())
}

/// The names of all nodes in the tree of the parameters, collected on first use.
pub struct Known<'a> {
    tree: &'a Node,
    nodes: OnceCell<HashSet<&'a str>>,
}

impl<'a> Known<'a> {
    pub fn of(tree: &'a Node) -> Self {
        Known { tree, nodes: OnceCell::new() }
    }

    /// Whether a node, leaf or not, has this name.
    pub fn has(&self, name: &str) -> bool {
        let gathered = || {
            let mut names = HashSet::new();
            self.tree.add_names(&mut names);
            names
        };
        self.nodes.get_or_init(gathered).contains(name)
    }
}

/// Collects the gradients from any tree, by name; returns the names that are no leaf. `sorted` are
/// the leaves in the order of their names.
///
/// `None` in place of a container stands for all leaves below it.
pub fn collect_by_name(
    grads: &Bound<'_, PyAny>,
    tree: &Node,
    index: &HashMap<String, usize>,
    (leaves, sorted): (&[Leaf], &[usize]),
    given: &mut [Given],
) -> Outcome<Vec<String>> {
    given.fill_with(Given::default);
    let known = Known::of(tree);
    let mut extra = Vec::new();
    let mut give = |i: usize, name: &str, gradient: Given| match given[i] {
        Given::Missing => {
            given[i] = gradient;
            Ok(())
        }
        _ => Err(Refusal::DuplicateName { name: name.to_owned() }),
    };
    for (name, object) in flatten(grads)? {
        match index.get(&name) {
            Some(i) if object.is_none() => give(*i, &name, Given::Skipped)?,
            Some(i) => give(*i, &name, Given::Object(object.unbind()))?,
            None if object.is_none() && known.has(&name) => {
                let prefix = format!("{name}.");
                let start = sorted.partition_point(|i| leaves[*i].name < prefix);
                let below = sorted[start..].iter().map(|i| (*i, &leaves[*i].name));
                for (i, leaf) in below.take_while(|(_, leaf)| leaf.starts_with(&prefix)) {
                    give(i, leaf, Given::Skipped)?;
                }
            }
            None => extra.push(name),
        }
    }
    Ok(extra)
}
