//! Forks: what a child process may believe of the memory that it inherits.
//!
//! A fork copies the memory of all threads and the thread that forks, no other. What another thread
//! was doing is then half done for ever in the child: an update half written, a lock held by nobody.
//! So a fork waits until work in other threads is whole ([`whole`]), and what threads own is marked
//! with its holder and the process's generation, so that a child can tell whether the holder came
//! along ([`Mark`]).
//!
//! That takes handlers around `fork` itself, which run whoever forks. Where there is no `fork` all
//! of it is trivial.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};

/// Number of forks between this process and the one that loaded the crate.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The thread that made the last fork on the way to this process.
static SURVIVOR: AtomicU32 = AtomicU32::new(0);

/// How many threads are inside [`whole`], and how many wait to fork or do.
struct Threads {
    working: usize,
    waiting: usize,
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { working: 0, waiting: 0 });

/// Told when one that works leaves while one waits.
static FEWER: Condvar = Condvar::new();

/// Told when nobody waits to fork any more.
static FORKED: Condvar = Condvar::new();

thread_local! {
    static THREAD: u32 = {
        static LAST: AtomicU32 = AtomicU32::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    };
    /// What a thread that forks holds while it does.
    static FORKING: Cell<Option<MutexGuard<'static, Threads>>> = const { Cell::new(None) };
    /// Depth of [`whole`] in this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Number of forks between this process and the one that loaded the crate.
pub fn generation() -> u32 {
    watch();
    GENERATION.load(Ordering::Relaxed)
}

/// Sees to it that forks are noticed. To be called before there are threads that might fork.
pub fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(handlers::install);
}

/// A thread of a process; tells a holder that came along in a fork from one that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Nobody.
    pub const NOBODY: Mark = Mark(0);

    /// The calling thread.
    pub fn here() -> Self {
        Mark(u64::from(generation()) << 32 | u64::from(THREAD.with(|thread| *thread)))
    }

    /// Whether the thread may be there. One of an older generation is only if it made the fork.
    pub fn may_be_alive(self) -> bool {
        let (generation, thread) = ((self.0 >> 32) as u32, self.0 as u32);
        self != Self::NOBODY
            && (generation == self::generation() || thread == SURVIVOR.load(Ordering::Relaxed))
    }

    /// As a number, to be kept in an atomic.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From [`Mark::bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Mark(bits)
    }
}

/// Does `work` while no thread forks: a fork waits until it is done, and new work until a fork that
/// waits has been made. `work` must not wait for anything that a thread which forks may hold, Python's
/// interpreter lock above all.
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
    // What is part of work that has begun must not wait for a fork, which waits for it.
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

    /// Before a fork: waits for work in other threads, and keeps new work from beginning.
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
            threads.waiting = 0; // this fork is made, and others did not come along
        }
    }

    pub(super) fn install() {
        // SAFETY: the functions live as long as the process, and none of them unwinds. A failure
        // (no memory) leaves forks unnoticed, which only those notice that fork.
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

    /// A child that does nothing.
    fn fork() {
        // SAFETY: the child ends at once, and the parent waits for it.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(0),
                child => assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child),
            }
        }
    }

    /// A fork waits for work that has begun, work that begins then waits for the fork, and what belongs to
    /// work that has begun waits for neither.
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
            // Time to go wrong in.
            (0..1_000).for_each(|_| thread::yield_now());
            assert!(seen.try_recv().is_err());
            drop(finish);
        });
        let mut seen: Vec<_> = seen.try_iter().collect();
        assert_eq!(seen.remove(0), "old");
        seen.sort_unstable();
        assert_eq!(seen, ["fork", "new"]); // told after the fork, which the new work may outrun
    }
}
