//! What an optimizer holds, whatever the type of its settings: parameters with their state.

#![allow(unsafe_code)] // pointers that are used during a step only

use std::collections::HashMap;

use super::error::Error;
use super::groups::Source;
use super::state::Leaf;
use crate::array::pointer::Pointer;
use crate::array::storage::Storage;
use crate::rule::{Choice, Format, Hyperparameter, Numbers, Rule, StateSpec, When};
use crate::step::batch::Batch;
use crate::step::setting::Policy;

/// Numbers of steps that were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// All of them.
    pub total: u64,
    /// Those since the last step that was taken.
    pub consecutive: u64,
}

/// What an optimizer holds.
pub(super) struct Held {
    pub rule: &'static Rule,
    /// The choices that are on.
    pub chosen: Vec<Choice>,
    /// The state arrays that they leave.
    pub specs: Vec<StateSpec>,
    pub format: Format,
    pub policy: Policy,
    pub step_count: u64,
    pub skips: Skips,
    pub leaves: Vec<Leaf>,
    /// Positions of leaves by name.
    pub places: HashMap<String, usize>,
    /// Groups that parameters have together.
    pub classes: Vec<Vec<usize>>,
    /// The numbers of each class at a step.
    pub numbers: Vec<Numbers>,
    pub pending: Vec<Pending>,
    pub batch: Batch,
}

/// A parameter of a step, found and checked.
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

impl Held {
    pub fn new(rule: &'static Rule, chosen: Vec<Choice>) -> Self {
        let has = |spec: &&StateSpec| match spec.when {
            When::Chosen(choice) => chosen.contains(&choice),
            When::Always | When::Nonzero(_) => true,
        };
        Held {
            rule,
            specs: rule.state.iter().filter(has).copied().collect(),
            chosen,
            format: Format::Full,
            policy: Policy::Raise,
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

    /// A parameter with zeros for its state, whose first step this is.
    pub fn made(
        &mut self,
        name: &str,
        (storage, shape): (Storage, &[usize]),
        step: u64,
        source: &dyn Source,
    ) -> Result<Leaf, Error> {
        if self.format != Format::Full && storage.whole() != Storage::F32 {
            let (storage, full) = (storage.numpy(), Format::Full.name());
            return Err(Error::of(
                name,
                format!("state of a parameter of {storage} must be '{full}'"),
            ));
        }
        let groups = source.groups_of(name);
        let known = self.classes.iter().position(|class| *class == groups);
        let class = known.unwrap_or(self.classes.len());
        if known.is_none() {
            self.classes.push(groups);
        }
        let mut numbers = self.at(class, step, source)?;
        let lacks = |spec: &StateSpec| lacking(spec, &mut numbers).is_some();
        let states = self.specs.iter().position(lacks).unwrap_or(self.specs.len());
        Ok(Leaf::new(name, (storage, shape), (&self.specs[..states], self.format), class))
    }

    /// The numbers of the rule, of a class at a step.
    pub fn at(&self, class: usize, step: u64, source: &dyn Source) -> Result<Numbers, Error> {
        self.filled(&self.classes[class], step, source)
    }

    /// The numbers of the rule, of these groups at a step.
    pub fn filled(
        &self,
        groups: &[usize],
        step: u64,
        source: &dyn Source,
    ) -> Result<Numbers, Error> {
        let mut numbers = self.rule.numbers;
        for choice in &self.chosen {
            if let Some(place) = numbers.choice(*choice) {
                *place = true;
            }
        }
        source.fill(&mut numbers, groups, step)?;
        Ok(numbers)
    }
}

/// The hyperparameter that must not be 0 for a parameter to have a state array, if it is 0.
pub(super) fn lacking(spec: &StateSpec, numbers: &mut Numbers) -> Option<Hyperparameter> {
    match spec.when {
        When::Nonzero(key) if numbers.number(key).is_none_or(|number| *number == 0.0) => Some(key),
        When::Nonzero(_) | When::Always | When::Chosen(_) => None,
    }
}
