//! Updates of one tensor on one thread, in bytes a second, at each CPU level, against a loop with
//! the same reads and writes and trivial arithmetic: the memory limit.
//!
//! `cargo bench`; run as a test (`cargo test --benches`) it does each once.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use thalweg::plan::{Plan, Task};
use thalweg::rule::{Adam, Coefficients};
use thalweg::tensor::Tensor;
use thalweg::{Error, Level};

const SIZES: [usize; 3] = [4_096, 131_072, 1 << 24];
/// AdamW reads p, g, m, v and writes p, m, v.
const ARRAYS_MOVED: usize = 7;

fn main() -> Result<(), Error> {
    check()?;
    divan::main();
    Ok(())
}

struct Arrays {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Arrays {
    fn new(len: usize) -> Self {
        let filled = |value| vec![value; len];
        Arrays { p: filled(0.1), g: filled(0.2), m: filled(0.3), v: filled(0.4) }
    }

    fn adamw(&mut self, level: Level) -> Result<(), Error> {
        let adamw = Adam { weight_decay: 1e-2, ..Adam::default() };
        let update = Coefficients::Adam(adamw.at_step::<f32>(10, 1.0)?).into();
        let tensor = Tensor::from_slices(&mut self.p, &self.g, [&mut self.m, &mut self.v])?;
        Plan::default().run(&mut [Task { tensor, update: 0 }], &[update], level, 1)
    }

    fn trivial(&mut self) {
        let moments = self.m.iter_mut().zip(&mut self.v);
        for ((p, g), (m, v)) in self.p.iter_mut().zip(&self.g).zip(moments) {
            *m += g;
            *v += g;
            *p += *m + *v;
        }
    }
}

/// All levels agree, and have moved the parameter, before anything is timed.
fn check() -> Result<(), Error> {
    let mut results = Vec::new();
    for level in Level::available() {
        let mut arrays = Arrays::new(1_000);
        arrays.adamw(level)?;
        results.push(arrays.p.iter().map(|p| p.to_bits()).collect::<Vec<u32>>());
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "levels differ");
    assert!(results[0][0] != 0.1_f32.to_bits(), "nothing was updated");
    Ok(())
}

fn bytes(len: usize) -> BytesCount {
    BytesCount::new(ARRAYS_MOVED * len * size_of::<f32>())
}

fn levels() -> Vec<(&'static str, usize)> {
    let sizes = |level: Level| SIZES.into_iter().map(move |len| (level.name(), len));
    Level::available().flat_map(sizes).collect()
}

#[divan::bench(args = levels(), sample_count = 20)]
fn adamw(bencher: Bencher<'_, '_>, (level, len): (&str, usize)) {
    let mut arrays = Arrays::new(len);
    let Ok(level) = Level::named(level) else { return };
    bencher.counter(bytes(len)).bench_local(|| black_box(&mut arrays).adamw(level));
}

#[divan::bench(args = SIZES, sample_count = 20)]
fn limit(bencher: Bencher<'_, '_>, len: usize) {
    let mut arrays = Arrays::new(len);
    bencher.counter(bytes(len)).bench_local(|| black_box(&mut arrays).trivial());
}
