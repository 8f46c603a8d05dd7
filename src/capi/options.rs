//! The rule and its hyperparameters.

use std::sync::LazyLock;

use thalweg::optimizer::AnyRule;
use thalweg::rule::{Choice, Hyperparameter as H};

use crate::refusal::{DONE, Refusal, guarded};
use crate::versioned::{Versioned, read};

/// Names of the rules; `THALWEG_ADAMW` is 1.
const RULES: [&str; 11] = [
    "AdamW",
    "Adam",
    "SGDW",
    "SGD",
    "NAdamW",
    "RAdamW",
    "AdaBelief",
    "Lion",
    "RMSprop",
    "Adagrad",
    "ScheduleFreeAdamW",
];

/// `thalweg_options`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the header has them
pub struct Options {
    pub size: usize,
    pub rule: i32,
    pub amsgrad: u8,
    pub nesterov: u8,
    pub centered: u8,
    pub cautious: u8,
    pub independent: u8,
    pub maximize: u8,
    pub reserved: [u8; 6],
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub l2: f64,
    pub weight_decay: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub alpha: f64,
    pub eps_root: f64,
    pub lr_decay: f64,
    pub initial_accumulator_value: f64,
    pub r: f64,
    pub weight_lr_power: f64,
    pub update_rms: f64,
}

// SAFETY: numbers, the first of them the size.
unsafe impl Versioned for Options {
    const NAME: &'static str = "thalweg_options";
}

impl Options {
    /// Whether the other has the same bits.
    pub fn is(&self, other: &Options) -> bool {
        // SAFETY: numbers without bytes between them.
        let bytes =
            |options: *const Options| unsafe { *options.cast::<[u8; size_of::<Options>()]>() };
        bytes(self) == bytes(other)
    }

    fn numbers(&mut self) -> [(H, &mut f64); 15] {
        [
            (H::Lr, &mut self.lr),
            (H::Beta1, &mut self.beta1),
            (H::Beta2, &mut self.beta2),
            (H::Eps, &mut self.eps),
            (H::L2, &mut self.l2),
            (H::WeightDecay, &mut self.weight_decay),
            (H::Momentum, &mut self.momentum),
            (H::Dampening, &mut self.dampening),
            (H::Alpha, &mut self.alpha),
            (H::EpsRoot, &mut self.eps_root),
            (H::LrDecay, &mut self.lr_decay),
            (H::InitialAccumulatorValue, &mut self.initial_accumulator_value),
            (H::R, &mut self.r),
            (H::WeightLrPower, &mut self.weight_lr_power),
            (H::UpdateRms, &mut self.update_rms),
        ]
    }

    fn choices(&mut self) -> [(Choice, &mut u8); 6] {
        [
            (Choice::Amsgrad, &mut self.amsgrad),
            (Choice::Nesterov, &mut self.nesterov),
            (Choice::Centered, &mut self.centered),
            (Choice::Cautious, &mut self.cautious),
            (Choice::Independent, &mut self.independent),
            (Choice::Maximize, &mut self.maximize),
        ]
    }

    /// The rule with its defaults.
    fn rule(&self) -> Result<AnyRule, Refusal> {
        /// In the order of [`RULES`]; a search by name would take as long as a small update.
        static DEFAULTS: LazyLock<Vec<AnyRule>> =
            LazyLock::new(|| RULES.into_iter().filter_map(AnyRule::named).collect());
        let position = usize::try_from(self.rule).ok().and_then(|rule| rule.checked_sub(1));
        position.and_then(|position| DEFAULTS.get(position)).copied().ok_or_else(|| {
            let (most, got) = (RULES.len(), self.rule);
            Refusal::invalid(format!(
                "rule must be from THALWEG_ADAMW, 1, to THALWEG_SCHEDULE_FREE_ADAMW, {most}, got {got}"
            ))
        })
    }

    /// The settings for the core.
    pub fn settings(&self) -> Result<AnyRule, Refusal> {
        let (mut settings, mut given) = (self.rule()?, *self);
        let name = settings.rule().name;
        let lacks = |what: &str| Refusal::invalid(format!("{name} has no {what}; it must be 0"));
        for (key, given) in given.numbers() {
            match settings.number(key) {
                Some(number) => *number = *given,
                None if *given == 0.0 => {}
                None => return Err(lacks(crate::refusal::in_c(key.name()).as_str())),
            }
        }
        for (choice, given) in given.choices() {
            match (settings.choice(choice), *given) {
                (Some(on), 0 | 1) => *on = *given == 1,
                (None, 0) => {}
                (None, 1) => return Err(lacks(choice.name())),
                (_, got) => {
                    let what = format!("{} must be 0 or 1, got {got}", choice.name());
                    return Err(Refusal::invalid(what));
                }
            }
        }
        if self.reserved != [0; 6] {
            return Err(Refusal::invalid("reserved must be 0"));
        }
        Ok(settings)
    }
}

/// `thalweg_defaults`.
///
/// # Safety
///
/// `options` is null, or of a struct with its size and its rule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_defaults(options: *mut Options) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let mut given = *unsafe { read(options)? };
        let mut settings = given.rule()?;
        for (key, number) in given.numbers() {
            *number = settings.number(key).copied().unwrap_or_default();
        }
        for (choice, flag) in given.choices() {
            *flag = settings.choice(choice).is_some_and(|on| *on).into();
        }
        given.reserved = [0; 6];
        // SAFETY: `read` has checked the address; a longer struct keeps its zeros.
        unsafe { options.write(given) };
        Ok(DONE)
    })
}
