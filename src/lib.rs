//! Adam, AdamW, AMSGrad and SGD updates in place: SIMD, multi-threaded, the same bits everywhere.
//!
//! This is the core of the Python package of the same name, and a crate that others can embed: it knows
//! nothing of Python. The module that does is a crate of its own, in `src/python`.
//!
//! # The promise about numbers
//!
//! The result of an update is a function of its inputs alone: not of the instruction set, the number of
//! threads, where an element lies in its array, how an array is cut into slices, or the floating-point
//! mode of the calling thread. Only `+ - * /` and square root are used, in one fixed order, each
//! rounded once to the parameter's type; no fused multiply-add, no approximation. The plain NumPy of
//! `thalweg.reference` defines the bits.
//!
//! # The folders
//!
//! From the lowest to the highest; a folder uses those above it in this table.
//!
//! | folder | why it exists |
//! |---|---|
//! | [`number`] | element types and what counts as zero; sums with definite bits; scalar functions; the floating-point mode |
//! | [`error`] | every way an update can be refused |
//! | [`mod@array`] | where arrays lie, in what order, and what their bytes mean; buffers for those that are no slice |
//! | [`rule`] | each rule: hyperparameters, scalar math, formula; the table of them |
//! | [`machine`] | CPU levels; portions of work and the threads that take them; forks; pages of files; the memory limit |
//! | [`read`] | the pass that reads gradients: norm and largest magnitude |
//! | [`update`] | the loop over a block; a parameter with gradient and state, and the passes over it; many of them |
//! | `views` | arrays of the crate `ndarray`, a feature that is on by default |
//! | [`checkpoint`] | files with tensors that are whole or not there |
//!
//! Data flows one way: hyperparameters become coefficients, tensors become portions, portions go to
//! threads, a thread runs the kernel at a CPU level.
//!
//! `unsafe` is denied except in `machine::levels` (functions that enable an instruction set), `float_mode`
//! (a register), `prefetch` (an instruction), `pointer`, `across`, `tensor`, `passes`, `norm` (elements of
//! arrays given by address), `views`, `plan` (one thread an element), `pool` (pointers to a leaked pool
//! and the region in it), `fork` (handlers that the C library calls), `checkpoint::record_locks`
//! (which std lacks) and `pages` (advice about memory). The crate in `src/python` has it where it binds
//! arrays.
//!
//! # Examples
//!
//! One AdamW update of a slice, on the calling thread, without an allocation:
//!
//! ```
//! use thalweg::update::plan::{Plan, Task};
//! use thalweg::rule::{Adam, Numbers};
//! use thalweg::number::element::Kind;
//! use thalweg::update::tensor::Tensor;
//! use thalweg::Level;
//!
//! let (mut p, g) = ([1.0_f32, -2.0], [0.5_f32, 0.25]);
//! let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
//!
//! let adamw = Adam { lr: 0.1, weight_decay: 1e-2, ..Adam::default() };
//! let update = Numbers::from(adamw).at_step(Kind::F32, 1, 1.0)?;
//! let tensor = Tensor::from_slices(&mut p, &g, [&mut m, &mut v])?;
//! Plan::default().run(&mut [Task { tensor, update: 0 }], &[update], Level::current(), 1)?;
//!
//! assert!((p[0] - 0.899).abs() < 1e-6 && (p[1] + 2.098).abs() < 1e-6);
//! # Ok::<(), thalweg::error::Error>(())
//! ```

pub mod array;
pub mod checkpoint;
pub mod error;
pub mod machine;
pub mod number;
pub mod read;
pub mod rule;
pub mod update;
#[cfg(feature = "ndarray")]
mod views;

pub use error::Error;
pub use machine::levels::Level;
