//! An optimizer: its settings, groups and parameters with their state.

#![allow(unsafe_code)] // pointers that are used during a step only

use std::collections::HashMap;

use super::error::Error;
use super::groups::{Groups, Pattern};
use super::settings::Settings;
use super::state::Leaf;
use crate::array::pointer::Pointer;
use crate::array::storage::Storage;
use crate::rule::{Format, Numbers, Rule, StateSpec, When};
use crate::step::batch::{Batch, Policy};

/// Numbers of steps that were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// All of them.
    pub total: u64,
    /// Those since the last step that was taken.
    pub consecutive: u64,
}

/// An optimizer with the state of its parameters.
#[derive(Debug)]
pub struct Optimizer<R> {
    pub(super) settings: R,
    pub(super) groups: Groups<R>,
    pub(super) format: Format,
    pub(super) policy: Policy,
    pub(super) rule: &'static Rule,
    /// The numbers of the rule before settings, with the choices.
    pub(super) start: Numbers,
    /// The state arrays that its choices leave.
    pub(super) specs: Vec<StateSpec>,
    pub(super) step_count: u64,
    pub(super) skips: Skips,
    pub(super) leaves: Vec<Leaf>,
    pub(super) places: HashMap<String, usize>,
    /// Groups that parameters have together.
    pub(super) classes: Vec<Vec<usize>>,
    pub(super) numbers: Vec<Numbers>,
    pub(super) pending: Vec<Pending>,
    pub(super) batch: Batch,
}

/// A parameter of a step, found and checked.
#[derive(Debug)]
pub(super) struct Pending {
    pub leaf: usize,
    pub p: Pointer,
    pub g: Pointer,
}

// SAFETY: the pointers are those of a step, which has exclusive borrows of their memory, and are
// dropped at its end.
unsafe impl Send for Pending {}
// SAFETY: as above; nothing reads them through a shared reference.
unsafe impl Sync for Pending {}

impl<R: Settings> Optimizer<R> {
    /// An optimizer without parameters.
    pub fn new(settings: R) -> Self {
        let rule = R::rule();
        let mut start = rule.numbers;
        let mut chosen = Vec::new();
        for (choice, on) in settings.choices() {
            if on {
                chosen.push(choice);
                if let Some(place) = start.choice(choice) {
                    *place = true;
                }
            }
        }
        let has = |spec: &&StateSpec| match spec.when {
            When::Chosen(choice) => chosen.contains(&choice),
            When::Always | When::Nonzero(_) => true,
        };
        Optimizer {
            settings,
            groups: Groups::default(),
            format: Format::Full,
            policy: Policy::Raise,
            rule,
            start,
            specs: rule.state.iter().filter(has).copied().collect(),
            step_count: 0,
            skips: Skips::default(),
            leaves: Vec::new(),
            places: HashMap::new(),
            classes: Vec::new(),
            numbers: Vec::new(),
            pending: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// Changes the settings of some parameters, after the groups before: `change` gets the settings
    /// at each step. It applies to parameters that occur later.
    ///
    /// Choices, such as `maximize`, are the same for all parameters and stay as they are.
    #[must_use]
    pub fn group(
        self,
        pattern: impl Into<Pattern>,
        change: impl Fn(&mut R) + Send + 'static,
    ) -> Self {
        self.schedule(pattern, move |settings, _| change(settings))
    }

    /// As [`Optimizer::group`], with changes that depend on the step, which counts from 1.
    #[must_use]
    pub fn schedule(
        mut self,
        pattern: impl Into<Pattern>,
        change: impl Fn(&mut R, u64) + Send + 'static,
    ) -> Self {
        self.groups.push(pattern.into(), Box::new(change));
        self
    }

    /// Sets how the state of parameters is kept that occur later.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] if the rule's state cannot be kept so.
    pub fn state(mut self, format: Format) -> Result<Self, Error> {
        format.check(self.rule.name, &self.specs).map_err(Error::Content)?;
        self.format = format;
        Ok(self)
    }

    /// Sets the response to gradients that are not finite.
    #[must_use]
    pub fn nonfinite(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Number of steps taken.
    pub fn step_count(&self) -> u64 {
        self.step_count
    }

    /// Numbers of steps that were skipped.
    pub fn skips(&self) -> Skips {
        self.skips
    }

    /// Names of the parameters that have state, in the order of their first step.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|leaf| leaf.name.as_str())
    }

    /// A parameter with zeros for its state.
    pub(super) fn made(
        &mut self,
        name: &str,
        (storage, shape): (Storage, &[usize]),
        step: u64,
    ) -> Result<Leaf, Error> {
        if self.format != Format::Full && storage.whole() != Storage::F32 {
            return Err(Error::Param {
                name: name.to_owned(),
                what: format!(
                    "state of a parameter of {} must be '{}'",
                    storage.numpy(),
                    Format::Full.name()
                ),
            });
        }
        let groups = self.groups.of(name);
        let class = match self.classes.iter().position(|class| *class == groups) {
            Some(class) => class,
            None => {
                self.classes.push(groups);
                self.classes.len() - 1
            }
        };
        let mut numbers = self.at(class, step)?;
        let mut has = |spec: &&StateSpec| match spec.when {
            When::Nonzero(key) => numbers.number(key).is_some_and(|number| *number != 0.0),
            When::Always | When::Chosen(_) => true,
        };
        let states = self.specs.iter().take_while(&mut has).count();
        Ok(Leaf::new(name, (storage, shape), (&self.specs[..states], self.format), class))
    }

    /// The numbers of a class at a step.
    pub(super) fn at(&self, class: usize, step: u64) -> Result<Numbers, Error> {
        let settings = self.groups.at(&self.settings, &self.classes[class], step);
        if let Some(name) = self.settings.changed_choice(&settings) {
            return Err(Error::Choice(name));
        }
        let mut numbers = self.start;
        settings.fill(&mut numbers);
        Ok(numbers)
    }
}
