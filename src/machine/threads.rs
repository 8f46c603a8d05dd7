//! The number of threads that an update may use, and its origin.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::machine::pool;

/// Environment variables that set the number of threads. The first one that is set wins.
const THREADS_VARIABLES: [&str; 2] = ["THALWEG_NUM_THREADS", "OMP_NUM_THREADS"];

/// The largest number accepted, as by OpenMP: 2³¹ - 1.
pub const THREADS_MAX: usize = i32::MAX as usize;

/// An update of fewer elements in total stays on the calling thread, because waking a helper takes
/// about 40 us. Measured with AdamW and two threads, 1 ms after the last step, as the ratio to one
/// thread: 1.28 at 65,536 elements, 0.84 at 131,072 (`python benches/steps.py --only threads`).
const PARALLEL_MIN: usize = 131_072;

/// The same limit while helpers are still awake after their last work. Measured in the same way,
/// with steps in direct succession: 0.96 to 1.13 at 16,384 elements, 0.62 to 0.71 at 32,768.
const PARALLEL_MIN_AWAKE: usize = 32_768;

/// Elements for each thread, at least. The caller wakes helpers one after the other, some 2 us each;
/// this many elements take ten times as long.
const SHARE_MIN: usize = PARALLEL_MIN_AWAKE / 2;

/// Number of threads worth using for this many elements, at most `threads`.
pub fn useful_threads(elements: usize, threads: usize) -> usize {
    let pays = elements >= PARALLEL_MIN || (elements >= PARALLEL_MIN_AWAKE && pool::is_awake());
    if pays { threads.min(elements / SHARE_MIN) } else { 1 }
}

/// The number given to [`set_num_threads`], or 0.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// Origin of the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`set_num_threads`]
    Set,
    /// An environment variable.
    Variable(&'static str),
    /// The process's CPU affinity and cgroup quota.
    Machine,
}

/// The number of threads that an update may use, and its origin.
pub fn num_threads() -> (usize, Source) {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => initial(),
        n => (n, Source::Set),
    }
}

/// Sets the number of threads that updates may use, including the calling thread.
///
/// # Errors
///
/// [`Error::Threads`] for zero and above [`THREADS_MAX`].
pub fn set_num_threads(n: usize) -> Result<(), Error> {
    CHOSEN.store(check_threads(n, "the number of threads")?, Ordering::Relaxed);
    Ok(())
}

/// Returns a number of threads that is in range; `source` precedes it in messages.
///
/// # Errors
///
/// [`Error::Threads`] for zero and above [`THREADS_MAX`].
pub(crate) fn check_threads(n: usize, source: &'static str) -> Result<usize, Error> {
    let fits = (1..=THREADS_MAX).contains(&n);
    if fits { Ok(n) } else { Err(refused(n.to_string(), source)) }
}

/// The number of threads in `THALWEG_NUM_THREADS`, if that is set.
///
/// # Errors
///
/// [`Error::Threads`] if it is not a whole number from 1 to [`THREADS_MAX`].
pub fn threads_from_environment() -> Result<Option<usize>, Error> {
    let source = THREADS_VARIABLES[0];
    match std::env::var(source) {
        Ok(given) if !given.trim().is_empty() => match parse(&given) {
            Some(n) => Ok(Some(n)),
            None => Err(refused(given, source)),
        },
        _ => Ok(None),
    }
}

fn refused(given: String, source: &'static str) -> Error {
    Error::Threads { given, source, most: THREADS_MAX }
}

fn parse(given: &str) -> Option<usize> {
    given.trim().parse().ok().filter(|n| (1..=THREADS_MAX).contains(n))
}

fn initial() -> (usize, Source) {
    static INITIAL: OnceLock<(usize, Source)> = OnceLock::new();
    *INITIAL.get_or_init(|| {
        for name in THREADS_VARIABLES {
            // OpenMP's variable may hold a list, one number per nesting level.
            let value = std::env::var(name).ok();
            if let Some(n) = value.as_deref().and_then(|v| v.split(',').next()).and_then(parse) {
                return (n, Source::Variable(name));
            }
        }
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        (machine.min(THREADS_MAX), Source::Machine)
    })
}
