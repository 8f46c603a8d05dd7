//! Trees of arrays: mappings, lists and tuples become flat names, natively.
//!
//! A leaf's name is its path joined with dots. Gradients mostly come as the very tree that the
//! parameters are, so that is tried first, node beside node; then a flat dict of names; any other
//! tree is flattened and looked up.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use numpy::PyUntypedArray;
use pyo3::exceptions::PyLookupError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::array::foreign::offers_array;
use crate::interpreter::errors::{Outcome, Refusal, if_said};
use crate::interpreter::types::type_name;
use crate::model::leaf::Leaf;

/// Deeper trees are refused; a list that contains itself is one.
const DEPTH_MAX: usize = 200;

/// The name of a tree that is a single leaf.
pub const BARE: &str = "0";

/// Leaves by name, in the order of the tree.
pub type Leaves<'py> = Vec<(String, Bound<'py, PyAny>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Container {
    Mapping,
    List,
    /// Its entries cannot be replaced.
    Tuple,
}

struct Entry<'py> {
    /// The key of a mapping.
    key: Option<Bound<'py, PyAny>>,
    name: String,
    child: Bound<'py, PyAny>,
}

/// The entries of `object` if it is a container, with their full names.
fn open<'py>(
    object: &Bound<'py, PyAny>,
    path: &str,
) -> Outcome<Option<(Container, Vec<Entry<'py>>)>> {
    let join = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    let keyed = |(key, child): (Bound<'py, PyAny>, Bound<'py, PyAny>)| -> Outcome<Entry<'py>> {
        Ok(Entry { name: join(&key_name(path, &key)?), key: Some(key), child })
    };
    if let Ok(dict) = object.cast::<PyDict>() {
        // Taken before they are named, which runs code of the keys.
        let entries: Vec<_> = dict.iter().collect();
        let entries = entries.into_iter().map(keyed).collect::<Outcome<_>>()?;
        return Ok(Some((Container::Mapping, entries)));
    }
    if let Ok(list) = object.cast::<PyList>() {
        let entries = list.iter().enumerate();
        let entry = |(i, child): (usize, _)| Entry { key: None, name: join(&i.to_string()), child };
        return Ok(Some((Container::List, entries.map(entry).collect())));
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        let fields = fields_of(tuple)?.unwrap_or_default();
        let entry = |(i, child): (usize, _)| {
            let name = fields.get(i).map_or_else(|| join(&i.to_string()), |field| join(field));
            Entry { key: None, name, child }
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

/// Whether it is a mapping of another kind than dict.
///
/// Asked by hand: a cast to PyO3's mapping runs Python code too, and loses what that raises, such as
/// an interrupt.
fn is_mapping(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static MAPPING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if object.is_instance_of::<PyUntypedArray>() {
        return Ok(false);
    }
    object.is_instance(MAPPING.import(object.py(), "collections.abc", "Mapping")?)
}

/// The field names of a namedtuple.
fn fields_of(tuple: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
    let fields = tuple.getattr_opt("_fields")?;
    Ok(fields.map(|fields| if_said(tuple.py(), fields.extract())).transpose()?.flatten())
}

/// Whether a tuple has no field names, or those of the other.
fn same_fields(tuple: &Bound<'_, PyTuple>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Types tell at once, without looking for attributes.
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
    Err(Refusal::Key { path: path.to_owned(), got: format!("of type {}", type_name(key)) })
}

/// Names and leaves in the order of the tree, `None` among them.
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

/// The parameters' containers and leaves, as they were when the optimizer was made.
#[derive(Debug)]
pub struct Node {
    name: String,
    object: Py<PyAny>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Leaf,
    Inner { container: Container, entries: Vec<(Option<Py<PyAny>>, Node)> },
}

/// What a leaf's gradient is.
#[derive(Debug, Default)]
pub enum Given {
    /// Nothing was said.
    #[default]
    Missing,
    /// `None`, at the leaf or above.
    Skipped,
    /// An object that should be an array.
    Object(Py<PyAny>),
}

impl Node {
    /// Takes in a tree of parameters: its nodes, and its leaves by name. `None` is no leaf.
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
                for Entry { key, name, child } in found {
                    let node = Node::walk(&child, name, depth + 1, visit)?;
                    entries.push((key.map(Bound::unbind), node));
                }
                Content::Inner { container, entries }
            }
        };
        Ok(Node { name: path, object: object.clone().unbind(), content })
    }

    /// How many leaves below are not `None`.
    fn count(&self, py: Python<'_>) -> usize {
        match &self.content {
            Content::Leaf => usize::from(!self.object.is_none(py)),
            Content::Inner { entries, .. } => entries.iter().map(|(_, node)| node.count(py)).sum(),
        }
    }

    /// Whether there are leaves below, all of them frozen.
    fn is_frozen(&self, py: Python<'_>, frozen: &impl Fn(&str) -> bool) -> bool {
        match &self.content {
            Content::Leaf => !self.object.is_none(py) && frozen(&self.name),
            Content::Inner { entries, .. } => {
                !entries.is_empty() && entries.iter().all(|(_, node)| node.is_frozen(py, frozen))
            }
        }
    }

    /// The names of all nodes, leaves or not.
    fn add_names<'a>(&'a self, names: &mut HashSet<&'a str>) {
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

    /// The name of the first node whose container no longer holds it, frozen leaves aside.
    pub fn first_rebound(
        &self,
        py: Python<'_>,
        frozen: &impl Fn(&str) -> bool,
    ) -> PyResult<Option<&str>> {
        let Content::Inner { entries, .. } = &self.content else { return Ok(None) };
        for (i, (_, node)) in entries.iter().enumerate() {
            if self.holds(py, i)? {
                if let Some(name) = node.first_rebound(py, frozen)? {
                    return Ok(Some(name));
                }
            } else if !node.is_frozen(py, frozen) {
                return Ok(Some(&node.name));
            }
        }
        Ok(None)
    }

    /// Whether the container still holds its entry number `i`.
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

    /// The name of the first node on the way to a leaf whose container no longer holds it.
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

    /// For each leaf that is not `None`, in order, the entries on the way to it.
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

    /// Takes the gradients from a tree of this very structure; false if it has another.
    ///
    /// `given` has a place for each leaf, in order, from number `next` on.
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
            for (key, node) in entries {
                let Some(child) = dict.get_item(key)? else { return Ok(false) };
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
                // Fields in another order are other names.
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

/// Takes the gradients from a dict of names, keys in the order of the leaves; false if it has
/// other keys or other values than arrays and `None`.
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

/// What can be found by name in the tree of the parameters; gathered when it is first asked for.
pub struct Known<'a> {
    tree: &'a Node,
    nodes: OnceCell<HashSet<&'a str>>,
}

impl<'a> Known<'a> {
    pub fn of(tree: &'a Node) -> Self {
        Known { tree, nodes: OnceCell::new() }
    }

    /// Whether there is a node of this name, leaf or not.
    pub fn has(&self, name: &str) -> bool {
        let gathered = || {
            let mut names = HashSet::new();
            self.tree.add_names(&mut names);
            names
        };
        self.nodes.get_or_init(gathered).contains(name)
    }
}

/// Takes the gradients from any tree, by name; returns the names that are no leaf. `sorted` are the
/// leaves in the order of their names.
///
/// `None` above leaves stands for all of them.
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
