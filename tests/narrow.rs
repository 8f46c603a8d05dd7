//! Properties of updates of narrow arrays: CPU levels, threads and cuts give the bits of the
//! oracle, which decodes an array as a whole, applies the rule element by element, and encodes.

#![allow(clippy::unwrap_used, clippy::panic)] // tests may panic
#![allow(unsafe_code)] // binds arrays by address

use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use thalweg::Level;
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, Pointer, STATE};
use thalweg::array::storage::Storage;
use thalweg::number::element::Kind;
use thalweg::rule::{Adam, Coefficients, Numbers, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::{Narrow, Tensor};

const BLOCK: usize = 64;
/// Elements of the large cases: several portions of a plan, and a rest that is no whole chunk.
const LARGE: usize = 40_007;
const THREADS: [usize; 3] = [1, 2, 7];

/// The bytes of an array's elements, and the exponents of its blocks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Bytes {
    elements: Vec<u8>,
    bases: Vec<u8>,
}

fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() }
}

/// The dither of the second moments in a block.
fn stratum(step: u64, k: usize) -> u32 {
    let mut x = (step ^ step >> 32) as u32;
    x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    (x ^ x >> 16).wrapping_add((k as u32 % 16).wrapping_mul(0x9000_0000)) >> 12
}

fn decoded(storage: Storage, Bytes { elements, bases }: &Bytes) -> Vec<f32> {
    let wide =
        |pair: &[u8]| f32::from_bits(u32::from(u16::from_ne_bytes([pair[0], pair[1]])) << 16);
    match storage {
        Storage::F32 => {
            elements.chunks(4).map(|x| f32::from_ne_bytes(x.try_into().unwrap())).collect()
        }
        Storage::E5M3 => {
            let code = |(i, code): (usize, &u8)| {
                f32::from_bits((u32::from(*code) << 20) + (u32::from(bases[i / BLOCK]) << 23))
            };
            elements.iter().enumerate().map(code).collect()
        }
        _ => elements.chunks(2).map(wide).collect(),
    }
}

fn encoded(storage: Storage, numbers: &[f32], step: u64) -> Bytes {
    let halves = |half: &dyn Fn(f32) -> u32| {
        numbers.iter().flat_map(|x| (half(*x) as u16).to_ne_bytes()).collect()
    };
    let word = (step as u32).wrapping_mul(0xC13F_A9A9) >> 16;
    let elements = match storage {
        Storage::F32 => numbers.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Storage::BF16 => halves(&|x| bits(x).wrapping_add(0x8000) >> 16),
        Storage::Dithered => halves(&|x| bits(x).wrapping_add(word) >> 16),
        Storage::Low => halves(&bits),
        Storage::E5M3 => return blocks(numbers, step),
        other => panic!("{other:?}"),
    };
    Bytes { elements, bases: Vec::new() }
}

fn blocks(numbers: &[f32], step: u64) -> Bytes {
    let mut made = Bytes::default();
    for block in numbers.chunks(BLOCK) {
        let all: Vec<i32> = block.iter().map(|x| (bits(*x) as i32).max(0)).collect();
        let top = *all.iter().max().unwrap();
        let base = if top == 0 { 0 } else { ((top + 0xF_FFFF) >> 23).max(43) - 31 };
        let code = |(k, x): (usize, &i32)| {
            ((x.max(&(base << 23)) - (base << 23)) as u32 + stratum(step, k)) >> 20
        };
        made.elements.extend(all.iter().enumerate().map(code).map(|code| code as u8));
        made.bases.push(base as u8);
    }
    made
}

/// An update of arrays in these storages: parameter, gradient, two moments.
#[derive(Clone, Debug)]
struct Case {
    storages: [Storage; 4],
    arrays: [Bytes; 4],
    /// What the parameter lacks, if it is narrow.
    low: Bytes,
    adam: Adam,
    step: u64,
    scale: f64,
}

fn number() -> impl Strategy<Value = f32> {
    let special = select(vec![0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::MAX, 1e-40]);
    let spread = (-1.0_f32..1.0, -130..20_i32).prop_map(|(x, e)| x * 2.0_f32.powi(e));
    prop_oneof![8 => -2.0_f32..2.0, 4 => spread, 1 => special, 1 => proptest::num::f32::ANY]
}

fn storages() -> impl Strategy<Value = [Storage; 4]> {
    use Storage::{BF16, Dithered, E5M3, F32};
    let of = |storages: &[Storage]| select(storages.to_vec());
    (
        of(&[F32, BF16]),
        of(&[F32, BF16]),
        of(&[Dithered, Dithered, F32]),
        of(&[Dithered, E5M3, E5M3]),
    )
        .prop_map(|(p, g, m, v)| [p, g, m, v])
}

fn adam() -> impl Strategy<Value = Adam> {
    let beta = || select(vec![0.3, 0.9, 0.9, 0.999, 0.999]);
    let rate = select(vec![0.01, 0.01, 0.01, 0.0]);
    let l2 = select(vec![0.0, 0.0, 0.0, 0.1]);
    (beta(), beta(), rate, l2).prop_map(|(beta1, beta2, weight_decay, l2)| Adam {
        lr: 0.01,
        beta1,
        beta2,
        weight_decay,
        l2,
        ..Adam::default()
    })
}

/// Repetitions of some rows, so that few numbers make many elements; blocks of zeros among them, and
/// sometimes blocks of any bytes.
fn case(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Case> {
    let rows = vec(uniform4(number()), 1..100);
    let update = (adam(), select(vec![1, 2, 77, 1 << 33]), select(vec![1.0, 3.7, 1e-30]));
    let bytes = vec(any::<u8>(), 1..50);
    (storages(), rows, len, update, bytes, 0_u8..4).prop_map(
        |(storages, rows, len, (adam, step, scale), bytes, odd)| {
            let column = |k: usize| -> Vec<f32> {
                let gap = |i: usize| k > 1 && (i / BLOCK) % 3 == 1;
                let of = |i: usize| if gap(i) { 0.0 } else { rows[i % rows.len()][k] };
                (0..len).map(of).collect()
            };
            let mut arrays = [0, 1, 2, 3].map(|k| {
                let mut numbers = column(k);
                if k == 3 {
                    numbers.iter_mut().for_each(|x| *x = x.abs());
                }
                encoded(storages[k], &numbers, step)
            });
            if odd == 0 && storages[3] == Storage::E5M3 {
                let cycle = |to: &mut Vec<u8>| {
                    to.iter_mut().zip(bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
                };
                cycle(&mut arrays[3].elements);
                cycle(&mut arrays[3].bases);
            }
            let low = match storages[PARAMETER] {
                Storage::F32 => Bytes::default(),
                _ => encoded(Storage::Low, &column(PARAMETER), step),
            };
            Case { storages, arrays, low, adam, step, scale }
        },
    )
}

impl Case {
    fn update(&self) -> Update {
        Numbers::from(self.adam).at_step(Kind::F32, self.step, self.scale).unwrap()
    }

    fn coefficients(&self) -> Coefficients<f32> {
        match self.update() {
            Update::F32(coefficients) => coefficients,
            other => panic!("{other:?}"),
        }
    }

    /// The parameter with what it lacks.
    fn parameter(&self) -> Vec<f32> {
        let mut p = decoded(self.storages[PARAMETER], &self.arrays[PARAMETER]);
        for (x, low) in p.iter_mut().zip(self.low.elements.chunks(2)) {
            let low = i16::from_ne_bytes([low[0], low[1]]);
            *x = f32::from_bits(x.to_bits().wrapping_add_signed(low.into()));
        }
        p
    }

    fn expected(&self) -> Self {
        let coefficients = self.coefficients();
        let mut p = self.parameter();
        let [g, mut m, mut v] = [1, 2, 3].map(|k| decoded(self.storages[k], &self.arrays[k]));
        for i in 0..p.len() {
            let mut state = [m[i], v[i]];
            p[i] = coefficients.update_one(p[i], g[i], &mut state);
            [m[i], v[i]] = state;
        }
        let mut expected = self.clone();
        for (k, numbers) in [(0, &p), (2, &m), (3, &v)] {
            expected.arrays[k] = encoded(self.storages[k], numbers, self.step);
        }
        if !self.low.elements.is_empty() {
            expected.low = encoded(Storage::Low, &p, self.step);
        }
        expected
    }

    /// Elements from `start` on, which is a multiple of a block, up to `end`.
    fn run(&mut self, (start, end): (usize, usize), level: Level, threads: usize) {
        let update = self.update();
        let narrow = Narrow {
            step: self.step,
            bases: self.arrays[3].bases.as_mut_ptr().wrapping_add(start / BLOCK),
            low_of: (!self.low.elements.is_empty()).then_some(PARAMETER),
        };
        let pointer = |storage: Storage, bytes: &mut Bytes| Pointer {
            address: bytes.elements.as_mut_ptr().wrapping_add(start * storage.size()),
            storage,
        };
        let p = pointer(self.storages[0], &mut self.arrays[0]);
        let mut pointers = [p; ARRAYS];
        for (k, at) in [(1, GRADIENT), (2, STATE), (3, STATE + 1)] {
            pointers[at] = pointer(self.storages[k], &mut self.arrays[k]);
        }
        if narrow.low_of.is_some() {
            pointers[LOW] = pointer(Storage::Low, &mut self.low);
        }
        let strides = pointers.map(|pointer| [pointer.storage.size() as isize]);
        let strides = strides.each_ref().map(|strides| &strides[..]);
        let aligned = |p: &Pointer| p.address.addr().is_multiple_of(p.storage.size());
        assert!(pointers.iter().all(aligned), "allocations are aligned for any number");
        // SAFETY: each array has its own bytes, as many as its storage needs, and is aligned.
        let tensor =
            unsafe { Tensor::narrow(&[end - start], pointers, strides, 2, Order::Memory, narrow) };
        let mut tasks = [Task { tensor, update: 0 }];
        Plan::default().run(&mut tasks, &[update], level, threads).unwrap();
    }

    fn len(&self) -> usize {
        self.arrays[PARAMETER].elements.len() / self.storages[PARAMETER].size()
    }

    /// The arrays that are written, with all NaNs of an `f32` alike.
    fn written(&self) -> Vec<Bytes> {
        let alike = |k: usize| match self.storages[k] {
            Storage::F32 => {
                let numbers = decoded(Storage::F32, &self.arrays[k]);
                let elements = numbers.iter().flat_map(|x| bits(*x).to_ne_bytes()).collect();
                Bytes { elements, bases: Vec::new() }
            }
            _ => self.arrays[k].clone(),
        };
        vec![alike(0), alike(2), alike(3), self.low.clone()]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_level_equals_the_oracle(case in case(1_usize..700)) {
        let expected = case.expected().written();
        for level in Level::available() {
            let mut found = case.clone();
            found.run((0, case.len()), level, 1);
            prop_assert_eq!(found.written(), expected.clone(), "{}", level.name());
        }
    }

    #[test]
    fn any_cut_between_blocks_equals_the_oracle(
        case in case(1_usize..1500), cuts in vec(0_usize..24, 0..5),
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| (cut * BLOCK).min(case.len())).collect();
        ends.extend([0, case.len()]);
        ends.sort_unstable();
        let mut found = case.clone();
        for ends in ends.windows(2) {
            found.run((ends[0], ends[1]), Level::current(), 1);
        }
        prop_assert_eq!(found.written(), case.expected().written());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_number_of_threads_equals_the_oracle(case in case(Just(LARGE))) {
        let expected = case.expected().written();
        for threads in THREADS {
            let mut found = case.clone();
            found.run((0, LARGE), Level::current(), threads);
            prop_assert!(found.written() == expected, "{threads} threads");
        }
    }
}
