//! A C call of one tensor beside its kernel, on one thread, and a large one beside the memory limit:
//! `cargo bench -p thalweg-capi`. Interleaved; the best of many rounds.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)] // calls C functions

use std::time::Instant;

use thalweg::Level;
use thalweg::machine::memory_limit::stream;
use thalweg::machine::threads::num_threads;
use thalweg::number::element::Kind;
use thalweg::rule::{Adam, Numbers, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;
use thalweg_capi::options::{Options, thalweg_defaults};
use thalweg_capi::setting::Step;
use thalweg_capi::tensor::Tensor as Given;
use thalweg_capi::update::thalweg_update;

const ROUNDS: u64 = 400;
const CALLS: u32 = 200;
const LARGE: usize = 1 << 26;

struct Arrays {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Arrays {
    fn new(len: usize) -> Self {
        let p = (0..len).map(|at| (at % 97) as f32 * 0.01).collect();
        let g = (0..len).map(|at| (at % 7) as f32 * 0.01 - 0.02).collect();
        Arrays { p, g, m: vec![0.0; len], v: vec![0.0; len] }
    }

    fn kernel(&mut self, plan: &mut Plan, update: Update) {
        let Arrays { p, g, m, v } = self;
        let tensor = Tensor::from_slices(p, g, [m, v]).unwrap();
        plan.run(&mut [Task { tensor, update: 0 }], &[update], Level::current(), 1).unwrap();
    }

    fn call(&mut self, options: &Options, step: u64, threads: i32) {
        // SAFETY: zeros are a struct without arrays and with all defaults.
        let (mut tensor, mut how): (Given, Step) = unsafe { std::mem::zeroed() };
        (tensor.size, how.size) = (size_of::<Given>(), size_of::<Step>());
        tensor.p = self.p.as_mut_ptr().cast();
        tensor.g = self.g.as_ptr().cast();
        tensor.state =
            [self.m.as_mut_ptr().cast(), self.v.as_mut_ptr().cast(), std::ptr::null_mut()];
        (tensor.len, tensor.step) = (self.p.len(), step);
        (how.threads, how.nonfinite) = (threads, 2);
        // SAFETY: the arrays are as the fields say.
        assert_eq!(unsafe { thalweg_update(&tensor, 1, options, 1, &mut how) }, 0);
    }
}

/// Nanoseconds of one of some calls, if that is less than `best`.
fn time(best: &mut f64, calls: u32, mut call: impl FnMut(u64)) {
    let begun = Instant::now();
    (0..u64::from(calls)).for_each(&mut call);
    *best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(calls));
}

fn main() {
    // SAFETY: zeros are a struct; its size and rule are set before it is used.
    let mut options: Options = unsafe { std::mem::zeroed() };
    (options.size, options.rule) = (size_of::<Options>(), 1);
    // SAFETY: as above.
    assert_eq!(unsafe { thalweg_defaults(&mut options) }, 0);
    let adamw = Numbers::from(Adam { weight_decay: 1e-2, ..Adam::default() });
    let at_step = |step| adamw.at_step(Kind::F32, step, 1.0).unwrap();
    let mut plan = Plan::default();

    println!("AdamW, float32, {}, one thread, nanoseconds", Level::current().name());
    println!("elements   kernel   with its coefficients   C call: step as before   new step");
    for len in [16, 256, 4_096, 65_536] {
        let mut arrays = Arrays::new(len);
        let [mut kernel, mut with, mut call, mut new] = [f64::MAX; 4];
        for round in 1..=ROUNDS {
            let update = at_step(round);
            time(&mut kernel, CALLS, |_| arrays.kernel(&mut plan, update));
            time(&mut with, CALLS, |step| arrays.kernel(&mut plan, at_step(step + 1)));
            time(&mut call, CALLS, |_| arrays.call(&options, round, 1));
            time(&mut new, CALLS, |step| arrays.call(&options, step + 1, 1));
        }
        println!("{len:8} {kernel:8.0} {with:23.0} {call:24.0} {new:10.0}");
    }

    let mut arrays = Arrays::new(LARGE);
    let (threads, [mut call, mut limit]) = (num_threads().0, [f64::MAX; 2]);
    for round in 1..=10 {
        time(&mut call, 1, |_| arrays.call(&options, round, 0));
        let Arrays { p, g, m, v } = &mut arrays;
        time(&mut limit, 1, |_| stream([p, m, v], g, Level::current(), threads).unwrap());
    }
    println!("{LARGE} elements, {threads} threads: {:.2} of the memory limit", limit / call);
}
