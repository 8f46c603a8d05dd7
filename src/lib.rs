//! Adam, AdamW, AMSGrad and SGD updates in place: SIMD, multi-threaded, the same bits everywhere.
//!
//! This crate is the core of the Python package of the same name. It has no dependency on Python,
//! so other Rust programs can embed it. The native Python module is a separate crate in
//! `src/python`, the C library one in `src/capi`.
//!
//! # The promise about numbers
//!
//! The result of an update depends on its inputs alone. It does not depend on the instruction set,
//! the number of threads, the position of an element in its array, the way an array is cut into
//! slices, or the floating-point mode of the calling thread. An update uses only `+ - * /` and
//! square root, in one fixed order, each rounded once to the parameter's type. There is no fused
//! multiply-add and no approximation. The plain NumPy code in `thalweg.reference` defines the bits.
//!
//! # The folders
//!
//! From the lowest to the highest: a folder uses only folders above it in this table.
//!
//! | folder | contents |
//! |---|---|
//! | [`number`] | element types and the magnitudes that count as zero; sums with definite bits; scalar functions; the floating-point mode |
//! | [`error`] | every reason to refuse an update |
//! | [`mod@array`] | addresses, strides and encodings of arrays; buffers for arrays that are not plain slices |
//! | [`rule`] | each rule: hyperparameters, scalar math, formula; the table of rules |
//! | [`machine`] | CPU levels; portions of work, the thread pool and teams of OpenMP; forks; pages of mapped files; the memory limit |
//! | [`read`] | the pass that reads gradients: norm and largest magnitude |
//! | [`update`] | the loop over a block; a parameter with gradient and state, and the passes over it; many tensors on many threads |
//! | [`step`] | a step over many tensors: clipping, refused gradients, measures, updates |
//! | `views` | arrays of the crate `ndarray`; a feature that is on by default |
//! | [`checkpoint`] | files of tensors, written completely or not at all |
//! | [`optimizer`] | an optimizer for Rust programs: state by name, groups, schedules, files |
//!
//! Data flows one way: hyperparameters become coefficients, tensors are cut into portions, threads
//! take portions, and each thread runs the kernel at a CPU level.
//!
//! `unsafe` is denied except in `machine::levels` (functions that enable an instruction set),
//! `float_mode` (a control register), `prefetch` (an instruction), `pointer`, `across`, `rows`, `tensor`,
//! `passes`, `lines`, `narrow`, `apply`, `update::measure`, `read::input`, `step::kept`, `step::row_counts` and
//! `views` (elements of arrays given by address), `step::batch` (a promise that it passes on),
//! `optimizer::{held, param, state, step}` (slices of the caller, during a step; bytes of numbers),
//! `plan` (each element goes to one thread), `pool` (pointers to a leaked pool and to its region),
//! `team` (functions of a loaded library), `cores` (system calls about threads), `fork` (handlers
//! that the C library calls), `checkpoint::record_locks` (a system call without a function in std)
//! and `pages` (advice about memory). The crate in `src/python` allows it in the files that bind
//! arrays, in `interpreter::gate` (a lock) and in `interpreter::dicts` (entries in their order); the one in
//! `src/capi` everywhere, because C programs pass addresses.
//!
//! # Examples
//!
//! [`optimizer`] begins with a training loop. The parts below it, for programs that keep state
//! themselves: one AdamW update of slices on the calling thread, without allocation:
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
pub mod optimizer;
pub mod read;
pub mod rule;
pub mod step;
pub mod update;
#[cfg(feature = "ndarray")]
mod views;

/// The programs of the page are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Page;

pub use error::Error;
pub use machine::levels::Level;
