//! Trees of arrays: mappings, lists and tuples, flattened to names.
//!
//! A leaf's name is its path joined with dots.

use std::collections::HashSet;

use pyo3::exceptions::PyLookupError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::interpreter::dicts::Lookup;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::containers::{Child, Container, open};

/// Greatest depth of a tree. A list that contains itself exceeds it.
const DEPTH_MAX: usize = 200;

/// The name of a tree that is a single leaf.
pub const BARE: &str = "0";

/// Leaves by name, in the order of the tree.
pub type Leaves<'py> = Vec<(String, Bound<'py, PyAny>)>;

/// Names and leaves in the order of the tree, including `None`.
pub fn flatten<'py>(tree: &Bound<'py, PyAny>) -> Outcome<Leaves<'py>> {
    let mut leaves = Vec::new();
    Node::walk(tree, String::new(), 0, &mut |name, leaf: &Bound<'py, PyAny>| {
        leaves.push((name, leaf.clone()));
    })?;
    let mut seen = HashSet::new();
    match leaves.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        Some((name, _)) => Err(Refusal::DuplicateName { name: name.clone() }),
        None => Ok(leaves),
    }
}

/// A container or leaf of the parameters' tree, as it was when the tree was taken in.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub object: Py<PyAny>,
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    Leaf,
    Inner { container: Container, entries: Vec<(Option<Py<PyAny>>, Node)> },
}

impl Node {
    /// The nodes of a tree of parameters, and its leaves by name. `None` is not a leaf.
    pub fn new<'py>(tree: &Bound<'py, PyAny>) -> Outcome<(Node, Leaves<'py>)> {
        let mut leaves = flatten(tree)?;
        leaves.retain(|(_, leaf)| !leaf.is_none());
        let node = Node::walk(tree, String::new(), 0, &mut |_, _| ())?;
        Ok((node, leaves))
    }

    fn walk<'py>(
        object: &Bound<'py, PyAny>,
        path: String,
        depth: usize,
        visit: &mut impl FnMut(String, &Bound<'py, PyAny>),
    ) -> Outcome<Node> {
        if depth > DEPTH_MAX {
            return Err(Refusal::Depth);
        }
        let content = match open(object, &path)? {
            None => {
                visit(if depth == 0 { BARE.to_owned() } else { path.clone() }, object);
                Content::Leaf
            }
            Some((container, found)) => {
                let mut entries = Vec::with_capacity(found.len());
                for Child { key, name, child } in found {
                    let node = Node::walk(&child, name, depth + 1, visit)?;
                    entries.push((key.map(Bound::unbind), node));
                }
                Content::Inner { container, entries }
            }
        };
        Ok(Node { name: path, object: object.clone().unbind(), content })
    }

    /// Number of leaves in this node that are not `None`.
    pub fn count(&self, py: Python<'_>) -> usize {
        match &self.content {
            Content::Leaf => usize::from(!self.object.is_none(py)),
            Content::Inner { entries, .. } => entries.iter().map(|(_, node)| node.count(py)).sum(),
        }
    }

    /// Whether the node has leaves and all of them are frozen.
    fn is_frozen(&self, py: Python<'_>, frozen: &impl Fn(&str) -> bool) -> bool {
        match &self.content {
            Content::Leaf => !self.object.is_none(py) && frozen(&self.name),
            Content::Inner { entries, .. } => {
                !entries.is_empty() && entries.iter().all(|(_, node)| node.is_frozen(py, frozen))
            }
        }
    }

    /// The names of all nodes, leaves or not.
    pub fn add_names<'a>(&'a self, names: &mut HashSet<&'a str>) {
        names.insert(&self.name);
        if let Content::Inner { entries, .. } = &self.content {
            entries.iter().for_each(|(_, node)| node.add_names(names));
        }
    }

    /// Shows the objects to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        if let Content::Inner { entries, .. } = &self.content {
            for (key, node) in entries {
                visit.call(key)?;
                node.traverse(visit)?;
            }
        }
        Ok(())
    }

    /// The name of the first node that its container no longer holds. Frozen leaves are ignored.
    pub fn first_rebound(
        &self,
        py: Python<'_>,
        frozen: &impl Fn(&str) -> bool,
    ) -> PyResult<Option<&str>> {
        let Content::Inner { entries, .. } = &self.content else { return Ok(None) };
        let mut dict = self.object.bind(py).cast().ok().map(Lookup::of);
        for (i, (key, node)) in entries.iter().enumerate() {
            let held = match (&mut dict, key) {
                (Some(dict), Some(key)) => {
                    dict.next(key)?.is_some_and(|child| child.is(&node.object))
                }
                _ => self.holds(py, i)?,
            };
            if held {
                if let Some(name) = node.first_rebound(py, frozen)? {
                    return Ok(Some(name));
                }
            } else if !node.is_frozen(py, frozen) {
                return Ok(Some(&node.name));
            }
        }
        Ok(None)
    }

    /// Whether the container still holds the same object as entry number `i`.
    fn holds(&self, py: Python<'_>, i: usize) -> PyResult<bool> {
        let Content::Inner { container, entries } = &self.content else { return Ok(true) };
        let (object, (key, node)) = (self.object.bind(py), &entries[i]);
        Ok(match (container, key) {
            (Container::Tuple, _) => true,
            (Container::List, _) | (_, None) => match object.cast::<PyList>() {
                Ok(list) => i < list.len() && list.get_item(i)?.is(&node.object),
                Err(_) => false,
            },
            (Container::Mapping, Some(key)) => match object.cast::<PyDict>() {
                Ok(dict) => dict.get_item(key)?.is_some_and(|child| child.is(&node.object)),
                Err(_) => match object.get_item(key) {
                    Ok(child) => child.is(&node.object),
                    Err(error) if error.is_instance_of::<PyLookupError>(py) => false,
                    Err(error) => return Err(error),
                },
            },
        })
    }

    /// The name of the first node on a path that its container no longer holds.
    pub fn first_rebound_above(&self, py: Python<'_>, path: &[usize]) -> PyResult<Option<&str>> {
        let mut node = self;
        for i in path {
            let Content::Inner { entries, .. } = &node.content else { break };
            let held = node.holds(py, *i)?;
            node = &entries[*i].1;
            if !held {
                return Ok(Some(&node.name));
            }
        }
        Ok(None)
    }

    /// Path of each leaf that is not `None`, in order: the position of the entry in each container.
    pub fn paths(&self, py: Python<'_>) -> Vec<Box<[usize]>> {
        let mut paths = Vec::new();
        self.add_paths(py, &mut Vec::new(), &mut paths);
        paths
    }

    fn add_paths(&self, py: Python<'_>, above: &mut Vec<usize>, paths: &mut Vec<Box<[usize]>>) {
        match &self.content {
            Content::Leaf if self.object.is_none(py) => {}
            Content::Leaf => paths.push(above.as_slice().into()),
            Content::Inner { entries, .. } => {
                for (i, (_, node)) in entries.iter().enumerate() {
                    above.push(i);
                    node.add_paths(py, above, paths);
                    above.pop();
                }
            }
        }
    }
}
