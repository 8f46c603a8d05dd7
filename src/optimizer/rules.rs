//! The rules under their names, as plain structs: hyperparameters and choices with their defaults.

use super::settings::Settings;
use super::typed::Optimizer;
use crate::rule::{Choice, Hyperparameter as H, Numbers};

/// A struct has a name, numbers with their hyperparameters and defaults, and choices, all false by
/// default.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident {
        $($field:ident: $key:ident = $default:literal),*; $($flag:ident: $choice:ident),*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("The number [`", stringify!($key), "`](H::", stringify!($key), "), by default ", stringify!($default), ".")]
                pub $field: f64,
            )*
            $(
                #[doc = concat!("The choice [`", stringify!($choice), "`](Choice::", stringify!($choice), "), by default false.")]
                pub $flag: bool,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* $($flag: false,)* }
            }
        }

        impl $name {
            /// An optimizer with these settings, without parameters.
            pub fn optimizer(self) -> Optimizer<Self> {
                Optimizer::new(self)
            }
        }

        impl Settings for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn fill(&self, numbers: &mut Numbers) {
                $(if let Some(number) = numbers.number(H::$key) {
                    *number = self.$field;
                })*
            }

            fn chosen(&self) -> Vec<Choice> {
                let choices = [$((Choice::$choice, self.$flag)),*];
                choices.into_iter().filter(|(_, on)| *on).map(|(choice, _)| choice).collect()
            }

            fn changed_choice(&self, other: &Self) -> Option<&'static str> {
                $(if self.$flag != other.$flag {
                    return Some(Choice::$choice.name());
                })*
                None
            }
        }
    )*

    /// Writes the defaults of the rule with this name into its numbers; false if there is none.
    pub(super) fn fill_defaults(name: &str, numbers: &mut Numbers) -> bool {
        match name {
            $(stringify!($name) => $name::default().fill(numbers),)*
            _ => return false,
        }
        true
    }
    };
}

settings! {
    /// Adam with decoupled weight decay; AMSGrad with `amsgrad`.
    ///
    /// The formula is that of [`Adam`](crate::rule::Adam).
    AdamW {
        lr: Lr = 1e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-8,
        weight_decay: WeightDecay = 1e-2, update_rms: UpdateRms = 0.0;
        amsgrad: Amsgrad, cautious: Cautious, independent: Independent, maximize: Maximize
    }
    /// Adam, with an L2 penalty in the gradient.
    ///
    /// The formula is that of [`Adam`](crate::rule::Adam).
    Adam {
        lr: Lr = 1e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-8, l2: L2 = 0.0;
        amsgrad: Amsgrad, maximize: Maximize
    }
    /// AdamW with a rectified step, which needs no warmup.
    ///
    /// The formula is that of [`Adam`](crate::rule::Adam).
    RAdamW {
        lr: Lr = 1e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-8,
        weight_decay: WeightDecay = 1e-2, update_rms: UpdateRms = 0.0;
        cautious: Cautious, independent: Independent, maximize: Maximize
    }
    /// AdamW with Nesterov's momentum.
    ///
    /// The formula is that of [`NAdam`](crate::rule::NAdam).
    NAdamW {
        lr: Lr = 1e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-8,
        weight_decay: WeightDecay = 1e-2, update_rms: UpdateRms = 0.0;
        cautious: Cautious, independent: Independent, maximize: Maximize
    }
    /// AdaBelief: AdamW that divides by the deviation of gradients from their average.
    ///
    /// The formula is that of [`AdaBelief`](crate::rule::AdaBelief).
    AdaBelief {
        lr: Lr = 1e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-15,
        eps_root: EpsRoot = 1e-16, weight_decay: WeightDecay = 1e-2;
        cautious: Cautious, independent: Independent, maximize: Maximize
    }
    /// Lion: steps of one size along the sign of an average.
    ///
    /// The formula is that of [`Lion`](crate::rule::Lion).
    Lion {
        lr: Lr = 1e-4, beta1: Beta1 = 0.9, beta2: Beta2 = 0.99, weight_decay: WeightDecay = 1e-2;
        cautious: Cautious, independent: Independent, maximize: Maximize
    }
    /// RMSprop, with an L2 penalty in the gradient.
    ///
    /// The formula is that of [`RmsProp`](crate::rule::RmsProp).
    RMSprop {
        lr: Lr = 1e-2, alpha: Alpha = 0.99, eps: Eps = 1e-8, l2: L2 = 0.0, momentum: Momentum = 0.0;
        centered: Centered, maximize: Maximize
    }
    /// Adagrad, which divides by the root of the sum of all squared gradients.
    ///
    /// The formula is that of [`Adagrad`](crate::rule::Adagrad).
    Adagrad {
        lr: Lr = 1e-2, eps: Eps = 1e-10, l2: L2 = 0.0, lr_decay: LrDecay = 0.0,
        initial_accumulator_value: InitialAccumulatorValue = 0.0;
        maximize: Maximize
    }
    /// SGD with momentum, and an L2 penalty in the gradient.
    ///
    /// The formula is that of [`Sgd`](crate::rule::Sgd).
    SGD {
        lr: Lr = 1e-3, momentum: Momentum = 0.0, dampening: Dampening = 0.0, l2: L2 = 0.0;
        nesterov: Nesterov, maximize: Maximize
    }
    /// SGD with momentum and decoupled weight decay.
    ///
    /// The formula is that of [`Sgd`](crate::rule::Sgd).
    SGDW {
        lr: Lr = 1e-3, momentum: Momentum = 0.0, dampening: Dampening = 0.0,
        weight_decay: WeightDecay = 1e-2;
        nesterov: Nesterov, independent: Independent, maximize: Maximize
    }
    /// AdamW whose averaged point replaces the decay of the learning rate.
    ///
    /// The formula is that of [`ScheduleFree`](crate::rule::ScheduleFree).
    ScheduleFreeAdamW {
        lr: Lr = 2.5e-3, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, eps: Eps = 1e-8,
        weight_decay: WeightDecay = 1e-2, r: R = 0.0, weight_lr_power: WeightLrPower = 2.0;
        independent: Independent, maximize: Maximize
    }
}
