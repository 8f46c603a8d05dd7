//! The rules under their names, as plain structs: hyperparameters and choices with their defaults.

use super::made::Optimizer;
use super::settings::Settings;
use crate::rule::{Choice, Hyperparameter as H, Numbers};

/// A struct has a name, numbers with their hyperparameters and defaults, and choices, all false by
/// default. Fields stand in the order of the row in the table of rules.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$about:meta])* $field:ident: $key:ident = $default:expr,)*
        $([$($(#[$what:meta])* $flag:ident: $choice:ident),* $(,)?])?
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            $($(#[$about])* pub $field: f64,)*
            $($($(#[$what])* pub $flag: bool,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* $($($flag: false,)*)? }
            }
        }

        impl $name {
            /// An optimizer with these settings, without parameters.
            pub fn optimizer(self) -> Optimizer<Self> {
                Optimizer::new(self)
            }
        }

        impl Settings for $name {
            const NAME: &'static str = stringify!($name);

            fn fill(&self, numbers: &mut Numbers) {
                $(if let Some(number) = numbers.number(H::$key) {
                    *number = self.$field;
                })*
            }

            fn choices(&self) -> Vec<(Choice, bool)> {
                vec![$($((Choice::$choice, self.$flag),)*)?]
            }

            fn changed_choice(&self, other: &Self) -> Option<&'static str> {
                $($(if self.$flag != other.$flag {
                    return Some(Choice::$choice.name());
                })*)?
                None
            }
        }
    )*};
}

settings! {
    /// Adam with decoupled weight decay: `p -= lr·weight_decay·p` beside Adam's step.
    AdamW {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        /// Limit on the root mean square of the update of a tensor; 0 for no limit.
        update_rms: UpdateRms = 0.0,
        [
            /// Keep the running maximum of the second moment: AMSGrad.
            amsgrad: Amsgrad,
            /// Apply only changes that have the sign of the gradient.
            cautious: Cautious,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// Adam, with an L2 penalty in the gradient.
    Adam {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Penalty `l2·Σp²/2` in the loss, at least 0.
        l2: L2 = 0.0,
        [
            /// Keep the running maximum of the second moment: AMSGrad.
            amsgrad: Amsgrad,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// AdamW with a rectified step, which needs no warmup.
    RAdamW {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        /// Limit on the root mean square of the update of a tensor; 0 for no limit.
        update_rms: UpdateRms = 0.0,
        [
            /// Apply only changes that have the sign of the gradient.
            cautious: Cautious,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// AdamW with Nesterov's momentum.
    NAdamW {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        /// Limit on the root mean square of the update of a tensor; 0 for no limit.
        update_rms: UpdateRms = 0.0,
        [
            /// Apply only changes that have the sign of the gradient.
            cautious: Cautious,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// AdaBelief: Adam that divides by the deviation of gradients from their average.
    AdaBelief {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the average of squared deviations, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-15,
        /// Added to the average of squared deviations at each step, at least 0.
        eps_root: EpsRoot = 1e-16,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        [
            /// Apply only changes that have the sign of the gradient.
            cautious: Cautious,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// Lion: steps of one size along the sign of an average.
    Lion {
        /// Learning rate, at least 0.
        lr: Lr = 1e-4,
        /// Weight of the average in the step, in `[0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the average, in `[0, 1)`.
        beta2: Beta2 = 0.99,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        [
            /// Apply only changes that have the sign of the gradient.
            cautious: Cautious,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// RMSprop, with an L2 penalty in the gradient.
    RMSprop {
        /// Learning rate, at least 0.
        lr: Lr = 1e-2,
        /// Decay of the averages, in `[0, 1)`.
        alpha: Alpha = 0.99,
        /// Added to the root; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Penalty `l2·Σp²/2` in the loss, at least 0.
        l2: L2 = 0.0,
        /// Momentum, from 0 to 1.
        momentum: Momentum = 0.0,
        [
            /// Subtract the square of the average gradient from the average of squares.
            centered: Centered,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// Adagrad, which divides by the root of the sum of all squared gradients.
    Adagrad {
        /// Learning rate, at least 0.
        lr: Lr = 1e-2,
        /// Added to the root; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-10,
        /// Penalty `l2·Σp²/2` in the loss, at least 0.
        l2: L2 = 0.0,
        /// Decay of the learning rate, at least 0.
        lr_decay: LrDecay = 0.0,
        /// The sum before the first update, at least 0.
        initial_accumulator_value: InitialAccumulatorValue = 0.0,
        [
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// SGD with momentum, and an L2 penalty in the gradient.
    SGD {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Momentum, from 0 to 1.
        momentum: Momentum = 0.0,
        /// Dampening of the momentum, from 0 to 1.
        dampening: Dampening = 0.0,
        /// Penalty `l2·Σp²/2` in the loss, at least 0.
        l2: L2 = 0.0,
        [
            /// Nesterov's form of momentum.
            nesterov: Nesterov,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// SGD with momentum and decoupled weight decay.
    SGDW {
        /// Learning rate, at least 0.
        lr: Lr = 1e-3,
        /// Momentum, from 0 to 1.
        momentum: Momentum = 0.0,
        /// Dampening of the momentum, from 0 to 1.
        dampening: Dampening = 0.0,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        [
            /// Nesterov's form of momentum.
            nesterov: Nesterov,
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
    /// AdamW whose averaged point replaces the decay of the learning rate.
    ScheduleFreeAdamW {
        /// Learning rate, at least 0.
        lr: Lr = 2.5e-3,
        /// Weight of the averaged point where gradients are taken, in `(0, 1)`.
        beta1: Beta1 = 0.9,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: Beta2 = 0.999,
        /// Added to the root of the second moment; at least 1e-15 (`f32`) or 1e-120 (`f64`).
        eps: Eps = 1e-8,
        /// Decoupled weight decay, at least 0.
        weight_decay: WeightDecay = 1e-2,
        /// Power of the step in the weight of the average, at least 0.
        r: R = 0.0,
        /// Power of the largest learning rate in the weight of the average, at least 0.
        weight_lr_power: WeightLrPower = 2.0,
        [
            /// Decay by `weight_decay` itself, not by `lr·weight_decay`.
            independent: Independent,
            /// Ascend instead of descend.
            maximize: Maximize,
        ]
    }
}
