//! The update rules: one file each, with its formula, its hyperparameters and its scalar math; and the
//! table of them, `rules!`, from which everything comes that goes by the rule.
//!
//! A rule has two halves. Its hyperparameters are `f64`, validated, and know nothing of a type
//! ([`Hyperparameters`]); at a step they become coefficients of one element type, each rounded once. The
//! coefficients implement [`Formula`]: the new parameter and state of one element. Everything else in the
//! crate (loops, threads, CPU levels, strides) is generic over that one function.

mod adam;
mod average;
mod decay;
mod hyperparameter;
mod sgd;
mod spec;
mod sum;
mod swap;
mod terms;
#[cfg(feature = "toys")]
mod toy;

pub use adam::{Adam, AdamStep};
pub use average::{Average, AverageStep};
pub use decay::{Decay, DecayStep};
pub use hyperparameter::{Choice, Hyperparameter};
pub use sgd::{Sgd, SgdStep};
use spec::Step as _;
pub use spec::{Hyperparameters, StateSpec, When};
pub use sum::{Sum, SumStep};
pub use swap::{Swap, SwapStep};
pub use terms::{Formula, Intake};
#[cfg(feature = "toys")]
pub use toy::{Toy, ToyStep};

use crate::array::pointer::MAX_STATE;
use crate::error::Error;
use crate::number::element::{Element, Kind};
use Choice::{Amsgrad, BiasCorrection, Independent, Maximize, Nesterov};
use Hyperparameter as H;
use When::{Always, Chosen, Nonzero};

/// A row of the table: what there is to know of a rule by one of its names.
#[derive(Debug)]
pub struct Rule {
    /// As users write it.
    pub name: &'static str,
    /// The hyperparameters that a parameter group may set.
    pub hyperparameters: &'static [Hyperparameter],
    /// What is chosen for all parameters.
    pub choices: &'static [Choice],
    /// The state arrays, in the order of the formula.
    pub state: &'static [StateSpec],
    /// Its numbers before anything is set.
    pub numbers: Numbers,
}

/// Work that is done with the formula of a rule, whichever it is.
pub(crate) trait Job<E: Element> {
    /// Does it.
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F);
}

/// Does a job with the usual form of a formula if its coefficients are usual, else with the formula.
fn run<E: Element, F: Formula<E, N>, const N: usize>(formula: &F, job: impl Job<E>) {
    match formula.usual() {
        Some(usual) => job.run(&usual),
        None => job.run(formula),
    }
}

struct OneElement<'a, E> {
    p: &'a mut E,
    g: E,
    state: &'a mut [E],
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
/// Type: Coefficients { formulas with so many state arrays } trains or not {
///     "name" [hyperparameters] [choices] [state];
/// }
/// ```
///
/// with a name for each way that users know the rule by. `Type if feature = "…"` makes a row one of a
/// feature.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $(if $cfg:meta)?: $step:ident { $($states:literal)+ } $trains:ident {
        $($name:literal [$($key:expr),*] [$($choice:expr),*] [$($state:literal $when:expr),*];)*
    })*) => {
        /// Hyperparameters of one update, as numbers, whatever the rule.
        #[derive(Clone, Copy, Debug)]
        pub enum Numbers {
            $($(#[cfg($cfg)])? $(#[$doc])* $rule($rule),)*
        }

        $($(#[cfg($cfg)])? impl From<$rule> for Numbers {
            fn from(rule: $rule) -> Self {
                Numbers::$rule(rule)
            }
        })*

        /// The rows by names, those of one type together.
        static RULES: &[&[Rule]] = &[$($(#[cfg($cfg)])? &[$(Rule {
            name: $name,
            hyperparameters: &[$($key),*],
            choices: &[$($choice),*],
            state: &[$(StateSpec { name: $state, when: $when }),*],
            numbers: Numbers::$rule($rule::NEW),
        },)*],)*];

        /// The rules that have a name.
        pub fn rules() -> impl Iterator<Item = &'static Rule> {
            RULES.iter().copied().flatten()
        }

        impl Numbers {
            /// The place of a hyperparameter, if the rule has it.
            pub fn number(&mut self, key: Hyperparameter) -> Option<&mut f64> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.number(key),)*
                }
            }

            /// The place of a choice, if the rule's formula has it.
            pub fn choice(&mut self, choice: Choice) -> Option<&mut bool> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.choice(choice),)*
                }
            }

            /// Refuses numbers that contradict a choice.
            ///
            /// # Errors
            ///
            /// [`Error::Hyperparameter`].
            pub fn check(&self) -> Result<(), Error> {
                match self {
                    $($(#[cfg($cfg)])? Numbers::$rule(rule) => rule.check(),)*
                }
            }

            /// The coefficients for parameters of a type.
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

        /// The coefficients of one update for one element type, whatever the rule.
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
            /// How many state arrays a parameter may have.
            pub fn states(&self) -> &'static [usize] {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(_) => &[$($states),+],)*
                }
            }

            /// Whether the rule moves a parameter by its gradient.
            pub(crate) fn trains(&self) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(_) => stringify!($trains) == "trains",)*
                }
            }

            /// Whether the rule can take a gradient of this magnitude. Not if it is NaN or infinite, or
            /// overflows once scaled or, for Adam, once scaled and squared.
            #[inline(always)]
            pub fn admits(&self, magnitude: E) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => step.admits(magnitude),)*
                }
            }

            /// The update of one element with its numbers of state, which is what every pass does to
            /// each: the new parameter. Nothing is changed where there is no formula for so many.
            pub fn update_one(&self, p: E, g: E, state: &mut [E]) -> E {
                let mut new = p;
                self.formula(state.len(), OneElement { p: &mut new, g, state });
                new
            }

            /// Does a job with the formula for so many state arrays, if there is one.
            pub(crate) fn formula(&self, states: usize, job: impl Job<E>) {
                match self {
                    $($(#[cfg($cfg)])? Coefficients::$rule(step) => match states {
                        $($states => run::<E, _, $states>(step, job),)+
                        _ => {}
                    },)*
                }
            }

            /// The same for rules that train.
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
    (@trains $step:ident, $states:literal, $job:ident) => {
        run::<E, _, $states>($step, $job)
    };
    (@holds $step:ident, $states:literal, $job:ident) => {{
        let _ = ($step, $job);
    }};
}

rules! {
    /// Adam and AdamW; with a third state array AMSGrad.
    Adam: AdamStep { 2 3 } trains {
        "Adam" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::L2] [Amsgrad, Maximize]
            ["exp_avg" Always, "exp_avg_sq" Always, "max_exp_avg_sq" Chosen(Amsgrad)];
        "AdamW" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::WeightDecay] [Amsgrad, Independent, Maximize]
            ["exp_avg" Always, "exp_avg_sq" Always, "max_exp_avg_sq" Chosen(Amsgrad)];
    }
    /// SGD and SGDW; with a state array they have momentum.
    Sgd: SgdStep { 0 1 } trains {
        "SGD" [H::Lr, H::Momentum, H::Dampening, H::L2] [Nesterov, Maximize]
            ["momentum_buffer" Nonzero(H::Momentum)];
        "SGDW" [H::Lr, H::Momentum, H::Dampening, H::WeightDecay] [Nesterov, Independent, Maximize]
            ["momentum_buffer" Nonzero(H::Momentum)];
    }
    /// Weight decay by itself.
    Decay: DecayStep { 0 } holds {}
    /// A sum of gradients, in place of the parameter.
    Sum: SumStep { 0 } holds {
        "sum" [] [] [];
    }
    /// A moving average, in place of the parameter, of what is in place of the gradient.
    Average: AverageStep { 0 } holds {
        "average" [H::Decay] [BiasCorrection] [];
    }
    /// Parameter and state change places.
    Swap: SwapStep { 1 } holds {}
    /// The rule of the tests.
    Toy if feature = "toys": ToyStep { 1 } trains {
        "Toy" [H::Lr, H::Momentum, H::WeightDecay] [Maximize] ["toy_average" Always];
    }
}

/// Coefficients of one update, of either element type.
#[derive(Clone, Copy, Debug)]
pub enum Update {
    /// For `f32` parameters.
    F32(Coefficients<f32>),
    /// For `f64` parameters.
    F64(Coefficients<f64>),
}

impl From<Coefficients<f32>> for Update {
    fn from(coefficients: Coefficients<f32>) -> Self {
        Update::F32(coefficients)
    }
}

impl From<Coefficients<f64>> for Update {
    fn from(coefficients: Coefficients<f64>) -> Self {
        Update::F64(coefficients)
    }
}

impl Update {
    /// The type of the parameters it is for.
    pub fn kind(&self) -> Kind {
        match self {
            Update::F32(_) => Kind::F32,
            Update::F64(_) => Kind::F64,
        }
    }

    /// Refuses a parameter of another type, or with another number of state arrays than the rule has a
    /// formula for.
    ///
    /// # Errors
    ///
    /// [`Error::Kind`], [`Error::State`].
    pub(crate) fn check(&self, kind: Kind, states: usize) -> Result<(), Error> {
        let expected = match self {
            Update::F32(coefficients) => coefficients.states(),
            Update::F64(coefficients) => coefficients.states(),
        };
        if kind != self.kind() {
            Err(Error::Kind { got: kind, expected: self.kind() })
        } else if !expected.contains(&states) {
            Err(Error::State { got: states, expected })
        } else {
            Ok(())
        }
    }

    /// Whether the rule moves a parameter by its gradient.
    pub(crate) fn trains(&self) -> bool {
        match self {
            Update::F32(coefficients) => coefficients.trains(),
            Update::F64(coefficients) => coefficients.trains(),
        }
    }

    /// Whether the rule can take a gradient of this magnitude; exact for numbers of its type.
    pub fn admits(&self, magnitude: f64) -> bool {
        match self {
            Update::F32(coefficients) => coefficients.admits(magnitude as f32),
            Update::F64(coefficients) => coefficients.admits(magnitude),
        }
    }
}
