//! The cores that helper threads run on.
//!
//! In a training loop, the threads of other libraries still hold the other cores when a step begins:
//! they wait for their next work in a busy loop, for milliseconds. The scheduler then wakes a helper
//! on the caller's core, where the two take turns, or lets it wait for a core with half of its work
//! done. So the pool keeps helpers off the caller's core, they ask for short turns, which come
//! sooner, and one that waits for a core while the caller waits for it gets the caller's.
//!
//! A helper never runs on a core that was not allowed to it. Only Linux can do all this; elsewhere
//! nothing here has an effect.

#![allow(unsafe_code)] // asks the operating system about threads

#[cfg(target_os = "linux")]
pub(crate) use linux::{Thread, current};
#[cfg(not(target_os = "linux"))]
pub(crate) use none::{Thread, current};

/// The cores for a thread, among those that are allowed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All but this one.
    Off(usize),
    /// This one only.
    On(usize),
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem;
    use std::time::Duration;

    use libc::{cpu_set_t, pid_t};

    use super::Place;

    /// The turn that a helper asks for, in nanoseconds: the shortest that Linux grants.
    const TURN: u64 = 100_000;

    /// The core on which the calling thread runs.
    pub(crate) fn current() -> Option<usize> {
        // SAFETY: only returns a number.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// A thread that never ends, and its place.
    #[derive(Debug)]
    pub(crate) struct Thread {
        id: pid_t,
        /// The clock of its CPU time, if there is one.
        clock: Option<libc::clockid_t>,
        place: Option<Place>,
        /// The cores allowed to it by others.
        allowed: Option<cpu_set_t>,
        /// The cores that [`Thread::put`] has left of them.
        left: Option<cpu_set_t>,
    }

    impl Thread {
        /// The calling thread; asks for short turns.
        pub(crate) fn here() -> Self {
            ask_for_short_turns();
            let mut clock = 0;
            // SAFETY: the thread is this one, and `clock` is a place for a number.
            let (id, failed) = unsafe {
                // The C library has a function for the first only since 2.30.
                let id = libc::syscall(libc::SYS_gettid);
                (id as pid_t, libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock))
            };
            let clock = (failed == 0).then_some(clock);
            Thread { id, clock, place: None, allowed: None, left: None }
        }

        /// Moves the thread to `place`, unless no core is left there or the system refuses.
        pub(crate) fn put(&mut self, place: Place) {
            if self.place.replace(place) == Some(place) {
                return;
            }
            let Ok(now) = cores_of(self.id) else { return };
            // Somebody else may have given it other cores since.
            if !self.left.is_some_and(|left| same(&left, &now)) {
                self.allowed = Some(now);
            }
            let Some(allowed) = &self.allowed else { return };
            let wanted = within(allowed, place);
            if count(&wanted) > 0 && set_cores(self.id, &wanted).is_ok() {
                self.left = Some(wanted);
            }
        }

        /// The CPU time that the thread has used. It stands still while the thread waits for a core.
        pub(crate) fn used(&self) -> Option<Duration> {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is a place for a time.
            let failed = unsafe { libc::clock_gettime(self.clock?, &mut time) };
            let parts = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
            match (failed, parts) {
                (0, (Ok(seconds), Ok(nanos))) => Some(Duration::new(seconds, nanos)),
                _ => None,
            }
        }
    }

    fn within(allowed: &cpu_set_t, place: Place) -> cpu_set_t {
        let mut cores = *allowed;
        // SAFETY: a set of cores is an array of bits; the functions check the bounds.
        unsafe {
            match place {
                Place::Off(core) => libc::CPU_CLR(core, &mut cores),
                Place::On(core) => {
                    libc::CPU_ZERO(&mut cores);
                    if libc::CPU_ISSET(core, allowed) {
                        libc::CPU_SET(core, &mut cores);
                    }
                }
            }
        }
        cores
    }

    fn count(cores: &cpu_set_t) -> i32 {
        // SAFETY: as in `within`.
        unsafe { libc::CPU_COUNT(cores) }
    }

    fn same(one: &cpu_set_t, other: &cpu_set_t) -> bool {
        // SAFETY: as in `within`.
        unsafe { libc::CPU_EQUAL(one, other) }
    }

    fn cores_of(thread: pid_t) -> io::Result<cpu_set_t> {
        // SAFETY: a set of cores is valid with all bits zero, and the size is its own.
        let (failed, cores) = unsafe {
            let mut cores: cpu_set_t = mem::zeroed();
            (libc::sched_getaffinity(thread, size_of::<cpu_set_t>(), &mut cores), cores)
        };
        if failed == 0 { Ok(cores) } else { Err(io::Error::last_os_error()) }
    }

    fn set_cores(thread: pid_t, cores: &cpu_set_t) -> io::Result<()> {
        // SAFETY: the size is that of the set.
        let failed = unsafe { libc::sched_setaffinity(thread, size_of::<cpu_set_t>(), cores) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Asks for short turns for the calling thread: it then gets a core sooner after it was woken,
    /// and over time as much of it as before. Older versions of Linux ignore this.
    fn ask_for_short_turns() {
        // SAFETY: a scheduling attribute is valid with all bits zero, and the size is its own; the
        // second call changes only the turn.
        unsafe {
            let mut attribute: libc::sched_attr = mem::zeroed();
            let size = size_of::<libc::sched_attr>();
            let failed = libc::syscall(libc::SYS_sched_getattr, 0, &mut attribute, size, 0);
            if failed == 0 && attribute.sched_policy == libc::SCHED_OTHER as u32 {
                attribute.sched_runtime = TURN;
                libc::syscall(libc::SYS_sched_setattr, 0, &attribute, 0);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::thread;

        use super::*;

        /// A thread is put on and off a core, and back; what somebody else sets meanwhile is kept.
        #[test]
        fn a_thread_stays_on_the_cores_that_others_allow() -> io::Result<()> {
            let moves = || {
                let all = cores_of(0)?;
                let mut thread = Thread::here();
                let core = current().unwrap_or(0);
                let alone = within(&all, Place::On(core));

                thread.put(Place::Off(core));
                let others = within(&all, Place::Off(core));
                let is_only_one = count(&others) == 0;
                assert!(same(&cores_of(0)?, if is_only_one { &all } else { &others }));
                assert!(is_only_one || current() != Some(core));
                thread.put(Place::On(core));
                assert!(same(&cores_of(0)?, &alone) && current() == Some(core));

                // Pinned by somebody else, it is not driven from its only core.
                thread.put(Place::Off(core));
                set_cores(0, &alone)?;
                thread.put(Place::On(core));
                thread.put(Place::Off(core));
                assert!(same(&cores_of(0)?, &alone));
                Ok(())
            };
            match thread::spawn(moves).join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }

        #[test]
        fn cpu_time_grows_while_a_thread_runs() {
            let thread = Thread::here();
            let before = thread.used();
            assert!(before.is_some());
            while thread.used() == before {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use std::time::Duration;

    use super::Place;

    pub(crate) fn current() -> Option<usize> {
        None
    }

    #[derive(Debug)]
    pub(crate) struct Thread;

    impl Thread {
        pub(crate) fn here() -> Self {
            Thread
        }

        pub(crate) fn put(&mut self, _: Place) {}

        pub(crate) fn used(&self) -> Option<Duration> {
            None
        }
    }
}
