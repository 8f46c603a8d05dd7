//! The settings of a rule that is chosen while the program runs.

use super::rules::fill_defaults;
use super::settings::Settings;
use super::typed::Optimizer;
use crate::rule::{Choice, Hyperparameter, Numbers, Rule, StateSpec, When, rules};

/// The settings of a rule that is chosen by name while the program runs, for example by a file.
///
/// ```
/// use thalweg::optimizer::{AnyRule, Step};
/// use thalweg::rule::Hyperparameter::Lr;
///
/// let mut settings = AnyRule::named("AdamW").ok_or("no such rule")?;
/// *settings.number(Lr).ok_or("no learning rate")? = 0.1;
/// let (mut p, g) = ([1.0_f32], [1.0_f32]);
/// settings.optimizer().step([("p", &mut p[..], &g[..])], Step::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AnyRule {
    rule: &'static Rule,
    numbers: Numbers,
    /// Whether each choice is on.
    chosen: [bool; Choice::ALL.len()],
}

impl AnyRule {
    /// The defaults of the rule with this name, such as `"AdamW"`.
    pub fn named(name: &str) -> Option<Self> {
        let rule = rules().find(|rule| rule.name == name)?;
        let mut numbers = rule.numbers;
        let chosen = Default::default();
        fill_defaults(name, &mut numbers).then_some(AnyRule { rule, numbers, chosen })
    }

    /// The rule.
    pub fn rule(&self) -> &'static Rule {
        self.rule
    }

    /// The hyperparameters and choices.
    pub fn numbers(&self) -> Numbers {
        let mut numbers = self.numbers;
        for choice in self.rule.choices {
            if let Some(on) = numbers.choice(*choice) {
                *on = self.is_on(*choice);
            }
        }
        numbers
    }

    /// Whether a choice is on.
    pub fn is_on(&self, choice: Choice) -> bool {
        self.chosen[choice as usize]
    }

    /// A hyperparameter, or `None` if the rule does not have it.
    pub fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
        self.numbers.number(key).filter(|_| self.rule.hyperparameters.contains(&key))
    }

    /// A choice, or `None` if the rule does not have it.
    pub fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
        self.rule.choices.contains(&choice).then(|| &mut self.chosen[choice as usize])
    }

    /// Whether a parameter needs this state array.
    pub fn needs(&self, spec: &StateSpec) -> bool {
        match spec.when {
            When::Always => true,
            When::Chosen(choice) => self.is_on(choice),
            When::Nonzero(key) => {
                let mut numbers = self.numbers;
                numbers.number(key).is_some_and(|number| *number != 0.0)
            }
        }
    }

    /// An optimizer with these settings, without parameters.
    pub fn optimizer(self) -> Optimizer<Self> {
        Optimizer::new(self)
    }
}

impl Settings for AnyRule {
    fn name(&self) -> &'static str {
        self.rule.name
    }

    fn fill(&self, numbers: &mut Numbers) {
        *numbers = self.numbers();
    }

    fn chosen(&self) -> Vec<Choice> {
        self.rule.choices.iter().copied().filter(|choice| self.is_on(*choice)).collect()
    }

    fn changed_choice(&self, other: &Self) -> Option<&'static str> {
        if self.rule.name != other.rule.name {
            return Some("the rule");
        }
        let changed = |choice: &&Choice| self.is_on(**choice) != other.is_on(**choice);
        self.rule.choices.iter().find(changed).map(|choice| choice.name())
    }
}
