//! Updates of arrays that the caller owns.

use std::cell::RefCell;

use thalweg::array::layout::Order;
use thalweg::machine::fork;
use thalweg::machine::threads::useful_threads;
use thalweg::number::float_mode::in_default_mode;
use thalweg::optimizer::Error::NonFinite;
use thalweg::optimizer::{AnyRule, Policy};
use thalweg::rule::{Intake, Numbers, StateSpec, Update};
use thalweg::step::batch::Batch;
use thalweg::step::key::UpdateKey;
use thalweg::step::setting::Setting;
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor as Bound;

use crate::checked::Checked;
use crate::options::Options;
use crate::overlap::{Span, check_overlaps};
use crate::refusal::{DONE, Refusal, SKIPPED, guarded};
use crate::setting::{Found, Step};
use crate::tensor::Tensor;
use crate::versioned::read_all;

/// What is kept between the calls of a thread, so that they allocate nothing.
#[derive(Default)]
struct Workspace {
    /// The options of the last call, and what follows from them: threads that update rows call with
    /// the same ones again and again.
    groups: Vec<Group>,
    numbers: Vec<Numbers>,
    /// Whether a step depends on a measure of a whole parameter.
    measures: bool,
    /// Coefficients that follow from these options.
    made: Option<(UpdateKey, Intake, Update)>,
    tensors: Vec<Checked<'static>>,
    spans: Vec<Span>,
    batch: Batch,
    /// Whether the batch may have references to arrays.
    bound: bool,
    plan: Plan,
    found: Found,
}

/// The options of a group, and the settings of the core.
struct Group {
    options: Options,
    settings: AnyRule,
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
    let mut done = None;
    let _ = WORKSPACE.try_with(|workspace| {
        // SAFETY: the caller's promise.
        done = workspace.try_borrow_mut().ok().map(|mut workspace| unsafe {
            if !workspace.tensors.is_empty() {
                workspace.release(); // a panic has left what it borrowed
            }
            let done = workspace.run(tensors, groups, setting, writes);
            workspace.release();
            if done.is_ok() {
                Step::write(step, &workspace.found);
            }
            done
        });
    });
    done.unwrap_or_else(|| {
        let text = "a call on this thread is not finished, or the thread has ended: a signal handler \
                    must not call";
        Err(Refusal::invalid(text))
    })
}

impl Workspace {
    /// Drops all references to arrays of the caller.
    fn release(&mut self) {
        if self.bound {
            self.batch.clear();
            self.bound = false;
        }
        self.tensors.clear();
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
    ) -> Result<i32, Refusal> {
        // SAFETY: the caller's promise.
        unsafe { self.take_groups(groups, n_groups)? };
        // SAFETY: the caller's promise.
        for (position, tensor) in unsafe { read_all(tensors, n)? }.enumerate() {
            let tensor = tensor?;
            let refused = |refusal: Refusal| refusal.of(&tensor.what(position));
            self.take(tensor).map_err(refused)?;
        }
        check_overlaps(&self.tensors, &mut self.spans)?;
        // SAFETY: the caller's promise.
        if writes && unsafe { self.update_alone(&setting)? } {
            return Ok(DONE);
        }
        in_default_mode(|| {
            // SAFETY: the caller's promise.
            unsafe { self.bind(&setting)? };
            let elements = self.batch.elements();
            setting.threads = useful_threads(elements, setting.threads);
            let batch = &mut self.batch;
            let mut work = || -> Result<_, Refusal> {
                let done = batch.read(&self.numbers, &setting, None)?;
                if writes && done.refused.is_empty() {
                    batch.measure(&self.numbers, &setting, None)?;
                    batch.update(&setting)?;
                    batch.note_histories();
                }
                Ok(done)
            };
            // A fork waits for work on other threads.
            let done = if setting.threads > 1 { fork::whole(work) } else { work() }?;
            self.found = Found {
                grad_norm: done.grad_norm,
                clip: done.clip,
                refused: done.refused.iter().map(|(_, count)| count).sum(),
                overflowed: if writes { batch.overflowed().count() as u64 } else { 0 },
            };
            if done.refused.is_empty() {
                return Ok(DONE);
            }
            if setting.policy == Policy::Skip {
                return Ok(SKIPPED);
            }
            let named = |(at, count): (usize, u64)| (self.tensors[at].given.called(at), count);
            let step = self.tensors[done.refused[0].0].given.step;
            let counts = done.refused.into_iter().map(named).collect();
            Err(NonFinite { counts, step }.into())
        })
    }

    /// Reads the options of all groups.
    ///
    /// # Safety
    ///
    /// As [`thalweg_update`].
    unsafe fn take_groups(&mut self, groups: *const Options, n: usize) -> Result<(), Refusal> {
        // SAFETY: the caller's promise.
        let mut given = unsafe { read_all(groups, n)? };
        let is_same = |group: &Group| {
            given.next().is_some_and(|given| given.is_ok_and(|given| given.is(&group.options)))
        };
        if n == self.groups.len() && n > 0 && self.groups.iter().all(is_same) {
            return Ok(());
        }
        self.groups.clear();
        self.numbers.clear();
        self.made = None;
        // SAFETY: the caller's promise.
        let taken = unsafe { read_all(groups, n)? }.enumerate().try_for_each(|(at, options)| {
            self.take_group(options?).map_err(|refusal| refusal.of(&format!("options {at}")))
        });
        if taken.is_err() {
            self.groups.clear();
        }
        self.measures = self.numbers.iter().any(|numbers| numbers.measures().next().is_some());
        match n {
            0 => Err(Refusal::invalid("n_groups must be at least 1, got 0")),
            _ => taken,
        }
    }

    fn take_group(&mut self, options: &Options) -> Result<(), Refusal> {
        let settings = options.settings()?;
        let rule = settings.rule().name;
        if let Some(first) = self.groups.first().map(|group| group.settings.rule().name)
            && first != rule
        {
            return Err(Refusal::invalid(format!(
                "the options of a call must have one rule, got {first} and {rule}"
            )));
        }
        self.numbers.push(settings.numbers());
        self.groups.push(Group { options: *options, settings });
        Ok(())
    }

    /// Takes a tensor, checked by itself.
    fn take(&mut self, tensor: &'static Tensor) -> Result<(), Refusal> {
        let group = tensor.group as usize;
        let Some(Group { settings, .. }) = self.groups.get(group) else {
            let most = self.groups.len() - 1;
            return Err(Refusal::invalid(format!("group must be at most {most}, got {group}")));
        };
        self.tensors.push(Checked::new(tensor));
        let needs = |spec: &StateSpec| settings.needs(spec);
        self.tensors.last_mut().map_or(Ok(()), |tensor| tensor.add_all(settings.rule(), needs))
    }

    /// # Safety
    ///
    /// As [`thalweg_update`]; the batch is cleared before the arrays are used otherwise.
    unsafe fn bind(&mut self, setting: &Setting) -> Result<(), Refusal> {
        self.bound = true;
        // Measures are summed in logical order.
        let order = if self.measures { Order::Logical } else { Order::Memory };
        for (position, tensor) in self.tensors.iter().enumerate() {
            let key = key(position, tensor, self.measures);
            let update = self.batch.coefficients(key, &self.numbers, setting.intake());
            let update =
                update.map_err(|error| Refusal::from(error).of(&tensor.given.what(position)))?;
            // SAFETY: the caller's promise.
            let bound = unsafe { tensor.bind(order) };
            // SAFETY: the caller's promise.
            let read = setting.reads().then(|| unsafe { tensor.input() });
            self.batch.push(position, (bound, tensor.kept()), update, read);
        }
        Ok(())
    }

    /// Updates the only tensor, if nothing is read of it before: without the lists of a batch, which
    /// take as long as a small update. Returns whether it was so.
    ///
    /// # Safety
    ///
    /// As [`thalweg_update`].
    #[inline]
    unsafe fn update_alone(&mut self, setting: &Setting) -> Result<bool, Refusal> {
        let [tensor] = &self.tensors[..] else { return Ok(false) };
        if setting.reads() || self.measures || tensor.kept().is_some() {
            return Ok(false);
        }
        let (key, intake) = (key(0, tensor, false), setting.intake());
        let update = match &self.made {
            Some((of, with, update)) if *of == key && *with == intake => update,
            _ => {
                let update = self.numbers[key.class].at_step(key.kind, key.step, intake);
                let update =
                    update.map_err(|error| Refusal::from(error).of(&tensor.given.what(0)))?;
                &self.made.insert((key, intake, update)).2
            }
        };
        let updates = std::slice::from_ref(update);
        let threads = useful_threads(tensor.given.len, setting.threads);
        let mut overflowed = 0;
        let mut run = |tensor: Bound<'static>| {
            let tasks = &mut [Task { tensor, update: 0 }];
            self.plan.run(tasks, updates, setting.level, threads)?;
            overflowed = tasks[0].tensor.overflowed().into();
            Ok::<_, Refusal>(())
        };
        // SAFETY: the caller's promise.
        if threads > 1 || !unsafe { tensor.in_rows(&mut run)? } {
            // SAFETY: the caller's promise.
            let bound = unsafe { tensor.bind(Order::Memory) };
            // A fork waits for work on other threads.
            if threads > 1 { fork::whole(|| run(bound)) } else { run(bound) }?;
        }
        self.found = Found { grad_norm: None, clip: 1.0, refused: 0, overflowed };
        Ok(true)
    }
}

/// The key of a tensor's coefficients.
fn key(position: usize, tensor: &Checked<'_>, measures: bool) -> UpdateKey {
    UpdateKey {
        class: tensor.given.group as usize,
        step: tensor.given.step,
        kind: tensor.storage().element(),
        tensor: measures.then_some(position),
        history: tensor.kept().map_or_else(Default::default, |kept| kept.bits()),
    }
}
