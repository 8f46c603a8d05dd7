//! Statistics: norms taken in the pass of an update equal those of a plain loop over the elements,
//! at every CPU level, for any number of threads and any strides. Where norms are refused, nothing
//! is written.

#![allow(clippy::unwrap_used)] // a failed setup fails the test

use ndarray::Array2;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use thalweg::Level;
use thalweg::array::layout::Order;
use thalweg::error::Error;
use thalweg::number::element::Element;
use thalweg::rule::{
    Adam, Average, Coefficients, Decay, Hyperparameters as _, Sgd, Sum, Swap, Update,
};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::statistics::Norms;
use thalweg::update::tensor::Tensor;

const THREADS: [usize; 4] = [1, 2, 3, 7];
/// More than two blocks of a sum, and a rest.
const LARGE: (usize, usize) = (331, 107);

/// The expected norm: blocks of 16,384 elements with sixteen running sums each, added in halves.
fn norm<E: Element>(elements: &[E], add: impl Fn(&mut [f64; 16], &[E])) -> f64 {
    let mut total = 0.0;
    for block in elements.chunks(16_384) {
        let mut sums = [0.0; 16];
        add(&mut sums, block);
        for half in [8, 4, 2, 1] {
            (0..half).for_each(|i| sums[i] += sums[i + half]);
        }
        total += sums[0];
    }
    total.sqrt()
}

/// Adds squares in `f64`.
fn add_wide<E: Element>(sums: &mut [f64; 16], block: &[E]) {
    for (i, x) in block.iter().enumerate() {
        let x = if x.abs() < E::FLOORS.norm { 0.0 } else { x.to_f64() };
        sums[i % 16] += x * x;
    }
}

/// Adds squares in the elements' own type, over runs of sixteen rows.
fn add_own<E: Element>(sums: &mut [f64; 16], block: &[E]) {
    for run in block.chunks(256) {
        let mut own = [E::ZERO; 16];
        for (i, x) in run.iter().enumerate() {
            let x = if x.abs() < E::FLOORS.square { E::ZERO } else { *x };
            own[i % 16] = own[i % 16] + x * x;
        }
        (0..16).for_each(|i| sums[i] += own[i].to_f64());
    }
}

fn bits(x: f64) -> u64 {
    if x.is_nan() { u64::MAX } else { x.to_bits() }
}

fn bits_of(norms: &Norms) -> [u64; 3] {
    [norms.grad, norms.parameter, norms.change].map(bits)
}

/// Bits of the expected norms, from the parameter before and after the update.
fn expected<E: Element>(g: &[E], old: &[E], new: &[E]) -> [u64; 3] {
    let change: Vec<E> = old.iter().zip(new).map(|(old, new)| *new - *old).collect();
    [norm(g, add_wide), norm(old, add_own), norm(&change, add_own)].map(bits)
}

/// Coefficients of rules that train, with each number of state arrays that they can have.
fn training<E: Element>() -> Vec<(Coefficients<E>, usize)> {
    let (adam, sgd) = (Adam::default(), Sgd { momentum: 0.9, ..Sgd::new(0.1) });
    let made: [Coefficients<E>; 4] = [
        adam.at_step(3, 0.5).unwrap().into(),
        adam.at_step(1, 1.0).unwrap().into(),
        Sgd::new(0.1).at_step(1, 1.0).unwrap().into(),
        sgd.at_step(2, 3.7).unwrap().into(),
    ];
    made.into_iter().flat_map(|c| c.states().iter().map(move |states| (c, *states))).collect()
}

fn not_training<E: Element>() -> Vec<(Coefficients<E>, usize)> {
    let average = Average { decay: 0.5, bias_correction: false };
    let made: [Coefficients<E>; 4] = [
        Decay { rate: 0.5 }.at_step(1, 1.0).unwrap().into(),
        Sum.at_step(2, 1.0).unwrap().into(),
        average.at_step(2, 1.0).unwrap().into(),
        Swap.at_step(1, 1.0).unwrap().into(),
    ];
    made.into_iter().map(|c| (c, c.states()[0])).collect()
}

/// An array of this shape, in row or column order, filled with repetitions of `numbers`.
fn array<E: Element>(numbers: &[E], (rows, columns): (usize, usize), across: bool) -> Array2<E> {
    let mut numbers = numbers.iter().copied().cycle();
    let mut memory =
        Array2::from_elem(if across { (columns, rows) } else { (rows, columns) }, E::ZERO);
    if across {
        memory = memory.reversed_axes();
    }
    memory.iter_mut().for_each(|x| *x = numbers.next().unwrap());
    memory
}

fn logical<E: Element>(array: &Array2<E>) -> Vec<E> {
    array.iter().copied().collect()
}

macro_rules! measured {
    ($($module:ident $float:ident)*) => {$(
        mod $module {
            use super::*;

            type Arrays = [Array2<$float>; 5];

            fn task<'a>(arrays: &'a mut Arrays, states: usize, order: Order) -> Task<'a> {
                let [p, g, state @ ..] = arrays;
                let state = state.iter_mut().take(states).map(|s| s.view_mut()).collect();
                let tensor = Tensor::from_views(p.view_mut(), g.view(), state, order).unwrap();
                Task { tensor, update: 0 }
            }

            fn arrays() -> impl Strategy<Value = (Vec<$float>, Vec<bool>, (usize, usize))> {
                let number = prop_oneof![
                    8 => -2.0..2.0 as $float,
                    1 => proptest::num::$float::ANY,
                ];
                (
                    vec(number, 1..300),
                    vec(any::<bool>(), 5),
                    select(vec![(0, 3), (1, 1), (5, 3), (17, 16), LARGE]),
                )
            }

            proptest! {
                #![proptest_config(ProptestConfig {
                    cases: 40, failure_persistence: None, ..Default::default()
                })]

                #[test]
                fn norms_are_those_of_a_plain_loop(
                    (numbers, across, shape) in arrays(), threads in select(THREADS.to_vec()),
                ) {
                    let made: Arrays = std::array::from_fn(|k| {
                        array(&numbers[k % numbers.len()..], shape, across[k])
                    });
                    for (coefficients, states) in training::<$float>() {
                        let updates = [Update::from(coefficients)];
                        let mut plain = made.clone();
                        let mut tasks = [task(&mut plain, states, Order::Logical)];
                        Plan::default().run(&mut tasks, &updates, Level::current(), 1).unwrap();
                        let [old, new, g] = [&made[0], &plain[0], &made[1]].map(logical);
                        for level in Level::available() {
                            let mut measured = made.clone();
                            let mut found = vec![Norms::default(); 3];
                            let mut tasks =
                                [task(&mut measured, states, Order::Logical)];
                            Plan::default()
                                .run_measured(&mut tasks, &updates, level, threads, &mut found, true)
                                .unwrap();
                            prop_assert_eq!(found.len(), 1);
                            prop_assert_eq!(bits_of(&found[0]), expected(&g, &old, &new));
                            for (one, other) in measured.iter().zip(&plain) {
                                let same = one.iter().zip(other).all(|(x, y)| {
                                    bits((*x).into()) == bits((*y).into())
                                });
                                prop_assert!(same, "statistics change the update");
                            }
                        }
                    }
                }
            }

            /// The error of a refused update; checks that nothing has changed.
            fn refused(coefficients: Coefficients<$float>, states: usize, order: Order) -> Error {
                let numbers: Vec<$float> = (1_u8..90).map(<$float>::from).collect();
                let mut made: Arrays = std::array::from_fn(|_| array(&numbers, (5, 3), true));
                let before = made.clone();
                let mut found = vec![Norms::default(); 3];
                let mut tasks = [task(&mut made, states, order)];
                let error = Plan::default()
                    .run_measured(&mut tasks, &[coefficients.into()], Level::current(), 1, &mut found, true)
                    .unwrap_err();
                assert_eq!(made, before);
                assert_eq!(found, vec![Norms::default(); 3]);
                error
            }

            #[test]
            fn tensors_in_the_order_of_memory_have_none() {
                for (coefficients, states) in training::<$float>() {
                    assert_eq!(refused(coefficients, states, Order::Memory), Error::Norms);
                }
            }

            #[test]
            fn rules_that_do_not_train_have_none() {
                for (coefficients, states) in not_training::<$float>() {
                    assert_eq!(refused(coefficients, states, Order::Logical), Error::Norms);
                }
            }
        }
    )*};
}

measured!(float32 f32  float64 f64);

#[test]
fn many_tensors_have_norms_of_their_own() {
    let numbers: Vec<f32> = (1_u8..200).map(f32::from).collect();
    let shapes = [(3, 5), LARGE, (0, 4), (1, 1)];
    let update: Coefficients<f32> = Sgd::new(0.1).at_step(1, 1.0).unwrap().into();
    let mut arrays = shapes
        .map(|shape| (array(&numbers, shape, false), array(&numbers[7..], shape, shape.0 == 3)));
    let old = arrays.clone();
    let mut tasks: Vec<Task<'_>> = arrays
        .iter_mut()
        .map(|(p, g)| {
            let tensor =
                Tensor::from_views(p.view_mut(), g.view(), vec![], Order::Logical).unwrap();
            Task { tensor, update: 0 }
        })
        .collect();
    let mut found = Vec::new();
    Plan::default()
        .run_measured(&mut tasks, &[update.into()], Level::current(), 3, &mut found, true)
        .unwrap();
    for ((norms, (new, g)), (old, _)) in found.iter().zip(&arrays).zip(&old) {
        assert_eq!(bits_of(norms), expected(&logical(g), &logical(old), &logical(new)));
    }
    assert_eq!(found[2], Norms::default());
}
