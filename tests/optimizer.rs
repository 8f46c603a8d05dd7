//! The optimizer for Rust programs: the formula of the core, all or nothing, the files of Python.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::panic)] // lent state, by address

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg::Level;
use thalweg::array::storage::Storage;
use thalweg::checkpoint::NewTensor;
use thalweg::number::element::Kind;
use thalweg::optimizer::{
    AdaBelief, Adagrad, Adam, AdamW, AnyRule, Error, Format, Lion, Live, NAdamW, Optimizer, Param,
    Policy, RAdamW, RMSprop, SGD, SGDW, ScheduleFreeAdamW, Settings, Step, Values,
};
use thalweg::rule::{AveragedPoint, Choice, Hyperparameter, Numbers, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;

mod allocations;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir()
        .join(format!("thalweg-optimizer-{}-{name}.safetensors", std::process::id()))
}

/// The update of one element by the core, for the settings of a step.
fn update(numbers: impl Into<Numbers>, step: u64) -> Update {
    numbers.into().at_step(Kind::F32, step, 1.0).unwrap()
}

#[test]
fn steps_are_those_of_the_core_with_groups_and_schedules() {
    let (mut w, mut b) = (numbers(1, 100), numbers(2, 7));
    let (mut ew, mut eb) = (w.clone(), b.clone());
    let mut state = [vec![[0.0; 2]; 100], vec![[0.0; 2]; 7]];
    let mut opt = AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() }
        .optimizer()
        .group("b", |b| b.weight_decay = 0.0)
        .schedule("*", |all, step| all.lr /= step as f64);
    for step in 1..=5 {
        let (gw, gb) = (numbers(10 + step, 100), numbers(20 + step, 7));
        // In any order.
        let grads = [("w", &mut w[..], &gw[..]), ("b", &mut b[..], &gb[..])];
        let report = opt.step(grads, Step::default()).unwrap();
        assert_eq!((report.step, report.clip, report.skipped), (step, 1.0, false));

        let core = |weight_decay| {
            let lr = 0.1 / step as f64;
            update(thalweg::rule::Adam { lr, weight_decay, ..thalweg::rule::Adam::default() }, step)
        };
        let tensors = [(&mut ew, &gw, core(0.5)), (&mut eb, &gb, core(0.0))];
        for ((p, g, update), state) in tensors.into_iter().zip(&mut state) {
            let Update::F32(coefficients) = update else { panic!("float32") };
            for ((p, g), state) in p.iter_mut().zip(g).zip(state) {
                *p = coefficients.update_one(*p, *g, state);
            }
        }
        assert_eq!((&w, &b), (&ew, &eb), "step {step}");
    }
    assert_eq!(opt.names().collect::<Vec<_>>(), ["w", "b"]);
}

#[test]
fn a_schedule_that_panics_leaves_no_reference_to_parameters() {
    let fault = AtomicBool::new(true);
    let mut opt = SGD { lr: 0.5, ..SGD::default() }.optimizer().schedule("*", move |_, step| {
        assert!(step == 1 || !fault.swap(false, Ordering::Relaxed), "a fault of the schedule");
    });
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    let step = std::panic::AssertUnwindSafe(|| {
        let _ = opt.step([("p", &mut p[..], &g[..])], Step::default());
    });
    assert!(std::panic::catch_unwind(step).is_err());
    // What was left over would be updated.
    let none: [(&str, &mut [f32], &[f32]); 0] = [];
    opt.step(none, Step::default()).unwrap();
    assert_eq!((p, opt.step_count()), (vec![0.5; 3], 2));
}

#[test]
fn an_optimizer_moves_to_another_thread() {
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    let mut opt = SGD { lr: 0.5, ..SGD::default() }.optimizer().schedule("*", |_, _| {});
    let p = std::thread::spawn(move || {
        opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
        p
    });
    assert_eq!(p.join().unwrap(), [0.5; 3]);
}

#[test]
fn a_rule_chosen_by_name_is_the_rule() {
    assert!(AnyRule::named("AdamV").is_none() && AnyRule::named("average").is_none());
    let mut any = AnyRule::named("RMSprop").unwrap();
    *any.number(Hyperparameter::Momentum).unwrap() = 0.9;
    *any.choice(Choice::Centered).unwrap() = true;
    assert!(any.number(Hyperparameter::Beta1).is_none() && any.choice(Choice::Nesterov).is_none());
    let typed = RMSprop { momentum: 0.9, centered: true, ..RMSprop::default() };
    let g = numbers(2, 50);
    let run = |p: &mut Vec<f32>, opt: &mut dyn FnMut(&mut [f32])| (0..3).for_each(|_| opt(p));
    let (mut one, mut other) = (numbers(1, 50), numbers(1, 50));
    let (mut typed, mut chosen) = (typed.optimizer(), any.optimizer());
    run(&mut one, &mut |p| drop(typed.step([("p", p, &g[..])], Step::default()).unwrap()));
    run(&mut other, &mut |p| drop(chosen.step([("p", p, &g[..])], Step::default()).unwrap()));
    assert_eq!(one, other);
    let mut changes = any.optimizer().group("p", |all| {
        *all.choice(Choice::Centered).unwrap() = false;
    });
    let refused = changes.step([("p", &mut one[..], &g[..])], Step::default());
    assert!(matches!(refused, Err(Error::Choice("centered"))));
    assert_eq!(one, other);
}

/// A program updates the parameter itself, here with the state of an optimizer.
#[test]
fn lent_state_is_that_of_the_next_step() {
    let g = numbers(2, 50);
    let (mut p, mut expected) = (numbers(1, 50), numbers(1, 50));
    let (mut lends, mut steps) = (AdamW::default().optimizer(), AdamW::default().optimizer());
    for step in 1..=3 {
        let mut lent = lends.lend([("p", Storage::F32, &[5, 10][..])]).unwrap();
        assert_eq!(lent[0].step(), step);
        assert!(lent[0].array("low").is_none());
        let state = ["exp_avg", "exp_avg_sq"].map(|name| {
            let pointer = lent[0].array(name).unwrap();
            assert_eq!(pointer.storage, Storage::F32);
            // SAFETY: the optimizer has 50 elements there, and nothing else uses them here.
            unsafe { std::slice::from_raw_parts_mut(pointer.address.cast::<f32>(), 50) }
        });
        let update = update(thalweg::rule::Adam { weight_decay: 1e-2, ..Default::default() }, step);
        let tensor = Tensor::from_slices(&mut p, &g, state).unwrap();
        let tasks = &mut [Task { tensor, update: 0 }];
        Plan::default().run(tasks, &[update], Level::current(), 1).unwrap();
        lends.count(["p"]).unwrap();
        steps.step([("p", &mut expected[..], &g[..])], Step::default()).unwrap();
        assert_eq!(p, expected);
    }
    assert_eq!(lends.step_count(), 3);
    for names in [&["p", "q"][..], &["p", "p"]] {
        lends.count(names.iter().copied()).unwrap_err();
    }
    let bad: [&[(&str, Storage, &[usize])]; 4] = [
        &[("new", Storage::F32, &[2]), ("p", Storage::F64, &[50])],
        &[("new", Storage::F32, &[2]), ("new", Storage::F32, &[2])],
        &[("new", Storage::F32, &[2]), ("large", Storage::F32, &[usize::MAX, 2])],
        &[("new", Storage::Low, &[2])],
    ];
    for params in bad {
        lends.lend(params.iter().copied()).unwrap_err();
    }
    assert_eq!((lends.step_count(), lends.names().collect::<Vec<_>>()), (3, vec!["p"]));
}

#[test]
fn the_average_of_schedule_free_is_beside_the_parameter() {
    let g = numbers(2, 50);
    let mut opt = ScheduleFreeAdamW { lr: 0.1, ..ScheduleFreeAdamW::default() }.optimizer();
    let (mut p, mut average) = (numbers(1, 50), vec![7.0_f32; 50]);
    opt.average("p", &p[..], &mut average[..]).unwrap_err();
    for _ in 0..3 {
        opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    }
    let before = p.clone();
    opt.average("p", &p[..], &mut average[..]).unwrap();
    let mut lent = opt.lend([("p", Storage::F32, &[50][..])]).unwrap();
    let z = lent[0].array("z").unwrap().address.cast::<f32>();
    // SAFETY: the optimizer has 50 elements there.
    let z = unsafe { std::slice::from_raw_parts(z, 50) };
    let update = Numbers::from(AveragedPoint { beta1: 0.9 }).at_step(Kind::F32, 1, 1.0).unwrap();
    let Update::F32(coefficients) = update else { panic!("float32") };
    for ((x, p), z) in average.iter().zip(&p).zip(z) {
        assert_eq!(*x, coefficients.update_one(*p, *z, &mut [0.0]));
        assert!((0.1 * z + 0.9 * x - p).abs() < 1e-6);
    }
    assert_eq!((p.clone(), z != average), (before, true));
    opt.average("p", &p[..49], &mut average[..]).unwrap_err();
    opt.average("p", &p[..], &mut average[..49]).unwrap_err();
    let mut sgd = SGD::default().optimizer();
    sgd.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    let refused = sgd.average("p", &p[..], &mut average[..]);
    assert_eq!(refused.unwrap_err().to_string(), "SGD averages no points");

    // Of a narrow parameter: the same point, in its type.
    let wide: Vec<f32> =
        numbers(3, 50).iter().map(|x| f32::from_bits(x.to_bits() >> 16 << 16)).collect();
    let mut bits: Vec<u16> = wide.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let (mut p, mut narrow) = (wide, vec![0; 50]);
    let mut opts = [(); 2].map(|()| ScheduleFreeAdamW::default().optimizer());
    for _ in 0..3 {
        opts[0].step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
        let param = Param::new("p", Live::bfloat16(&mut bits), &g[..]);
        opts[1].step([param], Step::default()).unwrap();
    }
    opts[0].average("p", &p[..], &mut average[..]).unwrap();
    opts[1].average("p", Values::bfloat16(&bits), Live::bfloat16(&mut narrow)).unwrap();
    for (x, bits) in average.iter().zip(narrow) {
        assert!((x - f32::from_bits(u32::from(bits) << 16)).abs() <= x.abs() / 256.0);
    }
}

#[test]
fn a_float16_parameter_that_becomes_infinite_is_reported() {
    let mut opt = SGD { lr: 1e5, ..SGD::default() }.optimizer();
    let mut p = [0x3c00_u16; 4];
    for (g, expected) in [([0.0_f32; 4], vec![]), ([1.0; 4], vec!["p".to_owned()])] {
        let param = Param::new("p", Live::float16(&mut p), &g[..]);
        assert_eq!(opt.step([param], Step::default()).unwrap().overflowed, expected);
    }
    assert_eq!(p, [0xfc00; 4]);
}

#[test]
fn the_norm_and_its_clip_are_reported() {
    let (mut p, g) = ([0.0_f32; 4], [3.0_f32, 0.0, 4.0, 0.0]);
    let mut opt = SGD { lr: 1.0, ..SGD::default() }.optimizer();
    let how = Step { max_norm: Some(1.0), scale: 2.0, ..Step::default() };
    let report = opt.step([("p", &mut p[..], &g[..])], how).unwrap();
    assert_eq!((report.grad_norm, report.clip), (Some(10.0), 0.1));
    assert!((p[2] + 0.8).abs() < 1e-6);
    let how = Step { max_value: Some(0.5), ..Step::default() };
    let before = p;
    opt.step([("p", &mut p[..], &g[..])], how).unwrap();
    assert_eq!(p, [before[0] - 0.5, before[1], before[2] - 0.5, before[3]]);
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut opt = AdamW { lr: 0.1, ..AdamW::default() }.optimizer();
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    let path = file("refused");
    opt.save(&path, [("p", &p[..])]).unwrap();
    let before = std::fs::read(&path).unwrap();
    let nan = [1.0, f32::NAN, f32::INFINITY];
    let error = opt.step([("p", &mut p[..], &nan[..])], Step::default()).unwrap_err();
    match error {
        Error::NonFinite { counts, step } => {
            assert_eq!((&counts[..], step), (&[("p".to_owned(), 2)][..], 2))
        }
        other => panic!("{other}"),
    }
    let mut q = [1.0_f32; 2];
    let mut wide = [1.0_f64; 3];
    let refused = [
        opt.step([("p", &mut q[..], &g[..2])], Step::default()),
        opt.step([("p", &mut p[..], &g[..2])], Step::default()),
        opt.step([Param::new("p", &mut wide[..], &g[..])], Step::default()),
        opt.step([Param::new("q", &mut q[..], &g[..2]).shape(&[2, 2])], Step::default()),
        opt.step([("q", &mut q[..], &g[..2]), ("q", &mut p[..2], &g[..2])], Step::default()),
        opt.step([("p", &mut p[..], &g[..])], Step { scale: 0.0, ..Step::default() }),
        opt.step([("p", &mut p[..], &g[..])], Step { max_norm: Some(0.0), ..Step::default() }),
        opt.step([("p", &mut p[..], &g[..])], Step { max_norm: Some(f64::NAN), ..Step::default() }),
        opt.step(
            [("p", &mut p[..], &g[..])],
            Step { max_norm: Some(1.0), max_value: Some(1.0), ..Step::default() },
        ),
        opt.step([("p", &mut p[..], &g[..])], Step { threads: Some(0), ..Step::default() }),
        opt.step(
            [Param::new("q", &mut q[..], &g[..2]).shape(&[usize::MAX, 2, 1 << 63])],
            Step::default(),
        ),
    ];
    for (at, refused) in refused.into_iter().enumerate() {
        assert!(refused.is_err(), "{at}");
    }
    opt.save(&path, [("p", &p[..])]).unwrap();
    assert!(before == std::fs::read(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        format!("{opt:?}").split_once("}, ").unwrap().1,
        "parameters: 1, step_count: 1, .. }"
    );
}

#[test]
fn settings_out_of_range_and_changed_choices_are_refused() {
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    let mut opt = AdamW { beta1: 1.0, ..AdamW::default() }.optimizer();
    let error = opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap_err();
    assert_eq!(error.to_string(), "'p': betas[0] must be at least 0 and less than 1, got 1.0");
    let mut opt = AdamW::default().optimizer().group("p", |p| p.maximize = true);
    let error = opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap_err();
    assert!(matches!(error, Error::Choice("maximize")));
    assert_eq!(p, [1.0; 3]);
    let amsgrad = AdamW { amsgrad: true, ..AdamW::default() }.optimizer();
    let error = amsgrad.state(Format::Compact).unwrap_err();
    assert!(error.to_string().starts_with("state must be 'full' with amsgrad=True, got 'compact'"));
}

#[test]
fn momentum_that_begins_later_is_refused() {
    let late = |sgd: &mut SGD, step| sgd.momentum = if step > 1 { 0.9 } else { 0.0 };
    let mut opt = SGD { lr: 0.5, ..SGD::default() }.optimizer().schedule("*", late);
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    let error = opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "'p': momentum was 0 in its first step, so it has no momentum_buffer; begin above 0"
    );
    assert_eq!(p, [0.5; 3]);
    // A parameter that occurs later begins with momentum.
    let mut q = vec![1.0_f32; 3];
    opt.step([("q", &mut q[..], &g[..])], Step::default()).unwrap();
    assert_eq!(q, [0.5; 3]);
}

#[test]
fn steps_with_bad_gradients_are_skipped_and_counted() {
    let mut opt = SGD { lr: 0.1, ..SGD::default() }.optimizer().nonfinite(Policy::Skip);
    let (mut p, g, nan) = (vec![1.0_f32; 2], vec![1.0_f32; 2], vec![f32::NAN; 2]);
    for (g, total, consecutive) in [(&nan, 1, 1), (&nan, 2, 2), (&g, 2, 0), (&nan, 3, 1)] {
        let report = opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
        assert_eq!(report.skipped, consecutive > 0);
        assert_eq!(report.nonfinite.len(), usize::from(report.skipped));
        assert_eq!((opt.skips().total, opt.skips().consecutive), (total, consecutive));
    }
    assert_eq!(opt.step_count(), 1);
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    let mut params: Vec<Vec<f32>> = (0..20).map(|i| numbers(i, 100 + i as usize)).collect();
    let grads = params.clone();
    let names: Vec<String> = (0..20).map(|i| format!("layer.{i}.w")).collect();
    let mut opt = AdamW::default().optimizer().schedule("*", |all, step| all.lr /= step as f64);
    for step in 0..4 {
        let tensors = names.iter().zip(&mut params).zip(&grads);
        let tensors = tensors.map(|((name, p), g)| (&name[..], &mut p[..], &g[..]));
        let how = Step { max_norm: Some(1.0), threads: Some(1), ..Step::default() };
        let (report, allocations) = allocations::of(|| opt.step(tensors, how));
        assert!(report.is_ok());
        assert!(step == 0 || allocations == 0);
    }
}

/// The checksum that the Python package gives the file of a run; see `test_embedded.py`.
fn expected(name: &str) -> &'static str {
    let (_, after) =
        include_str!("data/embedded.json").split_once(&format!("\"{name}\": \"")).unwrap();
    &after[..32]
}

/// Trains, saves in the middle, and goes on from the file: the same bits. The file is that of the
/// Python package.
fn resumes<R: Settings>(make: impl Fn() -> Optimizer<R>, name: &str) {
    let path = file(name);
    let (mut w, mut b) = (numbers(1, 4_160), numbers(2, 3));
    let mut opt = make();
    let train = |opt: &mut Optimizer<R>,
                 w: &mut Vec<f32>,
                 b: &mut Vec<f32>,
                 steps: std::ops::Range<u64>| {
        for step in steps {
            let (gw, gb) = (numbers(10 + step, 4_160), numbers(20 + step, 3));
            let tensors = [
                Param::new("w", &mut w[..], &gw[..]).shape(&[64, 65]),
                Param::new("b", &mut b[..], &gb[..]),
            ];
            opt.step(tensors, Step { max_norm: Some(30.0), ..Step::default() }).unwrap();
        }
    };
    train(&mut opt, &mut w, &mut b, 0..3);
    opt.save(&path, [("w", &w[..]), ("b", &b[..])]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(std::str::from_utf8(&bytes[45..77]).unwrap(), expected(name), "{name}");
    train(&mut opt, &mut w, &mut b, 3..6);

    let (mut w2, mut b2) = (vec![0.0_f32; 4_160], vec![0.0_f32; 3]);
    let mut again = make();
    again.load(&path, [("w", &mut w2[..]), ("b", &mut b2[..])]).unwrap();
    assert_eq!(again.step_count(), 3);
    again.save(&path, [("w", &w2[..]), ("b", &b2[..])]).unwrap();
    assert!(bytes == std::fs::read(&path).unwrap(), "{name}: the file has other bytes");
    train(&mut again, &mut w2, &mut b2, 3..6);
    assert_eq!((w, b), (w2, b2), "{name}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn runs_resume_from_files_with_the_same_bits() {
    resumes(|| Adam { l2: 0.1, ..Adam::default() }.optimizer(), "adam");
    resumes(|| AdamW::default().optimizer().group("b", |b| b.weight_decay = 0.0), "adamw");
    resumes(|| AdaBelief::default().optimizer(), "adabelief");
    resumes(
        || Adagrad { initial_accumulator_value: 0.1, ..Adagrad::default() }.optimizer(),
        "adagrad",
    );
    resumes(|| AdamW { amsgrad: true, ..AdamW::default() }.optimizer(), "amsgrad");
    resumes(
        || AdamW { cautious: true, update_rms: 1.0, ..AdamW::default() }.optimizer(),
        "cautious",
    );
    resumes(|| AdamW::default().optimizer().state(Format::Compact).unwrap(), "compact");
    resumes(|| ScheduleFreeAdamW::default().optimizer(), "free");
    resumes(|| Lion::default().optimizer().state(Format::Bfloat16).unwrap(), "lion");
    resumes(|| NAdamW::default().optimizer(), "nadamw");
    resumes(|| RAdamW::default().optimizer().nonfinite(Policy::Skip), "radamw");
    resumes(
        || RMSprop { momentum: 0.9, centered: true, ..RMSprop::default() }.optimizer(),
        "rmsprop",
    );
    resumes(|| SGD { momentum: 0.9, nesterov: true, ..SGD::default() }.optimizer(), "sgd");
    let sgdw = SGDW { lr: 0.1, independent: true, weight_decay: 0.01, ..SGDW::default() };
    resumes(|| sgdw.optimizer(), "sgdw");
}

#[test]
fn narrow_parameters_keep_every_digit() {
    // Steps far below the last place of a bfloat16 number add up.
    let (mut p, g) = (vec![0x3f80_u16; 70], vec![1.0_f32; 70]);
    let mut whole = vec![1.0_f32; 70];
    let mut narrow = SGD { lr: 1e-4, ..SGD::default() }.optimizer();
    let mut wide = SGD { lr: 1e-4, ..SGD::default() }.optimizer();
    let path = file("narrow");
    for step in 0..100 {
        let tensor = Param::new("p", Live::bfloat16(&mut p), &g[..]);
        narrow.step([tensor], Step::default()).unwrap();
        wide.step([("p", &mut whole[..], &g[..])], Step::default()).unwrap();
        if step == 50 {
            narrow.save(&path, [("p", Values::bfloat16(&p))]).unwrap();
            narrow = SGD { lr: 1e-4, ..SGD::default() }.optimizer();
            p.fill(0);
            narrow.load(&path, [("p", Live::bfloat16(&mut p))]).unwrap();
        }
    }
    let nearest = (whole[0].to_bits() + 0x7fff + (whole[0].to_bits() >> 16 & 1)) >> 16;
    assert_eq!(u32::from(p[0]), nearest);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn files_that_do_not_fit_change_nothing() {
    let path = file("misfit");
    let (mut p, g) = (vec![1.0_f32; 3], vec![1.0_f32; 3]);
    let mut opt = AdamW::default().optimizer();
    opt.step([("p", &mut p[..], &g[..])], Step::default()).unwrap();
    let fitting = |p: &[f32]| opt.save(&path, [("p", p)]);
    fitting(&p).unwrap();
    assert!(opt.save(&path, [("q", &p[..])]).is_err());
    assert!(opt.save(&path, [("p", &p[..2])]).is_err());
    assert!(opt.save(&path, [("p", &p[..]), ("p", &p[..])]).is_err());
    let none: [(&str, &[f32]); 0] = [];
    assert!(opt.save(&path, none).is_err());

    let mut target = vec![7.0_f32; 3];
    let mut shorter = [7.0_f32; 2];
    let mut wide = [7.0_f64; 3];
    let loads = |error: Result<_, Error>, part: &str| {
        let text = error.map(|_: thalweg::optimizer::Loaded| ()).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    let mut lion = Lion::default().optimizer();
    loads(
        lion.load(&path, [("p", &mut target[..])]),
        "the file is of 'AdamW', the optimizer is Lion",
    );
    let mut other = AdamW { maximize: true, ..AdamW::default() }.optimizer();
    loads(other.load(&path, [("p", &mut target[..])]), "maximize is false in the file, true here");
    let mut other = AdamW::default().optimizer().state(Format::Bfloat16).unwrap();
    loads(other.load(&path, [("p", &mut target[..])]), "bytes of F32 in the file");
    let mut other = AdamW::default().optimizer();
    loads(other.load(&path, [("q", &mut target[..])]), "'q': the file does not have it");
    loads(
        other.load(&path, [("p", &mut shorter[..])]),
        "12 bytes of F32 in the file, 8 of F32 here",
    );
    loads(other.load(&path, [("p", &mut wide[..])]), "24 of F64 here");
    let none: [(&str, &mut [f32]); 0] = [];
    loads(other.load(&path, none), "'p': the file has it, and it is not given");
    loads(other.load(Path::new("/nowhere"), [("p", &mut target[..])]), "nowhere");
    let texts = [
        ("{\"format\":3}", "the file is of a newer version of thalweg"),
        ("{", "JSON in the checkpoint is malformed"),
        (
            "{\"format\":1,\"rule\":\"AdamW\",\"options\":{},\"step_count\":-1}",
            "a count is not a whole",
        ),
    ];
    for (text, part) in texts {
        let metadata = BTreeMap::from([("thalweg.optimizer".to_owned(), text.to_owned())]);
        let tensors: Vec<NewTensor<&[f32]>> = Vec::new();
        thalweg::checkpoint::save(&path, &metadata, tensors, &mut || Ok(())).unwrap();
        loads(other.load(&path, [("p", &mut target[..])]), part);
    }
    let tensors: Vec<NewTensor<&[f32]>> = Vec::new();
    thalweg::checkpoint::save(&path, &BTreeMap::new(), tensors, &mut || Ok(())).unwrap();
    loads(other.load(&path, [("p", &mut target[..])]), "has no optimizer");
    assert_eq!((target, other.step_count(), other.names().count()), (vec![7.0; 3], 0, 0));
    std::fs::remove_file(&path).unwrap();
}
