//! Updates of arrays that the caller owns.

use std::cell::RefCell;

use thalweg::array::layout::Order;
use thalweg::array::region::Region;
use thalweg::machine::fork;
use thalweg::machine::threads::useful_threads;
use thalweg::number::float_mode::in_default_mode;
use thalweg::optimizer::{AnyRule, Policy};
use thalweg::rule::{Intake, Numbers, StateSpec, Update};
use thalweg::step::batch::{Batch, UpdateKey};
use thalweg::step::setting::Setting;
use thalweg::update::plan::{Plan, Task};

use crate::checked::Checked;
use crate::options::Options;
use crate::overlap::check_overlaps;
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
    /// The bytes of all arrays, with the positions of their tensors and of the arrays.
    regions: Vec<(Region, usize, usize)>,
    batch: Batch,
    /// Whether the batch may have references to arrays.
    bound: bool,
    plan: Plan,
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
    let called = WORKSPACE.try_with(|workspace| {
        let Ok(mut workspace) = workspace.try_borrow_mut() else {
            let text = "a call on this thread is not finished; a signal handler must not call";
            return Err(Refusal::invalid(text));
        };
        if !workspace.tensors.is_empty() {
            workspace.release(); // a panic has left what it borrowed
        }
        // SAFETY: the caller's promise; what is borrowed is released at the end.
        let done = unsafe { workspace.run(tensors, groups, setting, writes) };
        workspace.release();
        let (found, code) = done?;
        // SAFETY: the caller's promise.
        unsafe { Step::write(step, found) };
        Ok(code)
    });
    called.unwrap_or_else(|_| Err(Refusal::invalid("the thread has ended")))
}

impl Workspace {
    /// Drops all references to arrays of the caller.
    fn release(&mut self) {
        if self.bound {
            self.batch.clear();
            self.bound = false;
        }
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
        unsafe { self.take_groups(groups, n_groups)? };
        // SAFETY: the caller's promise.
        for (position, tensor) in unsafe { read_all(tensors, n)? }.enumerate() {
            let tensor = tensor?;
            let refused = |refusal: Refusal| refusal.of(&tensor.what(position));
            self.take(tensor).map_err(refused)?;
        }
        check_overlaps(&self.tensors, &mut self.regions)?;
        if writes && self.is_alone(&setting) {
            // SAFETY: the caller's promise.
            return Ok((unsafe { self.update_alone(&setting)? }, DONE));
        }
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

    /// The key of a tensor's coefficients.
    fn key(&self, position: usize, tensor: &Checked<'_>) -> UpdateKey {
        UpdateKey {
            class: tensor.tensor().group as usize,
            step: tensor.tensor().step,
            kind: tensor.storage().element(),
            tensor: self.measures.then_some(position),
            history: tensor.kept().map_or_else(Default::default, |kept| kept.bits()),
        }
    }

    /// # Safety
    ///
    /// As [`thalweg_update`]; the batch is cleared before the arrays are used otherwise.
    unsafe fn bind(&mut self, setting: &Setting) -> Result<(), Refusal> {
        self.bound = true;
        // Measures are summed in logical order.
        let order = if self.measures { Order::Logical } else { Order::Memory };
        for (position, tensor) in self.tensors.iter().enumerate() {
            let key = self.key(position, tensor);
            let update = self.batch.coefficients(key, &self.numbers, setting.intake());
            let update =
                update.map_err(|error| Refusal::from(error).of(&tensor.tensor().what(position)))?;
            // SAFETY: the caller's promise.
            let bound = unsafe { tensor.bind(order) };
            // SAFETY: the caller's promise.
            let read = setting.reads().then(|| unsafe { tensor.input() });
            self.batch.push(position, (bound, tensor.kept()), update, read);
        }
        Ok(())
    }

    /// Whether an update is that of one tensor, of which nothing is read before.
    fn is_alone(&self, setting: &Setting) -> bool {
        let [tensor] = &self.tensors[..] else { return false };
        !(setting.reads() || self.measures || tensor.kept().is_some())
    }

    /// Updates the only tensor, without the lists of a batch, which take as long as a small update.
    ///
    /// # Safety
    ///
    /// As [`thalweg_update`].
    #[inline]
    unsafe fn update_alone(&mut self, setting: &Setting) -> Result<Found, Refusal> {
        let [tensor] = &self.tensors[..] else { return Err(Refusal::invalid("")) };
        let (key, intake) = (self.key(0, tensor), setting.intake());
        let update = match &self.made {
            Some((of, with, update)) if *of == key && *with == intake => update,
            _ => {
                let numbers = &self.numbers[key.class];
                let update = numbers.at_step(key.kind, key.step, intake);
                let update =
                    update.map_err(|error| Refusal::from(error).of(&tensor.tensor().what(0)))?;
                &self.made.insert((key, intake, update)).2
            }
        };
        // SAFETY: the caller's promise.
        let bound = unsafe { tensor.bind(Order::Memory) };
        let threads = useful_threads(bound.len(), setting.threads);
        let tasks = &mut [Task { tensor: bound, update: 0 }];
        let updates = std::slice::from_ref(update);
        let mut work = || self.plan.run(tasks, updates, setting.level, threads);
        if threads > 1 { fork::whole(work) } else { work() }?;
        let overflowed = u64::from(tasks[0].tensor.overflowed());
        Ok(Found { grad_norm: None, clip: 1.0, refused: 0, overflowed })
    }
}
