//! Updates of one tensor on one thread, in bytes per second, for each rule, element type and CPU
//! level, beside the memory limit: a loop that moves the same bytes.
//!
//! `cargo bench` measures; `cargo test --benches` runs each benchmark once on few elements.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use thalweg::machine::memory_limit::{Word, stream};
use thalweg::number::element::{Element, Kind};
use thalweg::read::norm::{Input, global_norm};
use thalweg::rule::{Adam, Numbers, Sgd, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;
use thalweg::{Error, Level};

fn main() -> Result<(), Error> {
    check::<f32>()?;
    check::<f64>()?;
    divan::main();
    Ok(())
}

/// Elements per tensor: a small tensor, one that fits the second-level cache, one in shared cache,
/// one in memory.
fn sizes() -> Vec<usize> {
    if std::env::args().any(|argument| argument == "--bench") {
        vec![4_096, 32_768, 131_072, 1 << 24]
    } else {
        vec![1_000]
    }
}

#[derive(Clone, Copy, Debug)]
enum Subject {
    AdamW,
    AmsGrad,
    Momentum,
    Sgd,
}

impl Subject {
    const ALL: [Subject; 4] = [Subject::AdamW, Subject::AmsGrad, Subject::Momentum, Subject::Sgd];

    fn states(self) -> usize {
        match self {
            Subject::AdamW => 2,
            Subject::AmsGrad => 3,
            Subject::Momentum => 1,
            Subject::Sgd => 0,
        }
    }

    /// Bytes that an update of `len` elements moves: the gradient is read, the other arrays are
    /// read and written.
    fn bytes<E>(self, len: usize) -> BytesCount {
        BytesCount::new((1 + 2 * (1 + self.states())) * len * size_of::<E>())
    }

    fn update(self, kind: Kind) -> Result<Update, Error> {
        let adamw = Adam { weight_decay: 1e-2, ..Adam::default() };
        let sgdw = Sgd { momentum: 0.9, weight_decay: 1e-2, ..Sgd::new(0.1) };
        let rule = match self {
            Subject::AdamW | Subject::AmsGrad => Numbers::from(adamw),
            Subject::Momentum => sgdw.into(),
            Subject::Sgd => Sgd::new(0.1).into(),
        };
        rule.at_step(kind, 10, 1.0)
    }
}

struct Arrays<E> {
    p: Vec<E>,
    g: Vec<E>,
    state: [Vec<E>; 3],
}

impl<E: Element> Arrays<E> {
    fn new(len: usize) -> Self {
        let filled = |value| vec![E::from_f64(value); len];
        Arrays { p: filled(0.1), g: filled(0.01), state: [filled(0.01), filled(0.1), filled(0.1)] }
    }

    fn step(&mut self, rule: Subject, level: Level) -> Result<(), Error> {
        let Arrays { p, g, state: [m, v, u] } = self;
        let tensor = match rule {
            Subject::AdamW => Tensor::from_slices(p, g, [m, v]),
            Subject::AmsGrad => Tensor::from_slices(p, g, [m, v, u]),
            Subject::Momentum => Tensor::from_slices(p, g, [m]),
            Subject::Sgd => Tensor::from_slices(p, g, []),
        }?;
        Plan::default().run(&mut [Task { tensor, update: 0 }], &[rule.update(E::KIND)?], level, 1)
    }
}

impl<E: Word> Arrays<E> {
    /// The memory limit of a rule with `states` state arrays.
    fn stream(&mut self, states: usize, level: Level) -> Result<(), Error> {
        let Arrays { p, g, state: [m, v, u] } = self;
        match states {
            0 => stream([p], g, level, 1),
            1 => stream([p, m], g, level, 1),
            2 => stream([p, m, v], g, level, 1),
            _ => stream([p, m, v, u], g, level, 1),
        }
    }
}

/// Checks, before anything is timed, that all levels agree and that the parameter has moved.
fn check<E: Element + PartialEq + std::fmt::Debug>() -> Result<(), Error> {
    for rule in Subject::ALL {
        let before = Arrays::<E>::new(1_000).p;
        let mut results = Vec::new();
        for level in Level::available() {
            let mut arrays = Arrays::<E>::new(1_000);
            arrays.step(rule, level)?;
            results.push(arrays.p);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "levels differ");
        assert!(results[0].iter().zip(&before).all(|(new, old)| new < old), "nothing was updated");
    }
    Ok(())
}

/// A row of the table; displayed by its name.
struct Case {
    level: Level,
    rule: Subject,
    len: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<8} {:?} {}", self.level.name(), self.rule, self.len)
    }
}

fn cases() -> Vec<Case> {
    let of = |level| Subject::ALL.into_iter().map(move |rule| (level, rule));
    let with = |(level, rule)| sizes().into_iter().map(move |len| Case { level, rule, len });
    Level::available().flat_map(of).flat_map(with).collect()
}

#[divan::bench(types = [f32, f64], args = cases(), sample_count = 20)]
fn update<E: Element>(bencher: Bencher<'_, '_>, case: &Case) {
    let mut arrays = Arrays::<E>::new(case.len);
    bencher
        .counter(case.rule.bytes::<E>(case.len))
        .bench_local(|| black_box(&mut arrays).step(case.rule, case.level));
}

#[divan::bench(types = [f32, f64], args = cases(), sample_count = 20)]
fn limit<E: Word>(bencher: Bencher<'_, '_>, case: &Case) {
    let mut arrays = Arrays::<E>::new(case.len);
    bencher
        .counter(case.rule.bytes::<E>(case.len))
        .bench_local(|| black_box(&mut arrays).stream(case.rule.states(), case.level));
}

/// The read pass, in bytes of the gradient per second.
#[divan::bench(types = [f32, f64], args = sizes(), sample_count = 20)]
fn norm<E: Element>(bencher: Bencher<'_, '_>, len: usize) {
    let gradient = vec![E::from_f64(0.01); len];
    bencher.counter(BytesCount::new(len * size_of::<E>())).bench_local(|| {
        global_norm(&[Input::from_slice(black_box(&gradient[..]))], Level::current(), 1)
    });
}
