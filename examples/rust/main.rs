//! Two interleaved spirals, told apart by a small network: `cargo run --release --example rust`.
//!
//! Forward, loss and backward are plain loops; the optimizer is thalweg's. In the middle of training
//! the run is saved, and a second optimizer goes on from the file, with the same bits.

use std::error::Error;

use thalweg::optimizer::{AdamW, Optimizer, Step};

const POINTS: usize = 400;
const UNITS: usize = 32;
const STEPS: u64 = 600;

/// Uniform in `[-1, 1)`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A network with one hidden layer on six features of a point; its parameters, or their gradients.
#[derive(Clone, PartialEq)]
struct Network {
    w1: Vec<f32>,
    b1: Vec<f32>,
    w2: Vec<f32>,
    b2: Vec<f32>,
}

const FEATURES: usize = 6;

impl Network {
    fn zeros() -> Self {
        let zeros = |len| vec![0.0; len];
        Network { w1: zeros(FEATURES * UNITS), b1: zeros(UNITS), w2: zeros(UNITS), b2: zeros(1) }
    }

    fn random(random: &mut Random) -> Self {
        let mut made = Network::zeros();
        made.w1.iter_mut().chain(&mut made.w2).for_each(|w| *w = 0.4 * random.next());
        made
    }

    /// The score of a point, above 0 for the first class, and the hidden units.
    fn score(&self, point: &[f32; FEATURES]) -> (f32, [f32; UNITS]) {
        let mut hidden = [0.0; UNITS];
        let mut score = self.b2[0];
        for (unit, active) in hidden.iter_mut().enumerate() {
            let weights = &self.w1[unit * FEATURES..][..FEATURES];
            let sum: f32 = weights.iter().zip(point).map(|(w, x)| w * x).sum();
            *active = (sum + self.b1[unit]).max(0.0);
            score += self.w2[unit] * *active;
        }
        (score, hidden)
    }

    /// The gradient of the mean logistic loss, added to `grads`; returns the share of right answers.
    fn gradients(&self, points: &[([f32; FEATURES], f32)], grads: &mut Network) -> f32 {
        let mut right = 0;
        for (point, class) in points {
            let (score, hidden) = self.score(point);
            right += usize::from(score * class > 0.0);
            let slope = -class / (1.0 + (class * score).exp()) / points.len() as f32;
            grads.b2[0] += slope;
            for unit in (0..UNITS).filter(|unit| hidden[*unit] > 0.0) {
                grads.w2[unit] += slope * hidden[unit];
                grads.b1[unit] += slope * self.w2[unit];
                for (at, x) in point.iter().enumerate() {
                    grads.w1[unit * FEATURES + at] += slope * self.w2[unit] * x;
                }
            }
        }
        right as f32 / points.len() as f32
    }
}

fn spirals() -> Vec<([f32; FEATURES], f32)> {
    let point = |at: usize| {
        let class = if at.is_multiple_of(2) { 1.0 } else { -1.0 };
        let way = at as f32 / POINTS as f32;
        let (sin, cos) = (4.0 * way * std::f32::consts::PI).sin_cos();
        let (x, y) = (class * way * cos, class * way * sin);
        ([x, y, (3.0 * x).sin(), (3.0 * y).sin(), (6.0 * x).sin(), (6.0 * y).sin()], class)
    };
    (POINTS / 8..POINTS).map(point).collect()
}

fn optimizer() -> Optimizer<AdamW> {
    AdamW { lr: 0.02, weight_decay: 1e-3, ..AdamW::default() }
        .optimizer()
        .group(["b1", "b2"], |biases| biases.weight_decay = 0.0)
        .schedule("*", |all, step| all.lr *= 1.0 - (step - 1) as f64 / STEPS as f64)
}

/// Takes the steps from the optimizer's count to `end`; returns the last share of right answers.
fn train(
    net: &mut Network,
    opt: &mut Optimizer<AdamW>,
    end: u64,
) -> Result<f32, thalweg::optimizer::Error> {
    let points = spirals();
    let mut right = 0.0;
    while opt.step_count() < end {
        let mut grads = Network::zeros();
        right = net.gradients(&points, &mut grads);
        let params = [
            ("w1", &mut net.w1[..], &grads.w1[..]),
            ("b1", &mut net.b1[..], &grads.b1[..]),
            ("w2", &mut net.w2[..], &grads.w2[..]),
            ("b2", &mut net.b2[..], &grads.b2[..]),
        ];
        let report = opt.step(params, Step { max_norm: Some(1.0), ..Step::default() })?;
        if report.step % 150 == 0 {
            println!("step {:3}  right {:5.1} %", report.step, 100.0 * right);
        }
    }
    Ok(right)
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("spirals-{}.safetensors", std::process::id()));
    let mut net = Network::random(&mut Random(1));
    let mut opt = optimizer();
    train(&mut net, &mut opt, STEPS / 2)?;
    let params =
        [("w1", &net.w1[..]), ("b1", &net.b1[..]), ("w2", &net.w2[..]), ("b2", &net.b2[..])];
    opt.save(&file, params)?;

    let (mut again, mut resumed) = (Network::zeros(), optimizer());
    let params = [
        ("w1", &mut again.w1[..]),
        ("b1", &mut again.b1[..]),
        ("w2", &mut again.w2[..]),
        ("b2", &mut again.b2[..]),
    ];
    resumed.load(&file, params)?;
    std::fs::remove_file(&file)?;

    let right = train(&mut net, &mut opt, STEPS)?;
    train(&mut again, &mut resumed, STEPS)?;
    if net != again || right < 0.95 {
        return Err("the resumed run differs, or the spirals are not told apart".into());
    }
    println!("the run that was resumed from the file: the same bits");
    Ok(())
}
