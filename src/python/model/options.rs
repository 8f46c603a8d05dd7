//! Options of an optimizer that hold for all parameters and never change.

use thalweg::error::Quoted;
use thalweg::rule::{Choice, Numbers, Rule, StateSpec, When, rules};

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::wording::Wording;
use crate::values::hyper::Class;

/// The response to gradients that are NaN, infinite or too large.
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

/// Options that hold for all parameters and never change.
#[derive(Clone, Debug)]
pub struct Options {
    pub rule: &'static Rule,
    /// The choices of the rule that are on.
    pub chosen: Vec<Choice>,
    pub policy: Policy,
    pub wording: &'static Wording,
}

impl Options {
    pub fn new(rule: &'static Rule, chosen: Vec<Choice>, policy: Policy) -> Self {
        Options { rule, chosen, policy, wording: Wording::of(rule.name) }
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

    /// Names of the first `states` state arrays.
    pub fn state_names(&self, states: usize) -> Vec<&'static str> {
        self.rule.state[..states].iter().map(|state| state.name).collect()
    }

    /// Number of state arrays of a leaf in this class.
    pub fn states(&self, class: &Class) -> usize {
        let has = |state: &&StateSpec| match state.when {
            When::Always => true,
            When::Chosen(choice) => self.chosen.contains(&choice),
            When::Nonzero(key) => class.is_nonzero(key),
        };
        self.rule.state.iter().take_while(has).count()
    }
}

/// The row of the table of rules with this name.
pub fn rule_named(name: &str) -> Outcome<&'static Rule> {
    let found = rules().find(|rule| rule.name == name);
    found.ok_or_else(|| Refusal::Value(format!("there is no rule {}", Quoted(name))))
}
