//! Classes of parameters that share hyperparameters, and the state of parameters that begin to
//! train.

use std::collections::HashMap;

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use thalweg::array::storage::Storage;
use thalweg::error::Quoted;
use thalweg::number::element::Kind;
use thalweg::rule::{Format, Hyperparameter, StateSpec, When};

use crate::array::checks::Checked;
use crate::array::storage::storage_of;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::form::{DescribedPart, Form};
use crate::model::leaf::{Active, Leaf};
use crate::model::options::Options;
use crate::model::record::Record;
use crate::model::rows::check_alone;
use crate::values::hyper::{Class, RowsMeaning};

impl Model {
    /// The leaves of each class. Refuses an assignment that does not fit leaves and classes.
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
        arrays.filter_map(storage_of).map(Storage::element).collect()
    }

    /// Sets classes and assignment. Leaves that train for the first time are checked and get their
    /// state.
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

    /// Changes the hyperparameters of some classes, by position; the leaves stay in their classes.
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
        let numbers = self.options.numbers();
        classes.iter().try_for_each(|class| {
            class.check(numbers)?;
            if class.rows == Some(RowsMeaning::Lazy) {
                let above = class.is_nonzero(Hyperparameter::InitialAccumulatorValue);
                Options::check_lazy(self.options.rule, above, class.row_steps)?;
            }
            self.options.check_format(class.format)
        })
    }

    /// The leaf, the number of state arrays to make and their format, if it needs state in this class
    /// and has none. Refuses a leaf whose existing state lacks an array or has another format.
    fn thaws(
        &self,
        leaf: usize,
        class: &Class,
        trained: &HashMap<String, usize>,
    ) -> Outcome<Option<Thaw>> {
        let Leaf { name, active, .. } = &self.leaves[leaf];
        let states = trained.get(name).copied();
        if let Some(active) = active {
            self.check_format(name, active, class.format)?;
            check_row_steps(name, active, class.row_steps)?;
        }
        if class.frozen && states.is_none() {
            return Ok(None);
        }
        match active {
            None => {
                let states = states.unwrap_or_else(|| self.options.states(class));
                let (format, row_steps) = (class.format, class.row_steps);
                Ok(Some(Thaw { leaf, states, format, row_steps }))
            }
            Some(active) if active.form.states() < self.options.states(class) => {
                let states = active.form.states();
                let StateSpec { name: state, when, .. } = self.options.state[states];
                let key = if let When::Nonzero(key) = when { key.name() } else { state };
                Err(Refusal::Value(format!(
                    "{key} of {} must stay 0: the parameter has no {state}; make the optimizer \
                     with {key} above 0",
                    Quoted(name)
                )))
            }
            Some(_) => Ok(None),
        }
    }

    /// The state arrays that a leaf would have in a class of these values.
    pub fn parts<'py>(
        &self,
        py: Python<'py>,
        leaf: &Leaf,
        values: &Bound<'py, PyDict>,
    ) -> Outcome<Vec<DescribedPart<'py>>> {
        let (array, storage) = leaf.array(py, self.options.wording)?;
        let class = Class::extract(values, &[])?;
        let (specs, states) = (&self.options.state, self.options.states(&class));
        let form = Form::new(specs, states, class.format, (storage, array.len()));
        Ok(form.counting_rows(class.row_steps).described(array)?)
    }

    /// Refuses a format that differs from that of existing state.
    fn check_format(&self, name: &str, active: &Active, format: Format) -> Outcome<()> {
        let len = active.p.shape.iter().product();
        let (specs, states) = (&self.options.state, active.form.states());
        let (parameter, counts) = ((active.p.storage, len), active.row_steps().is_some());
        let form = |format| Form::new(specs, states, format, parameter).counting_rows(counts);
        if form(format) == active.form {
            return Ok(());
        }
        let kept = Format::ALL.into_iter().find(|kept| form(*kept) == active.form);
        let kept = kept.unwrap_or_default().name();
        Err(Refusal::Value(format!(
            "state of {} must stay '{kept}', got '{}': the parameter has state; to convert it, load \
             its state dict (convert=True) into an optimizer that is made with another state",
            Quoted(name),
            format.name()
        )))
    }

    /// Gives leaves their state, and updates `written` if the set of leaves that train changes.
    fn activate(&mut self, py: Python<'_>, thaws: &[Thaw], trains: Vec<usize>) -> Outcome<()> {
        let thawed = self.thaw(py, thaws)?;
        if trains != self.written.leaves {
            self.written = self.written_with(py, trains, &thawed)?;
        }
        for (i, active) in thawed {
            self.leaves[i].active = Some(active);
        }
        Ok(())
    }

    /// Checks the arrays of leaves, and makes the state of each.
    fn thaw(&self, py: Python<'_>, thaws: &[Thaw]) -> Outcome<Vec<(usize, Active)>> {
        let mut checked = Vec::with_capacity(thaws.len());
        for Thaw { leaf, states, format, row_steps } in thaws {
            let leaf = &self.leaves[*leaf];
            let (array, storage) = leaf.array(py, self.options.wording)?;
            self.options.check_parameter(&leaf.name, *format, storage)?;
            let form = Form::new(&self.options.state, *states, *format, (storage, array.len()));
            let form = form.counting_rows(*row_steps);
            if *row_steps {
                check_alone(&leaf.name, array.shape(), &form)?;
            }
            checked.push((array, storage, form));
        }
        let made: Vec<Vec<Bound<'_, PyUntypedArray>>> = match &self.keeper {
            Some(keeper) if !thaws.is_empty() => {
                self.record.as_ref().map_or(Ok(()), Record::check)?;
                let mut asked = Vec::with_capacity(thaws.len());
                for (thaw, (array, _, form)) in thaws.iter().zip(&checked) {
                    let parts = form.described(array)?;
                    asked.push((&self.leaves[thaw.leaf].name, *array, parts));
                }
                keeper.bind(py).call1((asked,))?.extract()?
            }
            _ => checked
                .iter()
                .map(|(array, _, form)| form.parts().map(|part| part.zeros(array)).collect())
                .collect::<PyResult<_>>()?,
        };
        let active = checked.into_iter().zip(made).map(|((array, storage, form), state)| {
            let parts = form.parts().zip(&state);
            let state = parts.map(|(part, array)| Checked::new(array, part.storage)).collect();
            Active::new(Checked::new(array, storage), state, form)
        });
        Ok(thaws.iter().map(|thaw| thaw.leaf).zip(active).collect())
    }

    /// Classes from Python's values, which are checked for the leaves in each class.
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
}

/// A leaf that begins to train, and the state to make for it.
struct Thaw {
    leaf: usize,
    /// The number of state arrays of the rule.
    states: usize,
    format: Format,
    /// Whether its rows have numbers of updates.
    row_steps: bool,
}

/// Refuses to add or remove the numbers of updates of rows beside existing state.
fn check_row_steps(name: &str, active: &Active, row_steps: bool) -> Outcome<()> {
    let kept = active.row_steps().is_some();
    if kept == row_steps {
        return Ok(());
    }
    let word = |flag| if flag { "True" } else { "False" };
    Err(Refusal::Value(format!(
        "row_steps of {} must stay {}, got {}: the parameter has state; make a new optimizer to \
         change it",
        Quoted(name),
        word(kept),
        word(row_steps)
    )))
}

fn no_assignment() -> Refusal {
    Refusal::Value("the assignment does not fit the leaves".to_owned())
}
