//! Interpreter exit: native calls of other threads end before the interpreter does.
//!
//! Before Python 3.14, a daemon thread that requests the interpreter lock of an interpreter that is
//! ending is terminated by unwinding its stack. If it requests the lock in NumPy or in a schedule
//! that was called from Rust, the unwinding reaches Rust's frames and the process aborts. So
//! `atexit` calls [`close`], which lets threads finish their calls, and threads that begin a call
//! later are parked, as Python 3.14 does itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use thalweg::machine::fork::{self, Mark};

/// Longest wait for threads that do not finish, for example because a schedule never returns.
const PATIENCE: Duration = Duration::from_secs(2);

/// Number of calls in progress (low half) in this generation of the process (high half).
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The thread that ends the interpreter.
static CLOSER: AtomicU64 = AtomicU64::new(Mark::NOBODY.bits());

thread_local! {
    /// Number of nested calls in this thread; a schedule may call back.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Marks the thread as inside a call from Python, until dropped.
#[derive(Debug)]
pub struct Presence(());

impl Presence {
    /// Begins a call. Parks the thread for ever if another thread is ending the interpreter.
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

/// Changes this thread's part of [`CALLS`]. In a forked child, the parts of other threads are
/// dropped, because those threads do not exist there.
fn count(from: u32, to: u32) {
    DEPTH.set(to);
    let change = |calls: u64| {
        let generation = u64::from(fork::generation());
        let others = if calls >> 32 == generation { calls as u32 - from } else { 0 };
        Some(generation << 32 | u64::from(others + to))
    };
    // Cannot fail: the closure always returns `Some`.
    let _ = CALLS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
}

/// Lets other threads finish their calls, for a limited time, and keeps them from beginning new
/// ones. For `atexit`.
#[pyfunction]
pub fn close(py: Python<'_>) {
    CLOSER.store(Mark::here().bits(), Ordering::Relaxed);
    count(DEPTH.get(), DEPTH.get());
    let deadline = Instant::now() + PATIENCE;
    while CALLS.load(Ordering::Relaxed) as u32 > DEPTH.get() && Instant::now() < deadline {
        py.detach(|| thread::sleep(Duration::from_millis(1)));
    }
}
