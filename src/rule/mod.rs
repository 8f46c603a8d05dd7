//! The update rules, one file each (hyperparameters, scalar math, formula), and `rules!`, the table
//! of rules. All code that depends on the rule is generated from the table (`table.rs`).
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
mod table;
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
pub(crate) use table::Job;
use table::{OneElement, rules, run};
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
