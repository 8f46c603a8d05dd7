//! Names and ranges of the hyperparameters, and names of the choices.

use crate::error::Error;
use crate::number::element::Kind;

/// A numeric hyperparameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hyperparameter {
    /// Learning rate, at least 0.
    Lr,
    /// Factor on the learning rate of a parameter group, at least 0.
    LrScale,
    /// Decay of the first moment, in `[0, 1)`.
    Beta1,
    /// Decay of the second moment, in `[0, 1)`.
    Beta2,
    /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
    Eps,
    /// Penalty `l2·Σp²/2` added to the loss, at least 0.
    L2,
    /// Decoupled weight decay, at least 0.
    WeightDecay,
    /// SGD momentum, in `[0, 1]`.
    Momentum,
    /// SGD dampening, in `[0, 1]`.
    Dampening,
    /// Factor on the gradients, above 0.
    Scale,
    /// Factor on a gradient that is added to a sum, above 0.
    Weight,
    /// Decay of a moving average, in `[0, 1)`.
    Decay,
}

use Hyperparameter::{
    Beta1, Beta2, Dampening, Decay, Eps, L2, Lr, LrScale, Momentum, Scale, Weight, WeightDecay,
};

/// A yes-or-no option of the formula, the same for all parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Keep the running maximum of the second moment.
    Amsgrad,
    /// Nesterov's form of momentum.
    Nesterov,
    /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
    Independent,
    /// Ascend instead of descend.
    Maximize,
    /// Correct the bias of an average: its initial content has no weight.
    BiasCorrection,
}

impl Choice {
    /// The name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Choice::Amsgrad => "amsgrad",
            Choice::Nesterov => "nesterov",
            Choice::Independent => "independent",
            Choice::Maximize => "maximize",
            Choice::BiasCorrection => "bias_correction",
        }
    }
}

impl Hyperparameter {
    /// Every hyperparameter.
    pub const ALL: [Self; 12] = [
        Lr,
        LrScale,
        Beta1,
        Beta2,
        Eps,
        L2,
        WeightDecay,
        Momentum,
        Dampening,
        Scale,
        Weight,
        Decay,
    ];

    /// The name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Lr => "lr",
            LrScale => "lr_scale",
            Beta1 => "betas[0]",
            Beta2 => "betas[1]",
            Eps => "eps",
            L2 => "l2",
            WeightDecay => "weight_decay",
            Momentum => "momentum",
            Dampening => "dampening",
            Scale => "scale",
            Weight => "weight",
            Decay => "decay",
        }
    }

    /// A value that is in range for every type and compatible with every choice.
    pub const fn harmless(self) -> f64 {
        match self {
            Dampening => 0.0,
            _ => 0.5,
        }
    }

    /// Returns `value` if it is finite and in range; the range of `eps` depends on `kind`.
    pub fn check(self, value: f64, kind: Kind) -> Result<f64, Error> {
        let (fits, allowed) = match self {
            Lr | LrScale | L2 | WeightDecay => (value >= 0.0, "finite and at least 0"),
            Beta1 | Beta2 | Decay => ((0.0..1.0).contains(&value), "at least 0 and less than 1"),
            Momentum | Dampening => ((0.0..=1.0).contains(&value), "from 0 to 1"),
            Scale | Weight => (value > 0.0, "finite and greater than 0"),
            Eps => (
                value >= kind.eps_min(),
                "finite and at least 1e-15 for float32 parameters, 1e-120 for float64",
            ),
        };
        if fits && value.is_finite() {
            Ok(value)
        } else {
            Err(Error::Hyperparameter { name: self.name(), value, allowed: allowed.to_owned() })
        }
    }
}
