//! What the table of rules generates: the rules' numbers, their coefficients, and the choice of a
//! formula.

use crate::number::element::Element;
use crate::rule::terms::Formula;

/// Work to do with a rule's formula; generic over the formula.
pub(crate) trait Job<E: Element> {
    /// Does the work.
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F);
}

/// Runs a job with the usual form of the formula if the coefficients allow it, else with the
/// formula.
pub(super) fn run<E: Element, F: Formula<E, N>, const N: usize>(formula: &F, job: impl Job<E>) {
    match formula.usual() {
        Some(usual) => job.run(&usual),
        None => job.run(formula),
    }
}

pub(super) struct OneElement<'a, E> {
    pub(super) p: &'a mut E,
    pub(super) g: E,
    pub(super) state: &'a mut [E],
}

impl<E: Element> Job<E> for OneElement<'_, E> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let (p, state) = formula.update(*self.p, self.g, std::array::from_fn(|k| self.state[k]));
        *self.p = p;
        self.state.copy_from_slice(&state);
    }
}

/// The table of rules. A row is
///
/// ```text
/// Type: Coefficients { numbers of state arrays that have a formula } trains-measures-or-holds {
///     "name" [hyperparameters] [choices] [state] from CONSTANT;
/// }
/// ```
///
/// with one line for each name of the rule; `CONSTANT` has its hyperparameters before users set any,
/// if they are not those of `NEW`. A rule that `trains` moves a parameter by its gradient, one that
/// `measures` too, and its step can depend on measures of the tensor; a rule that `holds` does not. `Type if feature = "…"` restricts a row to a feature.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $(if $cfg:meta)?: $step:ident { $($states:literal)+ } $trains:ident {
        $($name:literal [$($key:expr),*] [$($choice:expr),*] [$($state:literal $content:ident $when:expr),*]
            $(from $new:ident)?;)*
    })*) => {
        /// The hyperparameters of any rule, with their values for one update.
        #[derive(Clone, Copy, Debug)]
        pub enum Numbers {
            $($(#[cfg($cfg)])? $(#[$doc])* $rule($rule),)*
        }

        $($(#[cfg($cfg)])? impl From<$rule> for Numbers {
            fn from(rule: $rule) -> Self {
                Numbers::$rule(rule)
            }
        })*

        /// The rows of the table, grouped by type.
        static RULES: &[&[Rule]] = &[$($(#[cfg($cfg)])? &[$(Rule {
            name: $name,
            hyperparameters: &[$($key),*],
            choices: &[$($choice),*],
            state: &[$(StateSpec {
                name: $state,
                base: concat!($state, "_base"),
                content: Content::$content,
                when: $when,
            }),*],
            numbers: Numbers::$rule(rules!(@new $rule $($new)?)),
        },)*],)*];

        /// The rules that have a name.
        pub fn rules() -> impl Iterator<Item = &'static Rule> {
            RULES.iter().copied().flatten()
        }

        impl Numbers {
            /// The value of a hyperparameter, or `None` if the rule lacks it.
            pub fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.number(key),)*
                }
            }

            /// The value of a choice, or `None` if the rule's formula lacks it.
            pub fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.choice(choice),)*
                }
            }

            /// The factors that measures put on the step, or `None` if the rule measures nothing.
            pub(crate) fn factors(&mut self) -> Option<&mut Factors> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.factors(),)*
                }
            }

            /// The history of the parameter, or `None` if the rule keeps none.
            pub fn history(&mut self) -> Option<&mut History> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.history(),)*
                }
            }

            /// The history after update number `step`.
            ///
            /// # Errors
            ///
            /// As [`Hyperparameters::history_after`].
            pub fn history_after(&self, step: u64) -> Result<History, Error> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.history_after(step),)*
                }
            }

            /// Refuses hyperparameters that contradict a choice.
            ///
            /// # Errors
            ///
            /// [`Error::Hyperparameter`].
            pub fn check(&self) -> Result<(), Error> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.check(),)*
                }
            }

            /// The coefficients for parameters of type `kind`.
            ///
            /// # Errors
            ///
            /// As [`Hyperparameters::at_step`].
            pub fn at_step(
                &self,
                kind: Kind,
                step: u64,
                intake: impl Into<Intake>,
            ) -> Result<Update, Error> {
                let intake = intake.into();
                Ok(match (self, kind) {
                    $(
                        $(#[cfg($cfg)])?
                        (Numbers::$rule(rule), Kind::F32) => {
                            Update::F32(rule.at_step(step, intake)?.into())
                        }
                        $(#[cfg($cfg)])?
                        (Numbers::$rule(rule), Kind::F64) => {
                            Update::F64(rule.at_step(step, intake)?.into())
                        }
                    )*
                })
            }
        }

        /// The coefficients of one update by any rule, for one element type.
        #[derive(Clone, Copy, Debug)]
        pub enum Coefficients<E> {
            $($(#[cfg($cfg)])? $(#[$doc])* $rule($step<E>),)*
        }

        $(
            $(#[cfg($cfg)])?
            impl<E> From<$step<E>> for Coefficients<E> {
                fn from(step: $step<E>) -> Self {
                    Coefficients::$rule(step)
                }
            }

            $(const _: usize = MAX_STATE - $states;)+
        )*

        impl<E: Element> Coefficients<E> {
            /// The numbers of state arrays that a parameter can have.
            pub fn states(&self) -> &'static [usize] {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(_) => &[$($states),+],)*
                }
            }

            /// Whether the rule moves a parameter by its gradient.
            pub(crate) fn trains(&self) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(_) => stringify!($trains) != "holds",)*
                }
            }

            /// Whether the rule can take a gradient of this magnitude. It cannot if the magnitude
            /// is NaN or infinite, or overflows when scaled or, for Adam, when scaled and squared.
            #[inline(always)]
            pub fn admits(&self, magnitude: E) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => step.admits(magnitude),)*
                }
            }

            /// Updates one element as every pass does: returns the new parameter and overwrites
            /// `state`. If no formula has `state.len()` state arrays, the parameter is returned
            /// unchanged.
            pub fn update_one(&self, p: E, g: E, state: &mut [E]) -> E {
                let mut new = p;
                self.formula(state.len(), OneElement { p: &mut new, g, state });
                new
            }

            /// Runs a job with the formula for `states` state arrays, if there is one.
            pub(crate) fn formula(&self, states: usize, job: impl Job<E>) {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => match states {
                        $($states => run::<E, _, $states>(step, job),)+
                        _ => {}
                    },)*
                }
            }

            /// As [`Coefficients::formula`], for rules that measure only, and without a usual form.
            pub(crate) fn measuring_formula(&self, states: usize, job: impl Job<E>) {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => match states {
                        $($states => rules!(@measure $trains step, $states, job),)+
                        _ => {}
                    },)*
                }
            }

            /// As [`Coefficients::formula`], for rules that train only.
            pub(crate) fn training_formula(&self, states: usize, job: impl Job<E>) {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => match states {
                        $($states => rules!(@$trains step, $states, job),)+
                        _ => {}
                    },)*
                }
            }
        }
    };
    (@new $rule:ident) => {
        $rule::NEW
    };
    (@new $rule:ident $new:ident) => {
        $rule::$new
    };
    (@trains $step:ident, $states:literal, $job:ident) => {
        run::<E, _, $states>($step, $job)
    };
    (@measures $step:ident, $states:literal, $job:ident) => {
        run::<E, _, $states>($step, $job)
    };
    (@holds $step:ident, $states:literal, $job:ident) => {{
        let _ = ($step, $job);
    }};
    (@measure measures $step:ident, $states:literal, $job:ident) => {
        $job.run::<_, $states>($step)
    };
    (@measure $other:ident $step:ident, $states:literal, $job:ident) => {{
        let _ = ($step, $job);
    }};
}

pub(super) use rules;
