//! Interpreter exit: the interpreter may not end while another thread is in here.
//!
//! Before Python 3.14 a daemon thread that asks for the interpreter lock of a dying interpreter is
//! ended by unwinding its stack. If it asks from NumPy or a schedule that was called from Rust, the
//! unwinding meets Rust's frames and the process aborts. So `atexit` lets threads finish their
//! calls first ([`close`]) and parks those that begin one afterwards, as Python 3.14 does itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use thalweg::machine::fork::{self, Mark};

/// How long to wait for threads that do not finish, such as one whose schedule waits for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// Number of calls that are in progress (low half) in this generation of the process (high half).
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The thread that ends the interpreter.
static CLOSER: AtomicU64 = AtomicU64::new(Mark::NOBODY.bits());

thread_local! {
    /// Number of calls that this thread is in; a schedule may call back.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A thread's being in a call from Python, for as long as that lasts.
#[derive(Debug)]
pub struct Presence(());

impl Presence {
    /// Begins a call; does not return if the interpreter is ending.
    pub fn begin(py: Python<'_>) -> Self {
        let closer = Mark::from_bits(CLOSER.load(Ordering::Relaxed));
        if closer.may_be_alive() && closer != Mark::here() {
            py.detach(|| {
                loop {
                    thread::park();
                }
            });
        }
        count(DEPTH.get(), DEPTH.get() + 1);
        Presence(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        count(DEPTH.get(), DEPTH.get() - 1);
    }
}

/// Changes this thread's part of the number of calls. In a forked child the others' are void.
fn count(from: u32, to: u32) {
    DEPTH.set(to);
    let change = |calls: u64| {
        let generation = u64::from(fork::generation());
        let others = if calls >> 32 == generation { calls as u32 - from } else { 0 };
        Some(generation << 32 | u64::from(others + to))
    };
    // The closure always has an answer.
    let _ = CALLS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
}

/// Lets other threads finish their calls, and keeps them from beginning new ones. For `atexit`.
#[pyfunction]
pub fn close(py: Python<'_>) {
    CLOSER.store(Mark::here().bits(), Ordering::Relaxed);
    count(DEPTH.get(), DEPTH.get());
    let deadline = Instant::now() + PATIENCE;
    while CALLS.load(Ordering::Relaxed) as u32 > DEPTH.get() && Instant::now() < deadline {
        py.detach(|| thread::sleep(Duration::from_millis(1)));
    }
}
