//! The thread pool: helper threads, started on first use. The calling thread works as well.
//!
//! Work is a region: a count, and a function of a number below it. Every thread in the region takes
//! the next number until none is left: the caller the lowest, a helper the highest. With two threads
//! a second pass over the same arrays thus finds in each core's cache what its first pass read. The
//! caller waits only for helpers that have entered the region, never for one to arrive, because a
//! parked thread takes some 40 us to wake, enough time to finish a small region.
//!
//! An idle helper looks for the next region for about as long as waking it would take, then parks.
//! The second pass of a step, or a step that follows at once, finds it awake.
//!
//! A helper that has lost its core in the middle of its work is moved to the caller's, so that the
//! caller does not wait until other programs' threads have had their turns.
//!
//! A pool belongs to the process that built it. A forked child builds a new one and never touches
//! the parent's, whose threads do not exist in the child and whose locks may be held.

#![allow(unsafe_code)] // pointers to a leaked, never freed pool and to its region

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::cores::{self, Place};
use crate::machine::fork;
use crate::machine::region::Region;
use crate::machine::team::Team;
use crate::number::float_mode::{self, in_default_mode};

#[cfg(test)]
mod tests;

/// Time for which an idle helper stays awake: about the cost of waking it.
const LINGER: Duration = Duration::from_micros(40);

/// Time between two looks of a caller that waits for helpers: one that has not run since the last
/// look has lost its core. About as long as it takes to move it.
const PATIENCE: Duration = Duration::from_micros(15);

/// Time after which a caller that sleeps until its helpers are done looks at them again.
const NAP: Duration = Duration::from_millis(1);

/// Upper bound on helpers for any request: no machine has memory channels for more.
const HELPERS_MAX: usize = 1_023;

/// Iterations of a spin loop between two readings of the clock.
const SPINS: u32 = 64;

/// Calls `work` once for each number below `count`, on up to `threads` threads.
///
/// The calling thread takes numbers too, so all work is done even if no thread can be started or
/// the helpers are in another thread's region.
///
/// # Panics
///
/// If `count` is more than 2³¹, or as `work`.
pub fn for_each(count: usize, threads: usize, work: impl Fn(usize) + Sync) {
    let helpers = threads.min(count).min(HELPERS_MAX + 1).saturating_sub(1);
    let region = Region::new(&work, count, helpers);
    if helpers > 0
        && let Some(team) = Team::of(threads)
    {
        team.run(&|is_caller| {
            in_default_mode(|| if is_caller { region.take_lowest() } else { region.help() });
        });
        return;
    }
    let open = if helpers == 0 { None } else { Pool::current().open(&region, helpers) };
    in_default_mode(|| region.take_lowest());
    drop(open);
}

/// Wakes the helpers for a region that opens within some 40 us, so that they arrive in time.
pub fn rouse(threads: usize) {
    let helpers = threads.min(HELPERS_MAX + 1).saturating_sub(1);
    if helpers > 0 && Team::of(threads).is_none() {
        let pool = Pool::current();
        if !pool.taken.swap(true, Ordering::Acquire) {
            pool.announce(helpers);
            pool.taken.store(false, Ordering::Release);
        }
    }
}

/// Whether helpers are awake, looking for work.
pub(crate) fn is_awake() -> bool {
    let pool = Pool::current();
    pool.started.load(Ordering::Relaxed) > pool.parked.load(Ordering::Relaxed)
}

type Payload = Box<dyn Any + Send>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A counter alone on its cache lines, because idle helpers read it continually.
#[repr(align(128))]
#[derive(Default)]
struct PaddedCounter(AtomicUsize);

/// The helpers of one process.
#[derive(Default)]
struct Pool {
    /// The generation of that process.
    generation: u32,
    /// Whether a region has the helpers.
    taken: AtomicBool,
    /// That region while it is open, else null.
    region: AtomicPtr<Region<'static>>,
    /// Number of regions opened so far.
    opened: PaddedCounter,
    /// The number of helpers that may hold a pointer to the region.
    inside: PaddedCounter,
    /// The payload of a helper's panic in the region.
    panic: Mutex<Option<Payload>>,
    started: AtomicUsize,
    parked: AtomicUsize,
    /// Whether the caller sleeps until no helper is inside.
    sleeping: AtomicBool,
    /// The helpers; guards parking, starting, waking and moving them.
    door: Mutex<Vec<Helper>>,
    wake: Condvar,
    /// Notified when no helper is inside any more and the caller sleeps.
    empty: Condvar,
}

/// A helper, for other threads.
#[derive(Debug)]
struct Helper {
    seat: Arc<Seat>,
    thread: cores::Thread,
}

/// What a helper and the other threads tell each other.
#[derive(Debug, Default)]
struct Seat {
    /// Whether it is in the region.
    inside: AtomicBool,
    /// Whether it was moved to the caller's core. Then it leaves that core as soon as it is done.
    moved: AtomicBool,
}

impl Pool {
    /// The pool of this process, built by the first call.
    fn current() -> &'static Pool {
        static CURRENT: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());
        let generation = fork::generation();
        let mut seen = CURRENT.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or leaked below and never freed.
            if let Some(pool) = unsafe { seen.as_ref() }
                && pool.generation == generation
            {
                return pool;
            }
            let made = Box::into_raw(Box::new(Pool { generation, ..Pool::default() }));
            match CURRENT.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just allocated, and never freed from here on.
                Ok(_) => return unsafe { &*made },
                Err(other) => {
                    // SAFETY: just allocated, and not yet shared.
                    drop(unsafe { Box::from_raw(made) });
                    seen = other;
                }
            }
        }
    }

    /// Lets helpers into a region until the result is dropped; `None` if another region has them.
    fn open<'a>(&'static self, region: &'a Region<'a>, helpers: usize) -> Option<Open<'a>> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let open = Open { pool: self, region };
        self.region.store(std::ptr::from_ref(region).cast_mut().cast(), Ordering::SeqCst);
        self.announce(helpers);
        Some(open)
    }

    /// Tells helpers about a region, and wakes or starts them.
    fn announce(&'static self, helpers: usize) {
        if self.started.load(Ordering::Relaxed) < helpers {
            self.start(helpers);
        }
        self.opened.0.fetch_add(1, Ordering::SeqCst);
        // A parking helper counts itself as parked before its last look at `opened`. So either this
        // thread sees it parked, or the helper sees the new region.
        if self.parked.load(Ordering::SeqCst) > 0 {
            let mut door = lock(&self.door);
            if let Some(core) = cores::current() {
                door.iter_mut().for_each(|helper| helper.thread.put(Place::Off(core)));
            }
            (0..helpers).for_each(|_| self.wake.notify_one());
        }
    }

    /// Starts threads until there are `helpers` helpers or the system refuses.
    #[cold]
    fn start(&'static self, helpers: usize) {
        let _door = lock(&self.door);
        for i in self.started.load(Ordering::Relaxed)..helpers {
            let builder = thread::Builder::new().name(format!("thalweg-{i}"));
            if builder.spawn(|| self.help()).is_err() {
                return;
            }
            self.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The endless loop of a helper.
    fn help(&self) {
        // The floating-point mode is inherited from the thread that started this one.
        float_mode::set_default();
        let seat = Arc::new(Seat::default());
        lock(&self.door).push(Helper { seat: seat.clone(), thread: cores::Thread::here() });
        let mut seen = 0;
        loop {
            seen = self.next_region(seen, &seat);
            let _inside = Inside::enter(self, &seat);
            let region = self.region.load(Ordering::SeqCst);
            // SAFETY: the thread that opened the region closes it and then waits until no helper is
            // inside. This helper counts as inside since before it read the pointer.
            if let Some(region) = unsafe { region.as_ref() } {
                // Asserting unwind safety is sound: the caller panics too, so data left
                // half-changed by the panic is not used afterwards.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| region.help())) {
                    *lock(&self.panic) = Some(payload);
                }
            }
        }
    }

    /// Waits until the number of opened regions differs from `seen`, and returns it.
    fn next_region(&self, seen: usize, seat: &Seat) -> usize {
        let opened = || Some(self.opened.0.load(Ordering::SeqCst)).filter(|n| *n != seen);
        let since = Instant::now();
        let moved = seat.moved.swap(false, Ordering::Relaxed);
        while !moved && since.elapsed() < LINGER {
            for _ in 0..SPINS {
                if let Some(number) = opened() {
                    return number;
                }
                std::hint::spin_loop();
            }
        }
        let mut door = lock(&self.door);
        self.parked.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(number) = opened() {
                self.parked.fetch_sub(1, Ordering::SeqCst);
                return number;
            }
            door = self.wake.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_empty(&self) -> bool {
        self.inside.0.load(Ordering::SeqCst) == 0
    }

    /// Waits until no helper is inside. Does not yield: another program's thread would take the core
    /// for milliseconds, although the helpers are done in microseconds.
    fn wait(&self) {
        let mut used = Vec::new();
        while !self.is_empty() {
            let since = Instant::now();
            while since.elapsed() < PATIENCE {
                for _ in 0..SPINS {
                    if self.is_empty() {
                        return;
                    }
                    std::hint::spin_loop();
                }
            }
            used = self.look(&used);
        }
    }

    /// Gives this core to helpers inside that have not run since the last look, and sleeps while
    /// they use it. `used` is the CPU time of each helper at the last look; returns those of now.
    /// Where that is unknown, yields, because a helper may need this core.
    #[cold]
    fn look(&self, used: &[Option<Duration>]) -> Vec<Option<Duration>> {
        let mut door = lock(&self.door);
        let (mut now, mut moves) = (Vec::with_capacity(door.len()), false);
        for (i, Helper { seat, thread }) in door.iter_mut().enumerate() {
            let inside = seat.inside.load(Ordering::Relaxed);
            let time = if inside { thread.used() } else { None };
            if inside && time.is_none() {
                thread::yield_now();
            }
            if time.is_some()
                && used.get(i) == Some(&time)
                && let Some(core) = cores::current()
            {
                seat.moved.store(true, Ordering::Relaxed);
                thread.put(Place::On(core));
                moves = true;
            }
            now.push(time);
        }
        if moves {
            // A helper that leaves looks at `sleeping` after it has counted itself out. So either
            // this thread sees that, or the helper sees it sleeping.
            self.sleeping.store(true, Ordering::SeqCst);
            if !self.is_empty() {
                drop(self.empty.wait_timeout(door, NAP));
            }
            self.sleeping.store(false, Ordering::SeqCst);
        }
        now
    }
}

/// The count of a helper in `inside`, for as long as it may hold a pointer to the region.
struct Inside<'p> {
    pool: &'p Pool,
    seat: &'p Seat,
}

impl<'p> Inside<'p> {
    fn enter(pool: &'p Pool, seat: &'p Seat) -> Self {
        pool.inside.0.fetch_add(1, Ordering::SeqCst);
        seat.inside.store(true, Ordering::Relaxed);
        Inside { pool, seat }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Inside { pool, seat } = self;
        seat.inside.store(false, Ordering::Relaxed);
        let others = pool.inside.0.fetch_sub(1, Ordering::SeqCst) - 1;
        if others == 0 && pool.sleeping.load(Ordering::SeqCst) {
            let _door = lock(&pool.door);
            pool.empty.notify_one();
        }
    }
}

/// A region that helpers may enter. Dropping it closes the region.
struct Open<'a> {
    pool: &'static Pool,
    region: &'a Region<'a>,
}

impl Drop for Open<'_> {
    /// Closes the region and waits for the helpers inside, also if the caller's own work panicked.
    fn drop(&mut self) {
        let Open { pool, region } = *self;
        // After a panic, no thread takes the remaining numbers.
        region.end();
        pool.region.store(std::ptr::null_mut(), Ordering::SeqCst);
        pool.wait();
        let panic = lock(&pool.panic).take();
        pool.taken.store(false, Ordering::Release);
        if let Some(payload) = panic
            && !thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}
