//! What a call keeps inside the library: panics, and memory.
#![allow(missing_docs, unsafe_code, clippy::panic)] // C functions

use std::ffi::CStr;

use thalweg_capi::options::{Options, thalweg_defaults};
use thalweg_capi::refusal::{FAULT, guarded, thalweg_last_error};
use thalweg_capi::setting::Step;
use thalweg_capi::tensor::Tensor;
use thalweg_capi::update::{thalweg_norm, thalweg_update};

#[path = "../../../tests/allocations/mod.rs"]
mod allocations;

#[test]
fn a_panic_does_not_leave_the_library() {
    assert_eq!(guarded(|| panic!("of a test")), FAULT);
    // SAFETY: the text of the last refusal, on this thread.
    let text = unsafe { CStr::from_ptr(thalweg_last_error()) };
    let expected = c"a fault in thalweg, which may have updated some elements: of a test";
    assert_eq!(text, expected);
}

/// With one thread: of one tensor and of several, whether the gradients are read before or not.
#[test]
fn calls_after_the_first_take_no_memory() {
    // SAFETY: zeros are a struct; its size and rule are set before it is used.
    let mut options: Options = unsafe { std::mem::zeroed() };
    (options.size, options.rule) = (size_of::<Options>(), 1);
    // SAFETY: as above.
    assert_eq!(unsafe { thalweg_defaults(&mut options) }, 0);
    let mut arrays = [[0.5_f64; 3_000]; 8];
    let mut tensors = Vec::new();
    for [p, g, m, v] in arrays.as_chunks_mut().0 {
        // SAFETY: zeros are a struct without arrays.
        let mut tensor: Tensor = unsafe { std::mem::zeroed() };
        (tensor.size, tensor.len, tensor.dtype, tensor.step) = (size_of::<Tensor>(), 3_000, 2, 1);
        (tensor.p, tensor.g) = (p.as_mut_ptr().cast(), g.as_ptr().cast());
        (tensor.state[0], tensor.state[1]) = (m.as_mut_ptr().cast(), v.as_mut_ptr().cast());
        tensors.push(tensor);
    }
    let mut call = |call: Call, count, nonfinite, (rows, row_stride): (usize, isize)| {
        (tensors[0].rows, tensors[0].len) = (rows, 3_000 - 10 * rows);
        tensors[0].row_stride[..4].fill(row_stride);
        for round in 0..3 {
            // SAFETY: zeros have all defaults.
            let mut step: Step = unsafe { std::mem::zeroed() };
            (step.size, step.threads, step.nonfinite) = (size_of::<Step>(), 1, nonfinite);
            tensors[0].step += 1;
            // SAFETY: the arrays are as the fields say.
            let called = || unsafe { call(tensors.as_ptr(), count, &options, 1, &mut step) };
            let (code, allocations) = allocations::of(called);
            assert_eq!(code, 0);
            assert!(round == 0 || allocations == 0, "{count} {nonfinite} {rows}");
        }
    };
    for count in [1, 2] {
        for nonfinite in [0, 2] {
            call(thalweg_update, count, nonfinite, (0, 0));
            call(thalweg_norm, count, nonfinite, (0, 0));
        }
    }
    call(thalweg_update, 1, 2, (30, 800)); // rows of 90 of 100 numbers
}

type Call = unsafe extern "C" fn(*const Tensor, usize, *const Options, usize, *mut Step) -> i32;
