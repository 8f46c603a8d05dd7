//! The update rules, one file each (hyperparameters, scalar math, formula), and `rules!`, the table
//! of rules. All code that depends on the rule is generated from the table.
//!
//! A rule has two halves. Its hyperparameters are validated `f64` numbers, independent of the
//! element type ([`Hyperparameters`]). At each step they become coefficients of one element type,
//! each rounded once. The coefficients implement [`Formula`], the update of one element. All loops,
//! threads, CPU levels and strides are generic over that function.

mod adabelief;
mod adagrad;
mod adam;
mod average;
mod averaged_point;
mod decay;
mod hyperparameter;
mod lion;
mod measure;
mod nadam;
mod rmsprop;
mod schedule_free;
mod sgd;
mod spec;
mod sum;
mod swap;
mod terms;
#[cfg(feature = "toys")]
mod toy;

pub use adabelief::{AdaBelief, AdaBeliefStep};
pub use adagrad::{Adagrad, AdagradStep};
pub use adam::{Adam, AdamStep};
pub use average::{Average, AverageStep};
pub use averaged_point::{AveragedPoint, AveragedPointStep};
pub use decay::{Decay, DecayStep};
pub use hyperparameter::{Choice, Hyperparameter};
pub use lion::{Lion, LionStep};
pub use measure::{Factors, Measure};
pub use nadam::{NAdam, NAdamStep};
pub use rmsprop::{RmsProp, RmsPropStep};
pub use schedule_free::{ScheduleFree, ScheduleFreeStep};
pub use sgd::{Sgd, SgdStep};
use spec::Step as _;
pub use spec::{COMPACT_MIN, Content, Format, HISTORY, History, Hyperparameters, StateSpec, When};
pub use sum::{Sum, SumStep};
pub use swap::{Swap, SwapStep};
pub use terms::{Formula, Intake};
#[cfg(feature = "toys")]
pub use toy::{Toy, ToyStep};

use crate::array::pointer::MAX_STATE;
use crate::error::Error;
use crate::number::element::{Element, Kind};
use Choice::{Amsgrad, BiasCorrection, Cautious, Centered, Independent, Maximize, Nesterov};
use Hyperparameter as H;
use When::{Always, Chosen, Nonzero};

/// A row of the table: a rule under one of its names.
#[derive(Debug)]
pub struct Rule {
    /// The name that users write.
    pub name: &'static str,
    /// The hyperparameters that a parameter group may set.
    pub hyperparameters: &'static [Hyperparameter],
    /// The choices that apply to all parameters.
    pub choices: &'static [Choice],
    /// The state arrays, in the order of the formula.
    pub state: &'static [StateSpec],
    /// The hyperparameters before users set any.
    pub numbers: Numbers,
}

/// Work to do with a rule's formula; generic over the formula.
pub(crate) trait Job<E: Element> {
    /// Does the work.
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F);
}

/// Runs a job with the usual form of the formula if the coefficients allow it, else with the
/// formula.
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

rules! {
    /// Adam, AdamW and RAdamW; with a third state array AMSGrad.
    Adam: AdamStep { 2 3 } measures {
        "Adam" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::L2] [Amsgrad, Maximize]
            ["exp_avg" Average Always, "exp_avg_sq" Square Always,
                "max_exp_avg_sq" Maximum Chosen(Amsgrad)];
        "AdamW" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::WeightDecay, H::UpdateRms]
            [Amsgrad, Cautious, Independent, Maximize]
            ["exp_avg" Average Always, "exp_avg_sq" Square Always,
                "max_exp_avg_sq" Maximum Chosen(Amsgrad)];
        "RAdamW" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::WeightDecay, H::UpdateRms]
            [Cautious, Independent, Maximize]
            ["exp_avg" Average Always, "exp_avg_sq" Square Always] from RECTIFIED;
    }
    /// SGD and SGDW; with a state array they have momentum.
    Sgd: SgdStep { 0 1 } trains {
        "SGD" [H::Lr, H::Momentum, H::Dampening, H::L2] [Nesterov, Maximize]
            ["momentum_buffer" Average Nonzero(H::Momentum)];
        "SGDW" [H::Lr, H::Momentum, H::Dampening, H::WeightDecay] [Nesterov, Independent, Maximize]
            ["momentum_buffer" Average Nonzero(H::Momentum)];
    }
    /// NAdamW.
    NAdam: NAdamStep { 2 } measures {
        "NAdamW" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::WeightDecay, H::UpdateRms]
            [Cautious, Independent, Maximize]
            ["exp_avg" Average Always, "exp_avg_sq" Square Always];
    }
    /// AdaBelief.
    AdaBelief: AdaBeliefStep { 2 } measures {
        "AdaBelief" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::EpsRoot, H::WeightDecay]
            [Cautious, Independent, Maximize]
            ["exp_avg" Average Always, "exp_avg_var" Square Always];
    }
    /// RMSprop; with further state arrays it is centered or has momentum.
    RmsProp: RmsPropStep { 1 2 3 } trains {
        "RMSprop" [H::Lr, H::Alpha, H::Eps, H::L2, H::Momentum] [Centered, Maximize]
            ["square_avg" Square Always, "grad_avg" Mean Chosen(Centered),
                "momentum_buffer" Average Nonzero(H::Momentum)];
    }
    /// Adagrad.
    Adagrad: AdagradStep { 1 } trains {
        "Adagrad" [H::Lr, H::Eps, H::L2, H::LrDecay, H::InitialAccumulatorValue] [Maximize]
            ["sum" Sum Always];
    }
    /// Lion.
    Lion: LionStep { 1 } measures {
        "Lion" [H::Lr, H::Beta1, H::Beta2, H::WeightDecay] [Cautious, Independent, Maximize]
            ["exp_avg" Average Always];
    }
    /// Schedule-free AdamW.
    ScheduleFree: ScheduleFreeStep { 2 } trains {
        "ScheduleFreeAdamW" [H::Lr, H::Beta1, H::Beta2, H::Eps, H::WeightDecay, H::R, H::WeightLrPower]
            [Independent, Maximize] ["z" Point Always, "exp_avg_sq" Square Always];
    }
    /// Weight decay alone.
    Decay: DecayStep { 0 } holds {}
    /// A sum of gradients; the sum takes the parameter's position.
    Sum: SumStep { 0 } holds {
        "sum" [] [] [];
    }
    /// A moving average. The average takes the parameter's position, the averaged quantity the
    /// gradient's.
    Average: AverageStep { 0 } holds {
        "average" [H::Decay] [BiasCorrection] [];
    }
    /// Exchanges the parameter and its state.
    Swap: SwapStep { 1 } holds {}
    /// The averaged point of a schedule-free parameter.
    AveragedPoint: AveragedPointStep { 1 } holds {}
    /// A rule for tests only.
    Toy if feature = "toys": ToyStep { 1 } trains {
        "Toy" [H::Lr, H::Momentum, H::WeightDecay] [Maximize] ["toy_average" Average Always];
    }
}

/// The coefficients of one update, for either element type.
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
    /// The type of the parameters that these coefficients fit.
    pub fn kind(&self) -> Kind {
        match self {
            Update::F32(_) => Kind::F32,
            Update::F64(_) => Kind::F64,
        }
    }

    /// Refuses a parameter of another type, or with a number of state arrays for which the rule has
    /// no formula.
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

    /// Whether the rule can take a gradient of this magnitude; exact if `magnitude` is a number of
    /// the update's type.
    pub fn admits(&self, magnitude: f64) -> bool {
        match self {
            Update::F32(coefficients) => coefficients.admits(magnitude as f32),
            Update::F64(coefficients) => coefficients.admits(magnitude),
        }
    }
}
