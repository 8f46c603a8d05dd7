//! Properties of updates: CPU levels, threads, strides and cuts into slices give the bits of the
//! oracle, which applies a rule element by element.

#![allow(clippy::unwrap_used)] // a failed setup fails the test

use std::fmt::Debug;

use ndarray::{Array2, ArrayViewMut2, s};
use proptest::array::uniform5;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use thalweg::Level;
use thalweg::array::layout::Order;
use thalweg::number::element::{Element, Kind};
use thalweg::rule::{Coefficients, Decay, Hyperparameter, Numbers, Swap, Update, rules};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;

/// Elements of the large cases: several portions of a plan, and a rest.
const LARGE: usize = 40_000;
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// An element type with a strategy for all of its values, NaN included.
trait Number: Element + Debug {
    fn any() -> BoxedStrategy<Self>;
    fn coefficients(update: Update) -> Coefficients<Self>;
}

macro_rules! number {
    ($($float:ident $kind:ident)*) => {
        $(impl Number for $float {
            fn any() -> BoxedStrategy<Self> {
                prop_oneof![-2.0..2.0 as $float, proptest::num::$float::ANY].boxed()
            }

            fn coefficients(update: Update) -> Coefficients<Self> {
                match update {
                    Update::$kind(coefficients) => coefficients,
                    other => panic!("{other:?}"),
                }
            }
        })*
    };
}

number!(f32 F32 f64 F64);

/// Values of a hyperparameter, all in range.
fn values(key: Hyperparameter) -> &'static [f64] {
    match key {
        Hyperparameter::Momentum => &[0.0, 0.3, 0.5, 0.9, 0.999, 1.0],
        Hyperparameter::Beta1 | Hyperparameter::Beta2 | Hyperparameter::Decay => {
            &[0.0, 0.3, 0.5, 0.9, 0.999]
        }
        Hyperparameter::Dampening => &[0.0, 0.1, 1.0],
        Hyperparameter::Eps => &[1e-8, 0.1],
        _ => &[0.0, 1e-60, 1e-3, 0.3],
    }
}

/// Any rule of the table, with any compatible values and choices.
fn numbers() -> impl Strategy<Value = Numbers> {
    let picks = (vec(any::<Index>(), Hyperparameter::ALL.len()), vec(any::<bool>(), 5));
    let named = (any::<Index>(), picks).prop_map(|(rule, (picks, chosen))| {
        let rule = *rule.get(&rules().collect::<Vec<_>>());
        let mut numbers = rule.numbers;
        for (key, pick) in rule.hyperparameters.iter().zip(picks) {
            let mut with = numbers;
            *with.number(*key).unwrap() = *pick.get(values(*key));
            numbers = if with.check().is_ok() { with } else { numbers };
        }
        if let Some(history) = numbers.history() {
            *history = [0.02, 0.5, 0.7];
        }
        for (choice, chosen) in rule.choices.iter().zip(chosen) {
            let mut with = numbers;
            if let Some(place) = with.choice(*choice) {
                *place = chosen;
                numbers = if with.check().is_ok() { with } else { numbers };
            }
        }
        numbers
    });
    let rate = select(values(Hyperparameter::WeightDecay));
    prop_oneof![
        6 => named,
        1 => rate.prop_map(|rate| Decay { rate }.into()),
        1 => Just(Swap.into()),
    ]
}

fn update(kind: Kind) -> impl Strategy<Value = Update> {
    let step = select(vec![1, 2, 10, 1_000_000_000]);
    let scale = select(vec![1.0, 0.5, 3.7, 1e-30]);
    (numbers(), step, scale)
        .prop_map(move |(numbers, t, scale)| numbers.at_step(kind, t, scale).unwrap())
}

/// Parameter, gradient, and the state arrays of the rule.
type Arrays<E> = Vec<Vec<E>>;

/// An update and its arrays.
#[derive(Clone, Debug)]
struct Case<E> {
    update: Update,
    arrays: Arrays<E>,
}

fn case<E: Number>() -> impl Strategy<Value = Case<E>> {
    let parts = (update(E::KIND), any::<Index>(), vec(uniform5(E::any()), 1..100));
    parts.prop_map(|(update, states, rows)| {
        let column = |k: usize| rows.iter().map(|row| row[k]).collect();
        let arrays = (0..2 + states.get(E::coefficients(update).states())).map(column).collect();
        Case { update, arrays }
    })
}

impl<E: Number> Case<E> {
    /// The case with its elements repeated up to `len`.
    fn repeated(&self, len: usize) -> Self {
        let repeat = |array: &Vec<E>| array.iter().copied().cycle().take(len).collect();
        Case { arrays: self.arrays.iter().map(repeat).collect(), ..self.clone() }
    }

    /// The expected arrays, computed element by element.
    fn expected(&self) -> Arrays<E> {
        let (mut arrays, coefficients) = (self.arrays.clone(), E::coefficients(self.update));
        for i in 0..arrays[0].len() {
            let mut state: Vec<E> = arrays[2..].iter().map(|array| array[i]).collect();
            arrays[0][i] = coefficients.update_one(arrays[0][i], arrays[1][i], &mut state);
            arrays[2..].iter_mut().zip(state).for_each(|(array, s)| array[i] = s);
        }
        arrays
    }

    fn run(&self, tensor: Tensor<'_>, level: Level, threads: usize) {
        let updates = [self.update];
        let mut tasks = [Task { tensor, update: 0 }];
        Plan::default().run(&mut tasks, &updates, level, threads).unwrap();
    }
}

fn tensor<'a, E: Number>(arrays: Vec<&'a mut [E]>) -> Tensor<'a> {
    let mut arrays = arrays.into_iter();
    let (p, g) = (arrays.next().unwrap(), arrays.next().unwrap());
    let states = arrays.len();
    let mut next = || arrays.next().unwrap();
    match states {
        0 => Tensor::from_slices(p, g, []),
        1 => Tensor::from_slices(p, g, [next()]),
        2 => Tensor::from_slices(p, g, [next(), next()]),
        _ => Tensor::from_slices(p, g, [next(), next(), next()]),
    }
    .unwrap()
}

/// The bits of the elements, with all NaNs alike. Zeros of different sign differ.
fn bits<E: Number>(arrays: &Arrays<E>) -> Vec<Vec<u64>> {
    let bits = |x: &E| if x.to_f64().is_nan() { u64::MAX } else { x.to_f64().to_bits() };
    arrays.iter().map(|array| array.iter().map(bits).collect()).collect()
}

fn every_level<E: Number>(case: &Case<E>) -> Result<(), TestCaseError> {
    let expected = bits(&case.expected());
    for level in Level::available() {
        let mut arrays = case.arrays.clone();
        case.run(tensor(arrays.iter_mut().map(|a| &mut a[..]).collect()), level, 1);
        prop_assert_eq!(bits(&arrays), expected.clone(), "{}", level.name());
    }
    Ok(())
}

fn any_number_of_threads<E: Number>(case: &Case<E>) -> Result<(), TestCaseError> {
    let case = case.repeated(LARGE);
    let expected = bits(&case.expected());
    for threads in THREADS {
        let mut arrays = case.arrays.clone();
        let tensor = tensor(arrays.iter_mut().map(|a| &mut a[..]).collect());
        case.run(tensor, Level::current(), threads);
        prop_assert!(bits(&arrays) == expected, "{threads} threads");
    }
    Ok(())
}

fn any_cut<E: Number>(case: &Case<E>, mut cuts: Vec<usize>) -> Result<(), TestCaseError> {
    let len = case.arrays[0].len();
    cuts.iter_mut().for_each(|cut| *cut = (*cut).min(len));
    cuts.extend([0, len]);
    cuts.sort_unstable();
    let mut arrays = case.arrays.clone();
    for ends in cuts.windows(2) {
        let slices = arrays.iter_mut().map(|array| &mut array[ends[0]..ends[1]]).collect();
        case.run(tensor(slices), Level::current(), 1);
    }
    prop_assert_eq!(bits(&arrays), bits(&case.expected()));
    Ok(())
}

/// The arrangement of an array in memory.
#[derive(Clone, Copy, Debug)]
enum Place {
    Contiguous,
    Transposed,
    Sliced,
    Reversed,
}

impl Place {
    const ALL: [Place; 4] = [Place::Contiguous, Place::Transposed, Place::Sliced, Place::Reversed];

    /// Memory for an array of this shape.
    fn memory<E: Element>(self, (rows, columns): (usize, usize)) -> Array2<E> {
        Array2::from_elem(
            match self {
                Place::Contiguous | Place::Reversed => (rows, columns),
                Place::Transposed => (columns, rows),
                Place::Sliced => (2 * rows + 1, 3 * columns + 1),
            },
            E::ZERO,
        )
    }

    /// The array as a view of its memory.
    fn view<E>(self, memory: &mut Array2<E>) -> ArrayViewMut2<'_, E> {
        match self {
            Place::Contiguous => memory.view_mut(),
            Place::Transposed => memory.view_mut().reversed_axes(),
            Place::Sliced => memory.slice_mut(s![1..;2, 1..;3]),
            Place::Reversed => memory.slice_mut(s![..;-1, ..;-1]),
        }
    }
}

fn any_strides<E: Number, G: Element>(
    case: &Case<E>,
    places: [Place; 5],
    threads: usize,
    order: Order,
) -> Result<(), TestCaseError> {
    let shape = (160, 107); // several portions and tiles
    let mut case = case.repeated(shape.0 * shape.1);
    // The gradient may have another type; the rule uses its values in the parameter's type.
    let gradient: Vec<G> = case.arrays[1].iter().map(|x| G::from_f64(x.to_f64())).collect();
    case.arrays[1] = gradient.iter().map(|x| E::from_f64(x.to_f64())).collect();

    let mut memories: Vec<Array2<E>> = Vec::new();
    for (place, array) in places.iter().zip(&case.arrays) {
        let mut memory = place.memory(shape);
        place.view(&mut memory).iter_mut().zip(array).for_each(|(to, from)| *to = *from);
        memories.push(memory);
    }
    let mut memory = places[1].memory(shape);
    places[1].view(&mut memory).iter_mut().zip(&gradient).for_each(|(to, from)| *to = *from);
    let g = places[1].view(&mut memory);

    for level in Level::available() {
        let mut memories = memories.clone();
        let mut views = memories.iter_mut().zip(places).map(|(memory, place)| place.view(memory));
        let p = views.next().unwrap();
        let state = views.skip(1).collect();
        case.run(Tensor::from_views(p, g.view(), state, order).unwrap(), level, threads);

        let read = |(memory, place): (&mut Array2<E>, Place)| {
            place.view(memory).iter().copied().collect::<Vec<E>>()
        };
        let arrays = memories.iter_mut().zip(places).map(read).collect();
        prop_assert!(bits(&arrays) == bits(&case.expected()), "{}", level.name());
    }
    Ok(())
}

macro_rules! properties {
    ($($module:ident $float:ident $other:ident)*) => {$(
        mod $module {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

                #[test]
                fn every_level_equals_element_by_element(case in case::<$float>()) {
                    every_level(&case)?;
                }

                #[test]
                fn any_cut_equals_element_by_element(
                    case in case::<$float>(), cuts in vec(0_usize..100, 0..5),
                ) {
                    any_cut(&case, cuts)?;
                }
            }

            proptest! {
                #![proptest_config(ProptestConfig {
                    cases: 30, failure_persistence: None, ..Default::default()
                })]

                #[test]
                fn any_number_of_threads_equals_element_by_element(case in case::<$float>()) {
                    any_number_of_threads(&case)?;
                }

                #[test]
                fn any_strides_equal_element_by_element(
                    case in case::<$float>(), places in uniform5(select(Place::ALL.to_vec())),
                    threads in select(THREADS.to_vec()), same_type: bool,
                    order in select(vec![Order::Memory, Order::Logical]),
                ) {
                    if same_type {
                        any_strides::<$float, $float>(&case, places, threads, order)?;
                    } else {
                        any_strides::<$float, $other>(&case, places, threads, order)?;
                    }
                }
            }
        }
    )*};
}

properties!(float32 f32 f64  float64 f64 f32);
