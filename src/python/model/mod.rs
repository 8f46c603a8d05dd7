//! The contents of an optimizer: the parameters' tree, the leaves with their state, their classes.

pub mod classes;
pub mod containers;
pub mod counters;
pub mod form;
pub mod gradients;
pub mod leaf;
pub mod options;
pub mod record;
pub mod replacement;
pub mod rows;
pub mod snapshot;
pub mod tree;
pub mod wording;
pub mod written;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use numpy::PyUntypedArray;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;
use thalweg::error::Quoted;
use thalweg::rule::Numbers;

use crate::array::files::Place;
use crate::array::overlap::Extents;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::counters::Counters;
use crate::model::leaf::{Active, Leaf};
use crate::model::options::Options;
use crate::model::record::Record;
use crate::model::tree::{Leaves, Node};
use crate::values::hyper::Class;

/// The memory that a step may write: the arrays of the leaves that are not frozen.
#[derive(Debug, Default)]
pub struct Written {
    pub leaves: Vec<usize>,
    /// Number of elements of these leaves.
    pub elements: usize,
    /// Leaf and array number of each array.
    pub arrays: Vec<(usize, usize)>,
    /// Owners are positions in `arrays`.
    pub extents: Extents,
    /// Arrays that map files, by position in `arrays`.
    pub mapped: Vec<(usize, Place)>,
}

/// Everything an optimizer holds.
#[derive(Debug)]
pub struct Model {
    pub options: Options,
    /// Names of state arrays as Python strings.
    pub state_keys: Vec<Py<PyString>>,
    pub tree: Node,
    pub leaves: Vec<Leaf>,
    pub index: HashMap<String, usize>,
    /// Leaves in the order of their names.
    pub sorted: Vec<usize>,
    pub classes: Vec<Class>,
    /// The leaves of each class.
    pub members: Vec<Vec<usize>>,
    pub written: Written,
    /// The step that is being taken tensor by tensor.
    pub open: Option<Open>,
    /// Whether the parameters hold averages.
    pub held: bool,
    /// Arrays, by leaf and number, that a load began to write and did not finish.
    pub torn: BTreeSet<(usize, usize)>,
    /// Makes the state of leaves in files, if it is kept there; see `thalweg.mapped.state_dir`.
    pub keeper: Option<Py<PyAny>>,
    /// The record of progress, if the arrays are files. It tells whether they are whole.
    pub record: Option<Record>,
}

/// A step that is taken tensor by tensor.
#[derive(Debug)]
pub struct Open {
    /// Identifies the step.
    pub token: u64,
    pub number: u64,
    /// The learning rate of group 0.
    pub lr: f64,
    /// The numbers of each class, shared with the parts of the step.
    pub numbers: Arc<[Numbers]>,
    /// Whether each leaf was updated in this step.
    pub done: Vec<bool>,
}

impl Model {
    /// `bits` tells for each name whether an array of uint16 has the bits of bfloat16 numbers.
    pub fn new<'py>(
        params: &Bound<'py, PyAny>,
        options: Options,
        bits: impl Fn(&str) -> bool,
    ) -> Outcome<(Self, Leaves<'py>)> {
        let (tree, found) = Node::new(params)?;
        // A sum or average can be unpickled before its parameters are known.
        if found.is_empty() && !(params.is_none() && options.wording.itself.is_some()) {
            return Err(Refusal::EmptyTree);
        }
        let leaves: Vec<Leaf> = (found.iter().zip(tree.paths(params.py())))
            .map(|((name, object), path)| Leaf {
                name: name.clone(),
                key: PyString::new(params.py(), name).unbind(),
                path,
                class: 0,
                step: 0,
                active: None,
                object: object.clone().unbind(),
                bits: bits(name),
                exchanged: None,
            })
            .collect();
        let index = leaves.iter().enumerate().map(|(i, leaf)| (leaf.name.clone(), i)).collect();
        let mut sorted: Vec<usize> = (0..leaves.len()).collect();
        sorted.sort_by(|a, b| leaves[*a].name.cmp(&leaves[*b].name));
        let state_keys = options.state.iter().map(|state| state.name);
        let state_keys = state_keys.map(|name| PyString::new(params.py(), name).unbind()).collect();
        let model = Model {
            options,
            state_keys,
            tree,
            leaves,
            index,
            sorted,
            classes: Vec::new(),
            members: Vec::new(),
            written: Written::default(),
            open: None,
            held: false,
            torn: BTreeSet::new(),
            keeper: None,
            record: None,
        };
        Ok((model, found))
    }

    /// The model. Refuses while a step is open, averages are swapped in, or a load is unfinished.
    pub fn ready(&mut self) -> Outcome<&mut Self> {
        if self.torn.is_empty() { self.loadable() } else { Err(Refusal::Torn) }
    }

    /// The model for a load, which is accepted after an unfinished load: it makes the arrays whole.
    pub fn loadable(&mut self) -> Outcome<&mut Self> {
        match self {
            Model { open: Some(_), .. } => Err(Refusal::Open),
            Model { held: true, .. } => Err(Refusal::Held),
            model => Ok(model),
        }
    }

    /// Refuses if a leaf that trains was replaced in its container.
    pub fn check_bound(&self, py: Python<'_>) -> Outcome<()> {
        let frozen =
            |name: &str| self.find(name).is_some_and(|leaf| self.classes[leaf.class].frozen);
        match self.tree.first_rebound(py, &frozen)? {
            Some(name) => Err(Refusal::Rebound { name: name.to_owned() }),
            None => Ok(()),
        }
    }

    /// Refuses if a leaf that trains was replaced in its container, or its array or state changed.
    pub fn check_current(&self, py: Python<'_>) -> Outcome<()> {
        self.check_bound(py)?;
        for leaf in &self.leaves {
            if let Some(active) = &leaf.active
                && !self.classes[leaf.class].frozen
            {
                active.recheck(py, &leaf.name, self.options.wording)?;
            }
        }
        Ok(())
    }

    pub fn position(&self, name: &str) -> Outcome<usize> {
        self.index
            .get(name)
            .copied()
            .ok_or_else(|| Refusal::Value(format!("{} is not a parameter", Quoted(name))))
    }

    /// The leaf of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Leaf> {
        self.index.get(name).map(|position| &self.leaves[*position])
    }

    /// As [`Model::find`], for a name that is probably that of the leaf at a position.
    pub fn find_near(&self, name: &str, position: usize) -> Option<&Leaf> {
        let near = self.leaves.get(position).filter(|leaf| leaf.name == name);
        near.or_else(|| self.find(name))
    }

    pub fn leaf(&self, name: &str) -> Outcome<&Leaf> {
        Ok(&self.leaves[self.position(name)?])
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tree.traverse(visit)?;
        visit.call(&self.keeper)?;
        for leaf in &self.leaves {
            visit.call(&leaf.object)?;
            for checked in leaf.active.iter().flat_map(Active::arrays).chain(&leaf.exchanged) {
                visit.call(&checked.array)?;
            }
        }
        self.classes.iter().flat_map(Class::schedules).try_for_each(|s| visit.call(s))
    }
}

impl Model {
    /// Starts a record in these words, or closes it.
    pub fn set_record(
        &mut self,
        words: Option<&Bound<'_, PyUntypedArray>>,
        flags: (bool, bool),
    ) -> Outcome<()> {
        match (words, &mut self.record) {
            (Some(words), _) => {
                self.record = Some(Record::new(words, self.leaves.len(), flags)?);
            }
            (None, Some(record)) => record.closed = true,
            (None, None) => {}
        }
        Ok(())
    }

    /// Records that parameters and state are whole again.
    pub fn mend(&mut self, counters: &Counters) {
        if let Some(record) = self.record.as_mut().filter(|record| record.torn) {
            record.torn = false;
            self.begin_writing();
            self.finish_writing(counters);
        }
    }

    /// Does what can be refused or fail, before the first write.
    pub fn prepare_writing(&self, py: Python<'_>) -> Outcome<()> {
        self.record.as_ref().map_or(Ok(()), |record| record.prepare(py))
    }

    /// Refuses if parameters and state are known to be part old and part new.
    pub fn check_whole(&self) -> Outcome<()> {
        self.record.as_ref().map_or(Ok(()), Record::check_whole)
    }

    /// Records that writing begins; paired with [`Model::finish_writing`].
    pub fn begin_writing(&mut self) {
        if let Some(record) = &mut self.record {
            record.begin();
        }
    }

    /// Records that writing is done, and the counters.
    pub fn finish_writing(&mut self, counters: &Counters) {
        let (leaves, sorted) = (&self.leaves, &self.sorted);
        if let Some(record) = &mut self.record {
            let steps = sorted.iter().map(|leaf| leaves[*leaf].step);
            record.finish(counters.get(), steps, self.torn.is_empty());
        }
    }

    /// Runs `work` between [`Model::begin_writing`] and [`Model::finish_writing`]. If `work` fails,
    /// it has written nothing or has left arrays marked as torn.
    pub fn writing<T>(
        &mut self,
        py: Python<'_>,
        counters: &Counters,
        work: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        self.prepare_writing(py)?;
        self.begin_writing();
        let done = work(self);
        self.finish_writing(counters);
        done
    }
}
