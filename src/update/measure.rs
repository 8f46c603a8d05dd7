//! The pass before an update that takes a measure of tensors.

#![allow(unsafe_code)] // takes slices of a tensor's arrays

use std::marker::PhantomData;

use crate::array::layout::Order;
use crate::array::pointer::{BUFFER, GRADIENT, STATE};
use crate::error::Error;
use crate::machine::levels::{Level, Work};
use crate::machine::pool;
use crate::number::element::Element;
use crate::number::float_mode::in_default_mode;
use crate::number::sums::{self, BLOCK, Found, LANES, Lanes};
use crate::read::peers::{self, Peers};
use crate::rule::{Choice, Coefficients, Formula, Hyperparameter, Job, Measure, Numbers, Update};
use crate::update::lines::Buffers;
use crate::update::passes::Row;
use crate::update::plan::{Plan, Task, check};
use crate::update::statistics::SPAN;
use crate::update::tensor::{Course, Tensor};

/// The smallest mean of agreement by which a cautious rule divides.
const LEAST_AGREEMENT: f64 = 1e-3;

impl Numbers {
    /// The measures that an update needs of each tensor.
    pub fn measures(mut self) -> impl Iterator<Item = Measure> {
        Measure::ALL.into_iter().filter(move |measure| match measure {
            Measure::Agreement => self.choice(Choice::Cautious).is_some_and(|cautious| *cautious),
            Measure::Ratio => self.limit() > 0.0,
        })
    }

    /// The limit on the root mean square of the update; 0 if there is none.
    fn limit(&mut self) -> f64 {
        self.number(Hyperparameter::UpdateRms).map_or(0.0, |limit| *limit)
    }

    /// Takes a measure of a tensor of `len` elements: the sum of the squares.
    pub fn take(&mut self, measure: Measure, sum: f64, len: usize) {
        let (limit, mean) = (self.limit(), sum / len as f64);
        let Some(factors) = self.factors().filter(|_| len > 0) else { return };
        match measure {
            Measure::Agreement => factors.agreeing = 1.0 / mean.max(LEAST_AGREEMENT),
            Measure::Ratio => {
                let excess = mean.sqrt() / limit;
                // A NaN is kept.
                factors.rate = if excess <= 1.0 { 1.0 } else { 1.0 / excess };
            }
        }
    }
}

impl Plan {
    /// Takes a measure of the tensors that are wanted: the sum of the squares of its quantity, in the
    /// order of the tasks, 0 for the others. If `peers` have the rest of the tensors, the sums are
    /// those of whole tensors. Nothing is written. The bits of a sum do not depend on the CPU level,
    /// the number of threads or the strides.
    ///
    /// # Errors
    ///
    /// [`Error::State`] or [`Error::Kind`] if a tensor does not fit its update, [`Error::Norms`] if a
    /// wanted tensor is not in logical order, [`Error::Peers`].
    pub fn measure(
        &mut self,
        measure: Measure,
        tasks: &[Task<'_>],
        updates: &[Update],
        (level, threads): (Level, usize),
        wanted: impl Fn(usize) -> bool,
        peers: Option<&dyn Peers>,
    ) -> Result<Vec<f64>, Error> {
        check(tasks, updates)?;
        let len = |(index, task): (usize, &Task<'_>)| match wanted(index) {
            true => task.tensor.len(),
            false => 0,
        };
        let lens = || tasks.iter().enumerate().map(len);
        if !tasks
            .iter()
            .zip(lens())
            .all(|(task, len)| len == 0 || task.tensor.order() == Order::Logical)
        {
            return Err(Error::Norms);
        }
        self.portions.set(lens(), threads, BLOCK);
        self.measured.set(lens());
        let (portions, measured) = (&self.portions, &self.measured);
        pool::for_each(portions.count(), threads, |portion| {
            for piece in portions.pieces(portion) {
                let Task { tensor, update } = &tasks[piece.index];
                let found = &measured.of(piece.index)[piece.start / BLOCK..];
                let range = (piece.start, piece.len);
                // SAFETY: `check` passed, and the tensor is in logical order. Its arrays are only
                // read, in each element by one thread; `tasks` borrows them.
                unsafe {
                    match &updates[*update] {
                        Update::F32(update) => blocks(measure, tensor, update, level, range, found),
                        Update::F64(update) => blocks(measure, tensor, update, level, range, found),
                    }
                }
            }
        });
        let whole = peers.map(|peers| peers::whole(peers, measured)).transpose()?;
        let measured = whole.as_ref().unwrap_or(measured);
        let sum = |index| measured.of(index).iter().fold(0.0, |sum, found| sum + found.get()[0]);
        Ok(in_default_mode(|| (0..tasks.len()).map(sum).collect()))
    }
}

/// Stores the sum of each block of a range, which starts at a multiple of a block and ends at one or
/// at the end of the tensor.
///
/// # Safety
///
/// The coefficients fit the tensor, whose arrays are not written meanwhile; it is in logical order,
/// and the range is inside it.
unsafe fn blocks<E: Element>(
    measure: Measure,
    tensor: &Tensor<'_>,
    coefficients: &Coefficients<E>,
    level: Level,
    (start, len): (usize, usize),
    found: &[Found<1>],
) {
    let end = start + len;
    for (start, found) in (start..end).step_by(BLOCK).zip(found) {
        let mut lanes = [0.0; LANES];
        let mut add = |row: &Row, range| {
            let job = Taking { measure, row, level, range, lanes: &mut lanes };
            coefficients.measuring_formula(tensor.states(), job);
        };
        let len = BLOCK.min(end - start);
        match tensor.course() {
            None => add(tensor.pointers(), (start, len)),
            // SAFETY: the caller's promise.
            Some(Course::Lines(_)) => unsafe { in_buffers::<E>(tensor, level, (start, len), add) },
            // A tensor in logical order has no tiles.
            Some(Course::Tiles(_)) => {}
        }
        found.set([sums::halved(lanes)]);
    }
}

/// Runs `add` on a range of a tensor whose arrays are not all slices.
///
/// # Safety
///
/// As [`blocks`].
#[inline(never)]
unsafe fn in_buffers<E: Element>(
    tensor: &Tensor<'_>,
    level: Level,
    (start, len): (usize, usize),
    mut add: impl FnMut(&Row, (usize, usize)),
) {
    let Some(Course::Lines(lines)) = tensor.course() else { return };
    let mut buffers = Buffers::new();
    let arrays = (tensor.pointers(), tensor.states());
    let end = start + len;
    for start in (start..end).step_by(BUFFER) {
        let len = BUFFER.min(end - start);
        // SAFETY: the caller's promise.
        unsafe {
            lines.read::<E>(arrays, level, (start, len), &mut buffers, |slices| {
                add(&slices, (0, len));
            });
        }
    }
}

/// A measure of a range of slices, added to the running sums of its block.
struct Taking<'b> {
    measure: Measure,
    row: &'b Row,
    level: Level,
    range: (usize, usize),
    lanes: &'b mut Lanes,
}

impl<E: Element> Job<E> for Taking<'_> {
    fn run<F: Formula<E, N>, const N: usize>(self, formula: &F) {
        let Taking { level, .. } = self;
        level.run(Spans::<E, F, N> { formula, taking: self, element: PhantomData });
    }
}

struct Spans<'f, 'b, E, F, const N: usize> {
    formula: &'f F,
    taking: Taking<'b>,
    element: PhantomData<E>,
}

impl<E: Element, F: Formula<E, N>, const N: usize> Work for Spans<'_, '_, E, F, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (formula, Taking { measure, row, range: (start, len), lanes, .. }) =
            (*self.formula, self.taking);
        let end = start + len;
        for start in (start..end).step_by(SPAN) {
            let len = SPAN.min(end - start);
            let mut quantity = [E::ZERO; SPAN];
            let quantity = &mut quantity[..len];
            // SAFETY: the promise of `blocks`; all arrays are slices of this type.
            let (g, state): (&[E], [&[E]; N]) = unsafe {
                (
                    row[GRADIENT].slice(start, len),
                    std::array::from_fn(|k| row[STATE + k].slice(start, len)),
                )
            };
            for i in 0..len {
                quantity[i] = formula.measure(measure, g[i], state.map(|s| s[i]));
            }
            sums::add_squares(lanes, quantity);
        }
    }
}
