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
//! # The rooms
//!
//! | module | why it exists |
//! |---|---|
//! | [`rule`] | each update rule: formula, hyperparameters, scalar math |
//! | [`element`] | element types and the magnitudes that count as zero |
//! | `kernel`, `prefetch` | the one loop over a block |
//! | [`dispatch`] | CPU levels |
//! | [`float_mode`] | arithmetic as compiled code presumes it, whatever mode the caller's thread is in |
//! | [`layout`], [`gather`], `planes` | shapes and strides; arrays that are no plain slice |
//! | [`tensor`], `ways` | a parameter with its gradient and state; the ways through it |
//! | [`watch`] | norms of gradient, parameter and change, in the pass of the update |
//! | [`plan`], `cut`, [`threads`], [`pool`] | many tensors, portions, threads |
//! | [`release`] | pages of mapped files that a pass is done with |
//! | [`fork`] | what a forked child may believe |
//! | [`norm`], `sums` | the read pass: norm and largest magnitude; sums with definite bits |
//! | [`scalars`] | cosine and power for schedules |
//! | [`stream`] | the memory limit: what no update can be faster than |
//! | [`checkpoint`] | files with tensors that are whole or not there |
//! | `views` | arrays of the crate `ndarray`, a feature that is on by default |
//! | [`error`] | every way an update can be refused |
//!
//! Data flows one way: hyperparameters become coefficients, tensors become portions, portions go to
//! threads, a thread runs the kernel at a CPU level.
//!
//! `unsafe` is denied except in `dispatch` (functions that enable an instruction set), `float_mode` (a
//! register), `prefetch` (an instruction), `gather`, `planes`, `tensor`, `ways`, `norm` (elements of
//! arrays given by address), `plan` (one thread an element), `pool` (pointers to a leaked pool and the
//! region in it), `fork` (handlers that the C library calls), `checkpoint::lock` (record locks, which
//! std lacks), `release` (advice about memory) and `views`. The crate in `src/python` has it where it binds
//! arrays.
//!
//! # Examples
//!
//! One AdamW update of a slice, on the calling thread, without an allocation:
//!
//! ```
//! use thalweg::plan::{Plan, Task};
//! use thalweg::rule::{Adam, Coefficients};
//! use thalweg::tensor::Tensor;
//! use thalweg::Level;
//!
//! let (mut p, g) = ([1.0_f32, -2.0], [0.5_f32, 0.25]);
//! let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
//!
//! let adamw = Adam { lr: 0.1, weight_decay: 1e-2, ..Adam::default() };
//! let update = Coefficients::Adam(adamw.at_step::<f32>(1, 1.0)?).into();
//! let tensor = Tensor::from_slices(&mut p, &g, [&mut m, &mut v])?;
//! Plan::default().run(&mut [Task { tensor, update: 0 }], &[update], Level::current(), 1)?;
//!
//! assert!((p[0] - 0.899).abs() < 1e-6 && (p[1] + 2.098).abs() < 1e-6);
//! # Ok::<(), thalweg::error::Error>(())
//! ```

pub mod checkpoint;
mod cut;
pub mod dispatch;
pub mod element;
pub mod error;
pub mod float_mode;
pub mod fork;
pub mod gather;
mod kernel;
pub mod layout;
pub mod norm;
pub mod plan;
mod planes;
pub mod pool;
mod prefetch;
pub mod release;
pub mod rule;
pub mod scalars;
pub mod stream;
mod sums;
pub mod tensor;
pub mod threads;
#[cfg(feature = "ndarray")]
mod views;
pub mod watch;
mod ways;

pub use dispatch::Level;
pub use error::Error;
