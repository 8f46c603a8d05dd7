//! Options of an optimizer that hold for all parameters and never change.

use std::sync::Arc;

use thalweg::array::storage::Storage;
use thalweg::error::Quoted;
use thalweg::rule::{Choice, Content, Format, Numbers, Rule, StateSpec, When, rules};
use thalweg::step::setting::Policy;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::wording::Wording;
use crate::values::hyper::Class;

/// The policy with a name.
pub fn policy_named(name: &str) -> Outcome<Policy> {
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

/// Options that hold for all parameters and never change.
#[derive(Clone, Debug)]
pub struct Options {
    pub rule: &'static Rule,
    /// The choices of the rule that are on.
    pub chosen: Vec<Choice>,
    /// The state arrays that parameters can have: a parameter has the first ones, as many as its
    /// hyperparameters need.
    pub state: Arc<[StateSpec]>,
    pub policy: Policy,
    pub wording: &'static Wording,
}

impl Options {
    pub fn new(rule: &'static Rule, chosen: Vec<Choice>, policy: Policy) -> Self {
        let has = |spec: &&StateSpec| match spec.when {
            When::Chosen(choice) => chosen.contains(&choice),
            When::Always | When::Nonzero(_) => true,
        };
        let state = rule.state.iter().filter(has).copied().collect();
        Options { rule, chosen, state, policy, wording: Wording::of(rule.name) }
    }

    /// The rule's initial numbers, with the choices set.
    pub fn numbers(&self) -> Numbers {
        let mut numbers = self.rule.numbers;
        for choice in &self.chosen {
            if let Some(place) = numbers.choice(*choice) {
                *place = true;
            }
        }
        numbers
    }

    /// Refuses a format that the rule's state cannot have.
    pub fn check_format(&self, format: Format) -> Outcome<()> {
        format.check(self.rule.name, &self.state).map_err(Refusal::Value)
    }

    /// Refuses rows that are updated alone, if the rule's state does not begin at zero. `counted` tells
    /// whether each row has a first step of its own.
    pub fn check_lazy(rule: &Rule, begins_above_zero: bool, counted: bool) -> Outcome<()> {
        if rule.state.iter().any(|spec| spec.content == Content::Point) {
            return Err(Refusal::Value(format!(
                "rows must be 'dense' for {}: the average moves at each step, also in rows without a \
                 gradient",
                rule.name
            )));
        }
        if begins_above_zero && !counted {
            return Err(Refusal::Value(
                "an initial_accumulator_value above 0 needs row_steps=True with rows='lazy', so that \
                 the sum of each row begins there (in thalweg.functional: sums that begin there, and 0)"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses a format that a parameter of this storage cannot have.
    pub fn check_parameter(&self, name: &str, format: Format, storage: Storage) -> Outcome<()> {
        if format == Format::Full || storage.whole() == Storage::F32 {
            return Ok(());
        }
        Err(Refusal::Value(format!(
            "state of {0} must be 'full', because the parameter is {1}, got '{2}'; convert the \
             parameter to float32, or give it a group (groups=[{{'match': {0}, 'state': 'full'}}])",
            Quoted(name),
            storage.numpy(),
            format.name()
        )))
    }

    /// Number of state arrays of a leaf in this class.
    pub fn states(&self, class: &Class) -> usize {
        let has = |state: &&StateSpec| match state.when {
            When::Nonzero(key) => class.is_nonzero(key),
            When::Always | When::Chosen(_) => true,
        };
        self.state.iter().take_while(has).count()
    }
}

/// The row of the table of rules with this name.
pub fn rule_named(name: &str) -> Outcome<&'static Rule> {
    let found = rules().find(|rule| rule.name == name);
    found.ok_or_else(|| Refusal::Value(format!("there is no rule {}", Quoted(name))))
}
