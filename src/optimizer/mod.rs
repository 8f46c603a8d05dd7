//! An optimizer for Rust programs: state by name, groups, schedules, clipping, files.
//!
//! The program keeps its parameters and gradients, in slices. The optimizer keeps the state of each
//! parameter under its name, made when the name first occurs. Its steps have the bits of the Python
//! package, and its files are those of the Python package.
//!
//! ```
//! use thalweg::optimizer::{AdamW, Step};
//!
//! let (mut w, mut b) = (vec![1.0_f32; 6], vec![0.0_f32; 3]);
//! let mut opt = AdamW { lr: 0.1, ..AdamW::default() }
//!     .optimizer()
//!     .group("b", |b| b.weight_decay = 0.0)
//!     .schedule("*", |all, step| all.lr *= 1.0 / (step as f64).sqrt());
//! for _ in 0..10 {
//!     let (gw, gb) = (vec![0.5_f32; 6], vec![0.25_f32; 3]); // of the loss
//!     let grads = [("w", &mut w[..], &gw[..]), ("b", &mut b[..], &gb[..])];
//!     let report = opt.step(grads, Step { max_norm: Some(1.0), ..Step::default() })?;
//!     assert!(report.grad_norm.is_some_and(|norm| norm > 1.0));
//! }
//! assert_eq!(opt.step_count(), 10);
//! # Ok::<(), thalweg::optimizer::Error>(())
//! ```

mod any;
mod average;
mod error;
mod file;
mod groups;
mod held;
mod json;
mod param;
mod rules;
mod settings;
mod state;
mod step;
mod typed;

pub use crate::rule::Format;
pub use crate::step::setting::Policy;
pub use any::AnyRule;
pub use error::Error;
pub use file::Loaded;
pub use groups::Pattern;
pub use held::Skips;
pub use param::{Live, Param, Values};
pub use rules::{
    AdaBelief, Adagrad, Adam, AdamW, Lion, NAdamW, RAdamW, RMSprop, SGD, SGDW, ScheduleFreeAdamW,
};
pub use settings::Settings;
pub use state::State;
pub use step::{Report, Step};
pub use typed::Optimizer;
