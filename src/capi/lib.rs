//! The C library: `thalweg.h` over the core.
//!
//! | file | contents |
//! |---|---|
//! | `refusal` | reasons to refuse a call, its code, and the last reason of each thread |
//! | `versioned` | structs of the caller, which begin with their size |
//! | `layout` | sizes and offsets of the structs |
//! | `options` | rule and hyperparameters |
//! | `tensor` | a parameter with its arrays, as the header has it |
//! | `checked` | the same, whose fields fit: types, lengths, alignment, overlap |
//! | `overlap` | arrays of different tensors that share bytes |
//! | `bound` | a checked parameter for the core |
//! | `setting` | the settings and results of a step |
//! | `update` | updates of arrays that the caller owns |
//! | `average` | averaged points of schedule-free AdamW |
//! | `handle` | what an optimizer holds |
//! | `optimizer` | state by name, and files |
//!
//! Everything about a call is checked before the first write. No panic leaves the library.

#![allow(unsafe_code)] // reads what a C program passes

pub mod average;
mod bound;
mod checked;
pub mod handle;
mod layout;
pub mod optimizer;
pub mod options;
mod overlap;
pub mod refusal;
pub mod setting;
pub mod tensor;
pub mod update;
pub mod versioned;

use std::ffi::c_char;

use thalweg::machine::threads::set_num_threads;

use crate::refusal::{DONE, Refusal, guarded};

/// The version of the binary interface; `THALWEG_ABI` and the SONAME have it too.
pub const ABI: u32 = 0;

/// `thalweg_abi`.
#[unsafe(no_mangle)]
pub extern "C" fn thalweg_abi() -> u32 {
    ABI
}

/// `thalweg_version`.
#[unsafe(no_mangle)]
pub extern "C" fn thalweg_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// `thalweg_set_num_threads`.
#[unsafe(no_mangle)]
pub extern "C" fn thalweg_set_num_threads(threads: i32) -> i32 {
    guarded(|| {
        let given = usize::try_from(threads).map_err(|_| {
            Refusal::invalid(format!("the number of threads must be at least 1, got {threads}"))
        })?;
        set_num_threads(given)?;
        Ok(DONE)
    })
}
