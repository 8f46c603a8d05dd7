//! Forks: which memory a child process can rely on.
//!
//! A fork copies the memory of the process, but only the forking thread. Work that another thread
//! was doing stays unfinished in the child: a half-written update, or a lock whose holder does not
//! exist. Therefore a fork waits until work in other threads is complete ([`whole`]), and objects
//! that a thread holds carry a mark of that thread and of the process's generation, so that a child
//! can tell whether the holder still exists ([`Mark`]).
//!
//! Handlers around `fork` itself implement this, whichever code forks. On platforms without `fork`,
//! all of it is trivial.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};

/// Number of forks between the process that loaded the crate and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The thread that made the most recent of these forks.
static SURVIVOR: AtomicU32 = AtomicU32::new(0);

/// The number of threads inside [`whole`], and of threads waiting to fork.
struct Threads {
    working: usize,
    waiting: usize,
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { working: 0, waiting: 0 });

/// Notified when a thread leaves [`whole`] while another waits to fork.
static FEWER: Condvar = Condvar::new();

/// Notified when no thread waits to fork any more.
static FORKED: Condvar = Condvar::new();

thread_local! {
    static THREAD: u32 = {
        static LAST: AtomicU32 = AtomicU32::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    };
    /// The guard that a forking thread holds during its fork.
    static FORKING: Cell<Option<MutexGuard<'static, Threads>>> = const { Cell::new(None) };
    /// Nesting depth of [`whole`] in this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Number of forks between the process that loaded the crate and this one.
pub fn generation() -> u32 {
    watch();
    GENERATION.load(Ordering::Relaxed)
}

/// Installs the fork handlers. Call it before any thread can fork.
pub fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(handlers::install);
}

/// A thread of a process. Tells whether the holder of an object survived a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// No thread.
    pub const NOBODY: Mark = Mark(0);

    /// The calling thread.
    pub fn here() -> Self {
        Mark(u64::from(generation()) << 32 | u64::from(THREAD.with(|thread| *thread)))
    }

    /// Whether the thread may exist. A thread of an older generation exists only if it made the
    /// last fork.
    pub fn may_be_alive(self) -> bool {
        let (generation, thread) = ((self.0 >> 32) as u32, self.0 as u32);
        self != Self::NOBODY
            && (generation == self::generation() || thread == SURVIVOR.load(Ordering::Relaxed))
    }

    /// The mark as a number, for storage in an atomic.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The mark with these [`Mark::bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Mark(bits)
    }
}

/// Runs `work` while no thread forks: a fork waits until `work` is done, and new work waits for a
/// fork that is already waiting. `work` must not wait for anything that a forking thread may hold,
/// above all Python's interpreter lock.
pub fn whole<T>(work: impl FnOnce() -> T) -> T {
    struct Working;
    impl Drop for Working {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
            let mut threads = lock();
            threads.working -= 1;
            if threads.waiting > 0 {
                FEWER.notify_all();
            }
        }
    }
    watch();
    let mut threads = lock();
    // Nested calls must not wait for a fork, because that fork waits for the outer call.
    while threads.waiting > 0 && DEPTH.get() == 0 {
        threads = FORKED.wait(threads).unwrap_or_else(PoisonError::into_inner);
    }
    threads.working += 1;
    drop(threads);
    DEPTH.set(DEPTH.get() + 1);
    let _working = Working;
    work()
}

fn lock() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
mod handlers {
    #![allow(unsafe_code)] // registers functions with the C library

    use std::sync::PoisonError;
    use std::sync::atomic::Ordering;

    use super::{DEPTH, FEWER, FORKED, FORKING, GENERATION, SURVIVOR, THREAD, lock};

    /// Before a fork: waits for work in other threads and keeps new work from starting.
    extern "C" fn before() {
        let mut threads = lock();
        threads.waiting += 1;
        while threads.working > DEPTH.get() {
            threads = FEWER.wait(threads).unwrap_or_else(PoisonError::into_inner);
        }
        FORKING.set(Some(threads));
    }

    extern "C" fn in_parent() {
        if let Some(mut threads) = FORKING.take() {
            threads.waiting -= 1;
            if threads.waiting == 0 {
                FORKED.notify_all();
            }
        }
    }

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        SURVIVOR.store(THREAD.with(|thread| *thread), Ordering::Relaxed);
        if let Some(mut threads) = FORKING.take() {
            threads.waiting = 0; // the child has no other threads that could wait
        }
    }

    pub(super) fn install() {
        // SAFETY: the functions live as long as the process, and none of them unwinds. If
        // registration fails (out of memory), forks go undetected; this affects only programs that
        // fork.
        unsafe {
            libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
        }
    }
}

#[cfg(not(unix))]
mod handlers {
    pub(super) fn install() {}
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(unsafe_code)] // forks

    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// Forks a child that exits at once.
    fn fork() {
        // SAFETY: the child exits at once, and the parent waits for it.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(0),
                child => assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child),
            }
        }
    }

    /// A fork waits for running work, new work waits for the fork, and nested work waits for
    /// neither.
    #[test]
    fn a_fork_is_not_starved_by_new_work() {
        let (events, seen) = channel();
        let (finish, finished) = channel::<()>();
        thread::scope(|scope| {
            let told = events.clone();
            let (begun, has_begun) = channel();
            scope.spawn(move || {
                whole(|| {
                    let _ = begun.send(());
                    let _ = finished.recv();
                    whole(|| told.send("old"))
                })
            });
            has_begun.recv().unwrap_or_default();
            let told = events.clone();
            scope.spawn(move || {
                fork();
                told.send("fork")
            });
            while lock().waiting == 0 {
                thread::yield_now();
            }
            let told = events.clone();
            let (entering, enters) = channel();
            scope.spawn(move || {
                let _ = entering.send(());
                whole(|| told.send("new"))
            });
            enters.recv().unwrap_or_default();
            // Time for an error to show.
            (0..1_000).for_each(|_| thread::yield_now());
            assert!(seen.try_recv().is_err());
            drop(finish);
        });
        let mut seen: Vec<_> = seen.try_iter().collect();
        assert_eq!(seen.remove(0), "old");
        seen.sort_unstable();
        assert_eq!(seen, ["fork", "new"]); // both are sent after the fork, in either order
    }
}
