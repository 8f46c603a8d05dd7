//! Names and ranges of the hyperparameters, and names of the choices.

use crate::error::Error;
use crate::number::element::Kind;

/// Enums whose variants have names.
macro_rules! named {
    ($($(#[$doc:meta])* $kind:ident { $($(#[$about:meta])* $variant:ident $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind {
            $($(#[$about])* $variant,)*
        }

        impl $kind {
            /// Every variant.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name that users write.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    )*};
}

named! {
    /// A numeric hyperparameter.
    Hyperparameter {
        /// Learning rate, at least 0.
        Lr "lr",
        /// Factor on the learning rate of a parameter group, at least 0.
        LrScale "lr_scale",
        /// Decay of the first moment, in `[0, 1)`.
        Beta1 "betas[0]",
        /// Decay of the second moment, in `[0, 1)`.
        Beta2 "betas[1]",
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        Eps "eps",
        /// Added to AdaBelief's average of squared deviations at each step, at least 0.
        EpsRoot "eps_root",
        /// Decay of RMSprop's averages, in `[0, 1)`.
        Alpha "alpha",
        /// Penalty `l2·Σp²/2` added to the loss, at least 0.
        L2 "l2",
        /// Decoupled weight decay, at least 0.
        WeightDecay "weight_decay",
        /// Limit on the root mean square of the update of a tensor, at least 0; 0 for no limit.
        UpdateRms "update_rms",
        /// Momentum of SGD and RMSprop, in `[0, 1]`.
        Momentum "momentum",
        /// SGD dampening, in `[0, 1]`.
        Dampening "dampening",
        /// Decay of Adagrad's learning rate, at least 0.
        LrDecay "lr_decay",
        /// Adagrad's sum before the first update, at least 0.
        InitialAccumulatorValue "initial_accumulator_value",
        /// Power of the step in the weight of an average, at least 0.
        R "r",
        /// Power of the largest learning rate in the weight of an average, at least 0.
        WeightLrPower "weight_lr_power",
        /// Factor on the gradients, above 0.
        Scale "scale",
        /// Factor on a gradient that is added to a sum, above 0.
        Weight "weight",
        /// Decay of a moving average, in `[0, 1)`.
        Decay "decay",
    }

    /// A yes-or-no option of the formula, the same for all parameters.
    Choice {
        /// Keep the running maximum of the second moment.
        Amsgrad "amsgrad",
        /// Nesterov's form of momentum.
        Nesterov "nesterov",
        /// Subtract the square of the average gradient from the average of squares.
        Centered "centered",
        /// Apply only changes that have the sign of the gradient.
        Cautious "cautious",
        /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
        Independent "independent",
        /// Ascend instead of descend.
        Maximize "maximize",
        /// Correct the bias of an average: its initial content has no weight.
        BiasCorrection "bias_correction",
    }
}

use Hyperparameter::{
    Alpha, Beta1, Beta2, Dampening, Decay, Eps, EpsRoot, InitialAccumulatorValue, L2, Lr, LrDecay,
    LrScale, Momentum, R, Scale, UpdateRms, Weight, WeightDecay, WeightLrPower,
};

impl Hyperparameter {
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
            Lr
            | LrScale
            | L2
            | WeightDecay
            | EpsRoot
            | LrDecay
            | InitialAccumulatorValue
            | R
            | WeightLrPower
            | UpdateRms => (value >= 0.0, "finite and at least 0"),
            Beta1 | Beta2 | Alpha | Decay => {
                ((0.0..1.0).contains(&value), "at least 0 and less than 1")
            }
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
