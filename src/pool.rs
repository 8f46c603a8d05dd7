//! Threads of our own, built on first use; the calling thread works too.
//!
//! A pool belongs to the process that built it: a forked child starts with a pool of its own and never
//! touches the parent's, whose threads it does not have and whose locks may have been held.

#![allow(unsafe_code)] // a pointer to a leaked, never freed generation

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;
use crate::fork;

/// Environment variables that set the number of threads, the first that is set wins.
pub const THREADS_VARIABLES: [&str; 2] = ["THALWEG_NUM_THREADS", "OMP_NUM_THREADS"];

/// The number that was set, or 0.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// Where the number of threads comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`set_num_threads`]
    Set,
    /// An environment variable.
    Variable(&'static str),
    /// The process's CPU affinity and cgroup quota.
    Machine,
}

/// How many threads an update may use, and where that number comes from.
pub fn num_threads() -> (usize, Source) {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => initial(),
        n => (n, Source::Set),
    }
}

/// Sets how many threads updates may use, the calling thread among them.
///
/// # Errors
///
/// [`Error::Threads`] for zero.
pub fn set_num_threads(n: usize) -> Result<(), Error> {
    if n == 0 {
        return Err(Error::Threads { given: n.to_string(), source: "the number of threads" });
    }
    CHOSEN.store(n, Ordering::Relaxed);
    Ok(())
}

/// The number of threads that `THALWEG_NUM_THREADS` asks for, if it is set.
///
/// # Errors
///
/// [`Error::Threads`] if it is no whole number of at least 1.
pub fn threads_from_environment() -> Result<Option<usize>, Error> {
    let source = THREADS_VARIABLES[0];
    match std::env::var(source) {
        Ok(given) if !given.trim().is_empty() => match parse(&given) {
            Some(n) => Ok(Some(n)),
            None => Err(Error::Threads { given, source }),
        },
        _ => Ok(None),
    }
}

fn parse(given: &str) -> Option<usize> {
    given.trim().parse().ok().filter(|n| *n > 0)
}

fn initial() -> (usize, Source) {
    static INITIAL: OnceLock<(usize, Source)> = OnceLock::new();
    *INITIAL.get_or_init(|| {
        for name in THREADS_VARIABLES {
            // OpenMP's variable may hold a list, one number a nesting level.
            let value = std::env::var(name).ok();
            if let Some(n) = value.as_deref().and_then(|v| v.split(',').next()).and_then(parse) {
                return (n, Source::Variable(name));
            }
        }
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        (machine, Source::Machine)
    })
}

/// Calls `work` once for each number below `count`, on up to `threads` threads.
///
/// The calling thread takes numbers too, so all is done even where no thread can be started.
pub(crate) fn for_each(count: usize, threads: usize, work: impl Fn(usize) + Sync) {
    let helpers = threads.min(count).saturating_sub(1);
    let next = AtomicUsize::new(0);
    let take_all = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            work(i);
        }
    };
    match if helpers == 0 { None } else { Generation::current().pool(helpers) } {
        None => take_all(),
        Some(pool) => pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| take_all());
            }
            take_all();
        }),
    }
}

/// The pool of one process.
struct Generation {
    number: u32,
    pool: Mutex<Option<Arc<ThreadPool>>>,
}

impl Generation {
    /// This process's generation; the first call in a process makes it.
    fn current() -> &'static Generation {
        static CURRENT: AtomicPtr<Generation> = AtomicPtr::new(std::ptr::null_mut());
        let number = fork::generation();
        let mut seen = CURRENT.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or leaked below and never freed.
            if let Some(generation) = unsafe { seen.as_ref() }
                && generation.number == number
            {
                return generation;
            }
            let made = Box::into_raw(Box::new(Generation { number, pool: Mutex::new(None) }));
            match CURRENT.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just made, and never freed from here on.
                Ok(_) => return unsafe { &*made },
                Err(other) => {
                    // SAFETY: just made, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(made) });
                    seen = other;
                }
            }
        }
    }

    /// A pool of at least `helpers` threads, or `None` if none can be started.
    fn pool(&self, helpers: usize) -> Option<Arc<ThreadPool>> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.as_ref().is_none_or(|pool| pool.current_num_threads() < helpers) {
            let built = ThreadPoolBuilder::new()
                .num_threads(helpers)
                .thread_name(|i| format!("thalweg-{i}"))
                .build();
            *pool = built.ok().map(Arc::new);
        }
        pool.clone()
    }
}
