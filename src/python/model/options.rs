//! What holds for all parameters of an optimizer, for ever.

use thalweg::error::Quoted;
use thalweg::rule::{Choice, Numbers, Rule, StateSpec, When, rules};

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::wording::Wording;
use crate::values::hyper::Class;

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
    pub rule: &'static Rule,
    /// What was chosen of that of which the rule has a choice.
    pub chosen: Vec<Choice>,
    pub policy: Policy,
    pub wording: &'static Wording,
}

impl Options {
    pub fn new(rule: &'static Rule, chosen: Vec<Choice>, policy: Policy) -> Self {
        Options { rule, chosen, policy, wording: Wording::of(rule.name) }
    }

    /// The numbers of the rule with what was chosen, before they are set.
    pub fn numbers(&self) -> Numbers {
        let mut numbers = self.rule.numbers;
        for choice in &self.chosen {
            if let Some(place) = numbers.choice(*choice) {
                *place = true;
            }
        }
        numbers
    }

    /// Names of the state arrays of a leaf that has so many.
    pub fn state_names(&self, states: usize) -> Vec<&'static str> {
        self.rule.state[..states].iter().map(|state| state.name).collect()
    }

    /// How many state arrays a leaf of this class has.
    pub fn states(&self, class: &Class) -> usize {
        let has = |state: &&StateSpec| match state.when {
            When::Always => true,
            When::Chosen(choice) => self.chosen.contains(&choice),
            When::Nonzero(key) => class.is_nonzero(key),
        };
        self.rule.state.iter().take_while(has).count()
    }
}

/// The row of the table of rules that has this name.
pub fn rule_named(name: &str) -> Outcome<&'static Rule> {
    let found = rules().find(|rule| rule.name == name);
    found.ok_or_else(|| Refusal::Value(format!("there is no rule {}", Quoted(name))))
}
