//! What an optimizer holds: the parameters' tree, the leaves with their state, their classes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use numpy::PyUntypedArray;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::array::checks::{Checked, kind_of, written, zeros_like};
use crate::array::files::Place;
use crate::array::overlap::{Extents, first_in_files, first_overlap, mapped};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::leaf::{Active, Leaf};
use crate::model::record::Record;
use crate::model::tree::{Leaves, Node};
use crate::model::wording::Words;
use crate::step::step::Workspace;
use crate::values::hyper::Class;
use thalweg::error::Quoted;
use thalweg::number::element::Kind;
use thalweg::rule::{Choice, Rule, SPECS, Spec, StateSpec, When};

const TIED: &str =
    "pass tied weights once and add up their gradients, or pass views that do not overlap";

/// What to do about a gradient that no rule can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    Raise,
    Skip,
    Ignore,
}

impl Policy {
    pub fn named(name: &str) -> Outcome<Self> {
        match name {
            "raise" => Ok(Policy::Raise),
            "skip" => Ok(Policy::Skip),
            "ignore" => Ok(Policy::Ignore),
            _ => Err(Refusal::Value(format!(
                "nonfinite must be 'raise', 'skip' or 'ignore', got {}",
                Quoted(name)
            ))),
        }
    }
}

/// What holds for all parameters, for ever.
#[derive(Clone, Debug)]
pub struct Options {
    pub spec: &'static Spec<Rule>,
    /// What was chosen of that of which the rule has a choice.
    pub chosen: Vec<Choice>,
    pub policy: Policy,
    pub words: &'static Words,
}

impl Options {
    pub fn new(spec: &'static Spec<Rule>, chosen: Vec<Choice>, policy: Policy) -> Self {
        Options { spec, chosen, policy, words: Words::of(spec.name) }
    }

    /// The rule with what was chosen, before its numbers are set.
    pub fn rule(&self) -> Rule {
        let mut rule = self.spec.rule;
        for choice in &self.chosen {
            if let Some(place) = rule.choice(*choice) {
                *place = true;
            }
        }
        rule
    }

    /// Names of the state arrays of a leaf that has so many.
    pub fn state_names(&self, states: usize) -> Vec<&'static str> {
        self.spec.state[..states].iter().map(|state| state.name).collect()
    }

    fn states(&self, class: &Class) -> usize {
        let has = |state: &&StateSpec| match state.when {
            When::Always => true,
            When::Chosen(choice) => self.chosen.contains(&choice),
            When::Nonzero(key) => class.is_nonzero(key),
        };
        self.spec.state.iter().take_while(has).count()
    }
}

/// The row of the table of rules that has this name.
pub fn rule_named(name: &str) -> Outcome<&'static Spec<Rule>> {
    let found = SPECS.iter().find(|spec| spec.name == name);
    found.ok_or_else(|| Refusal::Value(format!("there is no rule {}", Quoted(name))))
}

/// The memory that a step may write: that of the leaves that are not frozen.
#[derive(Debug, Default)]
pub struct Written {
    leaves: Vec<usize>,
    /// Leaf and array number of each array.
    pub arrays: Vec<(usize, usize)>,
    /// Owners are positions in `arrays`.
    pub extents: Extents,
    /// Arrays that map files, by their position in `arrays`.
    pub mapped: Vec<(usize, Place)>,
}

/// Everything an optimizer holds.
#[derive(Debug)]
pub struct Model {
    pub options: Options,
    /// Names of state arrays, as Python has them.
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
    /// Whether the arrays hold something else for a while.
    pub held: bool,
    /// Arrays, by leaf and number, that loading began to write and did not finish.
    pub torn: BTreeSet<(usize, usize)>,
    /// Makes the state of leaves, where that is kept in files; see `thalweg.state_dir`.
    pub keeper: Option<Py<PyAny>>,
    /// What tells, of arrays that are files, whether they are whole.
    pub record: Option<Record>,
    pub work: Workspace,
}

/// A step that is taken tensor by tensor.
#[derive(Debug)]
pub struct Open {
    /// Tells it from any other.
    pub token: u64,
    pub number: u64,
    /// The learning rate of group 0.
    pub lr: f64,
    /// The numbers of each class; shared with the parts of the step.
    pub numbers: Arc<[Rule]>,
    /// For each leaf, whether it was updated in this step.
    pub done: Vec<bool>,
}

impl Model {
    pub fn new<'py>(params: &Bound<'py, PyAny>, options: Options) -> Outcome<(Self, Leaves<'py>)> {
        let (tree, found) = Node::new(params)?;
        // A sum or an average that is unpickled may not know yet of what it is.
        if found.is_empty() && !(params.is_none() && options.words.itself.is_some()) {
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
            })
            .collect();
        let index = leaves.iter().enumerate().map(|(i, leaf)| (leaf.name.clone(), i)).collect();
        let mut sorted: Vec<usize> = (0..leaves.len()).collect();
        sorted.sort_by(|a, b| leaves[*a].name.cmp(&leaves[*b].name));
        let state_keys = options.spec.state.iter().map(|state| state.name);
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
            work: Workspace::default(),
        };
        Ok((model, found))
    }

    /// The model, unless it is in the middle of something.
    pub fn ready(&mut self) -> Outcome<&mut Self> {
        if self.torn.is_empty() { self.loadable() } else { Err(Refusal::Torn) }
    }

    /// The same for loading, which makes whole what loading left torn.
    pub fn loadable(&mut self) -> Outcome<&mut Self> {
        match self {
            Model { open: Some(_), .. } => Err(Refusal::Open),
            Model { held: true, .. } => Err(Refusal::Held),
            model => Ok(model),
        }
    }

    /// The name of the first node that trains and that its container no longer holds.
    pub fn first_rebound(&self, py: Python<'_>) -> PyResult<Option<&str>> {
        let frozen = |name: &str| {
            let leaf = self.index.get(name).map(|i| &self.leaves[*i]);
            leaf.is_some_and(|leaf| self.classes[leaf.class].frozen)
        };
        self.tree.first_rebound(py, &frozen)
    }

    /// Refuses if a leaf that trains was replaced in its container, or is no longer what it was.
    pub fn check_current(&self, py: Python<'_>) -> Outcome<()> {
        if let Some(name) = self.first_rebound(py)? {
            return Err(Refusal::Rebound { name: name.to_owned() });
        }
        for leaf in &self.leaves {
            if let Some(active) = &leaf.active
                && !self.classes[leaf.class].frozen
            {
                active.recheck(py, &leaf.name, self.options.words)?;
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

    pub fn leaf(&self, name: &str) -> Outcome<&Leaf> {
        Ok(&self.leaves[self.position(name)?])
    }

    /// The leaves of each class, if the assignment is one.
    pub fn members(&self, assignment: &[usize], classes: usize) -> Outcome<Vec<Vec<usize>>> {
        if assignment.len() != self.leaves.len() {
            return Err(no_assignment());
        }
        let mut members = vec![Vec::new(); classes];
        for (leaf, class) in assignment.iter().enumerate() {
            members.get_mut(*class).ok_or_else(no_assignment)?.push(leaf);
        }
        Ok(members)
    }

    /// The element types of the parameters among these leaves.
    fn kinds(&self, py: Python<'_>, leaves: &[usize]) -> Vec<Kind> {
        let arrays =
            leaves.iter().filter_map(|leaf| self.leaves[*leaf].object.bind(py).cast().ok());
        arrays.filter_map(kind_of).collect()
    }

    /// Takes over classes; leaves that train for the first time are checked and get their state.
    pub fn configure(
        &mut self,
        py: Python<'_>,
        classes: Vec<Class>,
        assignment: Vec<usize>,
        trained: &HashMap<String, usize>,
    ) -> Outcome<()> {
        let members = self.members(&assignment, classes.len())?;
        self.check_classes(&classes)?;
        let mut thaws = Vec::new();
        for (i, class) in assignment.iter().enumerate() {
            thaws.extend(self.thaws(i, &classes[*class], trained)?);
        }
        let trains = (0..self.leaves.len()).filter(|i| !classes[assignment[*i]].frozen).collect();
        self.activate(py, &thaws, trains)?;
        for (leaf, class) in self.leaves.iter_mut().zip(assignment) {
            leaf.class = class;
        }
        (self.classes, self.members) = (classes, members);
        Ok(())
    }

    /// Gives some classes, by position, other hyperparameters; the leaves stay in theirs.
    pub fn adjust(&mut self, py: Python<'_>, given: &[(usize, Bound<'_, PyDict>)]) -> Outcome<()> {
        let mut classes = Vec::with_capacity(given.len());
        for (position, values) in given {
            let leaves = self.members.get(*position).ok_or_else(no_assignment)?;
            classes.push(Class::extract(values, &self.kinds(py, leaves))?);
        }
        self.check_classes(&classes)?;
        let mut thaws = Vec::new();
        for ((position, _), class) in given.iter().zip(&classes) {
            for leaf in &self.members[*position] {
                thaws.extend(self.thaws(*leaf, class, &HashMap::new())?);
            }
        }
        let changed: HashMap<usize, bool> = (given.iter().zip(&classes))
            .filter(|((position, _), class)| self.classes[*position].frozen != class.frozen)
            .map(|((position, _), class)| (*position, class.frozen))
            .collect();
        if !changed.is_empty() {
            let frozen = |class| *changed.get(&class).unwrap_or(&self.classes[class].frozen);
            let trains = (0..self.leaves.len()).filter(|i| !frozen(self.leaves[*i].class));
            self.activate(py, &thaws, trains.collect())?;
        }
        for ((position, _), class) in given.iter().zip(classes) {
            self.classes[*position] = class;
        }
        Ok(())
    }

    fn check_classes(&self, classes: &[Class]) -> Outcome<()> {
        let rule = self.options.rule();
        classes.iter().try_for_each(|class| class.check(rule))
    }

    /// The leaf and how many arrays of state it gets, if it is to have some in this class and has
    /// none yet.
    fn thaws(
        &self,
        leaf: usize,
        class: &Class,
        trained: &HashMap<String, usize>,
    ) -> Outcome<Option<(usize, usize)>> {
        let Leaf { name, active, .. } = &self.leaves[leaf];
        let states = trained.get(name).copied();
        if class.frozen && states.is_none() {
            return Ok(None);
        }
        match active {
            None => Ok(Some((leaf, states.unwrap_or_else(|| self.options.states(class))))),
            Some(active) if active.state.len() < self.options.states(class) => {
                let StateSpec { name: state, when } = self.options.spec.state[active.state.len()];
                let key = if let When::Nonzero(key) = when { key.name() } else { state };
                Err(Refusal::Value(format!(
                    "{key} of {} cannot be changed from zero: it keeps no {state}; make the \
                     optimizer with {key} above 0",
                    Quoted(name)
                )))
            }
            Some(_) => Ok(None),
        }
    }

    /// Gives leaves their state, and takes down which are written where others train than before.
    fn activate(
        &mut self,
        py: Python<'_>,
        thaws: &[(usize, usize)],
        trains: Vec<usize>,
    ) -> Outcome<()> {
        let thawed = self.thaw(py, thaws)?;
        if trains != self.written.leaves {
            self.written = self.written_with(py, trains, &thawed)?;
        }
        for (i, active) in thawed {
            self.leaves[i].active = Some(active);
        }
        Ok(())
    }

    /// Checks arrays of leaves and gives each so many arrays of state.
    fn thaw(&self, py: Python<'_>, thaws: &[(usize, usize)]) -> Outcome<Vec<(usize, Active)>> {
        let updated = self.options.words.updated;
        let mut checked = Vec::with_capacity(thaws.len());
        for (i, _) in thaws {
            let leaf = &self.leaves[*i];
            let what = || format!("{updated} {}", Quoted(&leaf.name));
            checked.push(written(leaf.object.bind(py), what)?);
        }
        let asked = thaws.iter().zip(&checked).map(|((i, states), (array, _))| {
            (&self.leaves[*i].name, *array, self.options.state_names(*states))
        });
        let made: Vec<Vec<Bound<'_, PyUntypedArray>>> = match &self.keeper {
            Some(keeper) if !thaws.is_empty() => {
                keeper.bind(py).call1((asked.collect::<Vec<_>>(),))?.extract()?
            }
            _ => asked
                .map(|(_, array, names)| names.iter().map(|_| zeros_like(array)).collect())
                .collect::<PyResult<_>>()?,
        };
        let active = checked.into_iter().zip(made).map(|((array, kind), state)| {
            let state = state.iter().map(|array| Checked::new(array, kind)).collect();
            Active::new(Checked::new(array, kind), state)
        });
        Ok(thaws.iter().map(|(i, _)| *i).zip(active).collect())
    }

    /// What steps write that train these leaves, if nothing overlaps. Some of the leaves are only
    /// about to be active.
    pub fn written_with(
        &self,
        py: Python<'_>,
        leaves: Vec<usize>,
        thawed: &[(usize, Active)],
    ) -> Outcome<Written> {
        let thawed: HashMap<usize, &Active> = thawed.iter().map(|(i, a)| (*i, a)).collect();
        let mut arrays = Vec::new();
        let mut occupants = Vec::new();
        for leaf in &leaves {
            let active = thawed.get(leaf).copied().or(self.leaves[*leaf].active.as_ref());
            for (number, checked) in active.into_iter().flat_map(Active::arrays).enumerate() {
                arrays.push((*leaf, number));
                occupants.push(checked.occupant(py));
            }
        }
        let mapped = mapped(&occupants)?;
        let overlap = first_overlap(&occupants).or_else(|| first_in_files(&occupants, &mapped));
        if let Some((earlier, later)) = overlap {
            return Err(Refusal::Overlap {
                written: self.describe(arrays[earlier]),
                other: self.describe(arrays[later]),
                advice: TIED,
            });
        }
        Ok(Written { leaves, arrays, extents: Extents::of(&occupants), mapped })
    }

    /// The array at a position of `written`.
    pub fn written_array(&self, position: usize) -> Option<&Checked> {
        let (leaf, number) = self.written.arrays[position];
        self.leaves[leaf].active.as_ref().map(|active| active.array(number))
    }

    /// "parameter 'w'" or "exp_avg of 'w'".
    pub fn describe(&self, (leaf, array): (usize, usize)) -> String {
        let name = &self.leaves[leaf].name;
        match array {
            0 => format!("{} {}", self.options.words.updated, Quoted(name)),
            k => format!("{} of {}", self.options.spec.state[k - 1].name, Quoted(name)),
        }
    }

    /// Classes from what Python says of them and of the leaves in them.
    pub fn extract(
        &self,
        py: Python<'_>,
        classes: &[Bound<'_, PyDict>],
        assignment: &[usize],
    ) -> Outcome<Vec<Class>> {
        let members = self.members(assignment, classes.len())?;
        (classes.iter().zip(&members))
            .map(|(given, leaves)| Class::extract(given, &self.kinds(py, leaves)))
            .collect()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tree.traverse(visit)?;
        visit.call(&self.keeper)?;
        for leaf in &self.leaves {
            visit.call(&leaf.object)?;
            for checked in leaf.active.iter().flat_map(Active::arrays) {
                visit.call(&checked.array)?;
            }
        }
        self.classes.iter().flat_map(Class::schedules).try_for_each(|s| visit.call(s))
    }
}

fn no_assignment() -> Refusal {
    Refusal::Value("the assignment does not fit the leaves".to_owned())
}
