//! What an optimizer asks of the settings of a rule.

use crate::rule::{Choice, Numbers};

/// The hyperparameters and choices of a rule under one of its names.
pub trait Settings: Clone + Send + 'static {
    /// The name of the rule, in the table of rules and in files.
    fn name(&self) -> &'static str;

    /// Sets the hyperparameters.
    #[doc(hidden)]
    fn fill(&self, numbers: &mut Numbers);

    /// The choices that are on.
    #[doc(hidden)]
    fn chosen(&self) -> Vec<Choice>;

    /// The name of a choice that differs.
    #[doc(hidden)]
    fn changed_choice(&self, other: &Self) -> Option<&'static str>;
}
