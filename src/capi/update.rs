//! Updates of arrays that the caller owns.

use std::cell::RefCell;

use thalweg::array::layout::Order;
use thalweg::array::region::Region;
use thalweg::machine::fork;
use thalweg::machine::threads::useful_threads;
use thalweg::number::float_mode::in_default_mode;
use thalweg::optimizer::{AnyRule, Policy};
use thalweg::rule::{Numbers, Rule, StateSpec};
use thalweg::step::batch::{Batch, Made, UpdateKey};
use thalweg::step::setting::Setting;

use crate::checked::{Checked, check_overlaps};
use crate::options::Options;
use crate::refusal::{DONE, Refusal, SKIPPED, guarded};
use crate::setting::{Found, Step};
use crate::tensor::Tensor;
use crate::versioned::read_all;

/// What is kept between the calls of a thread, so that they allocate nothing.
#[derive(Default)]
struct Workspace {
    batch: Batch,
    settings: Vec<AnyRule>,
    numbers: Vec<Numbers>,
    tensors: Vec<Checked>,
    /// The bytes of all arrays, with the positions of their tensors and of the arrays.
    regions: Vec<(Region, usize, usize)>,
    /// The options of the last call, and what follows from them: threads that update rows call with
    /// the same ones again and again.
    last: Option<(Options, AnyRule)>,
    /// Coefficients that follow from these options.
    made: Option<(UpdateKey, Made)>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// `thalweg_update`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_update(
    tensors: *const Tensor,
    n: usize,
    groups: *const Options,
    n_groups: usize,
    step: *mut Step,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { call((tensors, n), (groups, n_groups), step, true) })
}

/// `thalweg_norm`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_norm(
    tensors: *const Tensor,
    n: usize,
    groups: *const Options,
    n_groups: usize,
    step: *mut Step,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { call((tensors, n), (groups, n_groups), step, false) })
}

/// # Safety
///
/// As [`thalweg_update`].
unsafe fn call(
    tensors: (*const Tensor, usize),
    groups: (*const Options, usize),
    step: *mut Step,
    writes: bool,
) -> Result<i32, Refusal> {
    // SAFETY: the caller's promise.
    let setting = unsafe { Step::given(step)? }.setting()?;
    WORKSPACE.with(|workspace| {
        let Ok(mut workspace) = workspace.try_borrow_mut() else {
            let text = "a call on this thread is not finished; a signal handler must not call";
            return Err(Refusal::invalid(text));
        };
        workspace.release(); // a panic may have left what it borrowed
        // SAFETY: the caller's promise; what is borrowed is released at the end.
        let done = unsafe { workspace.run(tensors, groups, setting, writes) };
        workspace.release();
        let (found, code) = done?;
        // SAFETY: the caller's promise.
        unsafe { Step::write(step, found) };
        Ok(code)
    })
}

impl Workspace {
    /// Drops all references to arrays of the caller.
    fn release(&mut self) {
        self.batch.clear();
        self.tensors.clear();
        self.regions.clear();
    }

    /// # Safety
    ///
    /// As [`thalweg_update`]; what is borrowed is released at the end.
    unsafe fn run(
        &mut self,
        (tensors, n): (*const Tensor, usize),
        (groups, n_groups): (*const Options, usize),
        mut setting: Setting,
        writes: bool,
    ) -> Result<(Found, i32), Refusal> {
        // SAFETY: the caller's promise.
        let rule = unsafe { self.take_groups(groups, n_groups)? };
        // SAFETY: the caller's promise.
        for (position, tensor) in unsafe { read_all(tensors, n)? }.enumerate() {
            let tensor = tensor?;
            let refused = |refusal: Refusal| refusal.of(&tensor.what(position));
            self.take(tensor, rule).map_err(refused)?;
        }
        check_overlaps(&self.tensors, &mut self.regions)?;
        in_default_mode(|| {
            // SAFETY: the caller's promise.
            unsafe { self.bind(&setting)? };
            let elements = self.batch.elements();
            setting.threads = useful_threads(elements, setting.threads);
            let batch = &mut self.batch;
            let mut work = || -> Result<_, Refusal> {
                let done = batch.read(&self.numbers, &setting)?;
                if writes && done.refused.is_empty() {
                    batch.update(&self.numbers, &setting)?;
                    batch.note_histories();
                }
                Ok(done)
            };
            // A fork waits for work on other threads.
            let done = if setting.threads > 1 { fork::whole(work) } else { work() }?;
            let found = Found {
                grad_norm: done.grad_norm,
                clip: done.clip,
                refused: done.refused.iter().map(|(_, count)| count).sum(),
                overflowed: if writes { batch.overflowed().count() as u64 } else { 0 },
            };
            if done.refused.is_empty() {
                return Ok((found, DONE));
            }
            if setting.policy == Policy::Skip {
                return Ok((found, SKIPPED));
            }
            let tensors = &self.tensors;
            let named = |(at, count): &(usize, u64)| {
                format!("{count} of {}", tensors[*at].tensor().what(*at))
            };
            let counts: Vec<String> = done.refused.iter().map(named).collect();
            Err(Refusal::nonfinite(format!(
                "elements of gradients are not finite, or their squares are not: {}; check the loss, \
                 lower the learning rate, or set nonfinite to THALWEG_SKIP",
                counts.join(", ")
            )))
        })
    }

    /// Reads the options of all groups; returns their rule.
    ///
    /// # Safety
    ///
    /// As [`thalweg_update`].
    unsafe fn take_groups(
        &mut self,
        groups: *const Options,
        n_groups: usize,
    ) -> Result<&'static Rule, Refusal> {
        self.numbers.clear();
        self.settings.clear();
        let mut first: Option<AnyRule> = None;
        // SAFETY: the caller's promise.
        for (position, options) in unsafe { read_all(groups, n_groups)? }.enumerate() {
            let of_group = |refusal: Refusal| refusal.of(&format!("options {position}"));
            let settings = self.settings_of(options?).map_err(of_group)?;
            if let Some(first) = first
                && first.rule().name != settings.rule().name
            {
                let (one, other) = (first.rule().name, settings.rule().name);
                return Err(of_group(Refusal::invalid(format!(
                    "the options of a call must have one rule, got {one} and {other}"
                ))));
            }
            first = first.or(Some(settings));
            self.numbers.push(settings.numbers());
            self.settings.push(settings);
        }
        let first = first.ok_or_else(|| Refusal::invalid("n_groups must be at least 1, got 0"))?;
        Ok(first.rule())
    }

    fn settings_of(&mut self, options: &Options) -> Result<AnyRule, Refusal> {
        if let Some((last, settings)) = &self.last
            && last == options
        {
            return Ok(*settings);
        }
        let settings = options.settings()?;
        self.made = None;
        self.last = Some((*options, settings));
        Ok(settings)
    }

    /// Takes a tensor, checked by itself.
    fn take(&mut self, tensor: &Tensor, rule: &Rule) -> Result<(), Refusal> {
        let group = tensor.group as usize;
        let Some(settings) = self.settings.get(group) else {
            let most = self.settings.len() - 1;
            return Err(Refusal::invalid(format!("group must be at most {most}, got {group}")));
        };
        self.tensors.push(Checked::new(tensor)?);
        let needs = |spec: &StateSpec| settings.needs(spec);
        self.tensors.last_mut().map_or(Ok(()), |tensor| tensor.add_all(rule, needs))
    }

    /// # Safety
    ///
    /// As [`thalweg_update`]; the batch is cleared before the arrays are used otherwise.
    unsafe fn bind(&mut self, setting: &Setting) -> Result<(), Refusal> {
        let measures = self.numbers.iter().any(|numbers| numbers.measures().next().is_some());
        // Measures are summed in logical order.
        let order = if measures { Order::Logical } else { Order::Memory };
        for (position, tensor) in self.tensors.iter().enumerate() {
            let kept = tensor.kept();
            let key = UpdateKey {
                class: tensor.tensor().group as usize,
                step: tensor.tensor().step,
                kind: tensor.storage().element(),
                tensor: measures.then_some(position),
                history: kept.map_or_else(Default::default, |kept| kept.bits()),
            };
            let intake = setting.intake();
            let update = match self.made {
                Some((of, made)) if position == 0 && of == key && made.intake == intake => {
                    Ok(self.batch.insert(key, made))
                }
                _ => self.batch.coefficients(key, &self.numbers, intake),
            };
            let update =
                update.map_err(|error| Refusal::from(error).of(&tensor.tensor().what(position)))?;
            if position == 0 && self.numbers.len() == 1 {
                self.made = Some((key, self.batch.coefficients_at(update)));
            }
            // SAFETY: the caller's promise.
            let (bound, read) = unsafe { tensor.bind(order) };
            self.batch.push(position, (bound, kept), update, setting.reads().then_some(read));
        }
        Ok(())
    }
}
