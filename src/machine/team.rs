//! Threads of an OpenMP library that another part of the program has loaded.
//!
//! After a pass of such a library its threads wait for their next work in a busy loop, on the cores
//! that helpers need. Work on these very threads begins at once. The library's call waits for all
//! threads of the team, so a team is only for a caller whose library was just at work, as torch is
//! before a step.

#![allow(unsafe_code)] // calls functions of a library that is found by name

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use crate::machine::fork;

/// `GOMP_parallel` of libgomp, which other OpenMP libraries have too: calls a function with the
/// pointer, on a number of threads of which the caller is one, and waits for all of them.
type Parallel =
    unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// `omp_get_max_threads`: the number of threads that a region of the calling thread gets.
#[cfg(target_os = "linux")]
type MaxThreads = unsafe extern "C" fn() -> std::ffi::c_int;

/// The threads that a region of the calling thread gets.
#[derive(Clone, Copy)]
pub(crate) struct Team {
    parallel: Parallel,
    threads: c_uint,
}

thread_local! {
    /// Whether regions of this thread run on a team.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work`; its regions run on the threads of the OpenMP library, if one is loaded that has as
/// many threads as they ask for.
pub fn with<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _before = Before(CHOSEN.replace(true));
    work()
}

impl Team {
    /// The team of this thread, if one was asked for and has `threads` threads or more.
    pub(crate) fn of(threads: usize) -> Option<Self> {
        // In a forked child the library waits for threads that do not exist. A fork before this
        // crate was loaded is not noticed; there the other part of the program hangs as well.
        if !CHOSEN.get() || fork::generation() > 0 {
            return None;
        }
        Team::loaded().filter(|team| team.threads as usize >= threads)
    }

    #[cfg(target_os = "linux")]
    fn loaded() -> Option<Self> {
        let found = |name: &std::ffi::CStr| {
            // SAFETY: the name ends with a zero.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        let (parallel, max_threads) = (found(c"GOMP_parallel")?, found(c"omp_get_max_threads")?);
        // SAFETY: these are the types that the OpenMP interface gives functions of these names.
        let (parallel, max_threads) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Parallel>(parallel),
                std::mem::transmute::<*mut c_void, MaxThreads>(max_threads),
            )
        };
        // SAFETY: the function has no arguments and returns a number.
        let threads = c_uint::try_from(unsafe { max_threads() }).ok()?;
        Some(Team { parallel, threads })
    }

    #[cfg(not(target_os = "linux"))]
    fn loaded() -> Option<Self> {
        None
    }

    /// Calls `work` on all threads of the team, with whether the thread is the calling one. A panic
    /// in any of them reaches the caller when all are done.
    ///
    /// The team is never smaller than in the library's own regions: for another number the library
    /// would end threads, and start them again later.
    pub(crate) fn run(self, work: &(dyn Fn(bool) + Sync)) {
        let call = Call { work, caller: thread::current().id(), panic: Mutex::new(None) };
        // SAFETY: `enter` gets the pointer to `call` that it needs, and the library calls it only
        // before it returns.
        unsafe { (self.parallel)(enter, (&raw const call).cast_mut().cast(), self.threads, 0) }
        if let Some(payload) = call.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

struct Call<'a> {
    work: &'a (dyn Fn(bool) + Sync),
    caller: ThreadId,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// # Safety
///
/// The pointer is that of a [`Call`] which is not changed meanwhile.
unsafe extern "C" fn enter(call: *mut c_void) {
    // SAFETY: the caller's promise.
    let call = unsafe { &*call.cast::<Call<'_>>() };
    let is_caller = thread::current().id() == call.caller;
    // Asserting unwind safety is sound: the caller panics too.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (call.work)(is_caller))) {
        *call.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
    }
}
