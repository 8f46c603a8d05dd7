//! What an optimizer asks of the settings of a rule.

use crate::rule::{Choice, Numbers, Rule, rules};

/// The hyperparameters and choices of a rule under one of its names.
pub trait Settings: Clone + PartialEq + Send + 'static {
    /// The name of the rule, in the table of rules and in files.
    const NAME: &'static str;

    /// Sets the hyperparameters.
    #[doc(hidden)]
    fn fill(&self, numbers: &mut Numbers);

    /// The choices, with the value of each.
    #[doc(hidden)]
    fn choices(&self) -> Vec<(Choice, bool)>;

    /// The name of a choice that differs.
    #[doc(hidden)]
    fn changed_choice(&self, other: &Self) -> Option<&'static str>;

    /// The row of the rule in the table.
    #[doc(hidden)]
    #[allow(clippy::expect_used)] // a test looks for every name
    fn rule() -> &'static Rule {
        rules().find(|rule| rule.name == Self::NAME).expect("the table has the rule")
    }
}
