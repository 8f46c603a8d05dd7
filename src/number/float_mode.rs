//! The floating-point mode of a thread: how arithmetic treats subnormal numbers and how it rounds.
//!
//! Other code may have changed the mode: a library linked with `-ffast-math`,
//! `torch.set_flush_denormal`, or the program itself. Compiled code and the promise about bits both
//! presume the default mode: subnormal numbers are kept, results are rounded to nearest, nothing
//! traps. All arithmetic of this crate therefore runs inside [`in_default_mode`].

#![allow(unsafe_code)] // reads and writes the control register

use std::hint::black_box;

/// Runs `work` in the default mode, then restores the mode of the calling thread.
///
/// Where the mode is the default already, as nearly always, the cost is one read of the register.
pub fn in_default_mode<T>(work: impl FnOnce() -> T) -> T {
    let _restore = Restore(set_default());
    // The compiler does not know about modes. The black boxes and the call keep the arithmetic of
    // `work` between the two writes of the register: its inputs are hidden until the mode is set,
    // and its result is complete before the mode is restored.
    black_box(apart(black_box(work)))
}

/// Sets the default mode permanently for the calling thread. Returns the previous mode if it
/// differed.
pub(crate) fn set_default() -> Option<register::Mode> {
    let mode = register::read();
    let differs = mode & register::CONTROL != register::DEFAULT & register::CONTROL;
    differs.then(|| {
        register::write(register::DEFAULT);
        mode
    })
}

/// Calls `work`. Never inlined, so that the compiler moves no arithmetic out of the default mode.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Restores the mode when dropped, also when `work` panics.
struct Restore(Option<register::Mode>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(mode) = self.0 {
            register::write(mode);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    pub type Mode = u32;

    /// MXCSR: all exceptions masked, round to nearest, subnormal numbers kept.
    pub const DEFAULT: Mode = 0x1F80;
    /// Every bit except the exception flags, which record past events.
    pub const CONTROL: Mode = 0xFFC0;

    pub fn read() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores the register's four bytes into a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) }
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: the value was read from the register or is the default that compiled code
        // presumes.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack)) }
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub type Mode = u64;

    /// FPCR: nothing traps, round to nearest, subnormal numbers and NaNs kept.
    pub const DEFAULT: Mode = 0;
    pub const CONTROL: Mode = Mode::MAX;

    pub fn read() -> Mode {
        let mode: Mode;
        // SAFETY: only reads the register. The block is not `nomem`, so memory accesses are not
        // moved across it.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) }
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: the value was read from the register or is the default that compiled code
        // presumes.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack)) }
    }
}

/// On other architectures the caller's mode is used unchanged.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub type Mode = u32;
    pub const DEFAULT: Mode = 0;
    pub const CONTROL: Mode = 0;

    pub fn read() -> Mode {
        DEFAULT
    }

    pub fn write(_: Mode) {}
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// Flushes subnormal results and operands to zero, rounds up.
    const OTHER: register::Mode = 0x1F80 | 0x8040 | 0x4000;

    fn halved() -> [f64; 2] {
        [black_box(f64::MIN_POSITIVE) / 2.0, black_box(1.0) / 3.0]
    }

    #[test]
    fn work_has_the_default_mode_and_the_caller_keeps_its_own() {
        let expected = black_box(halved());
        register::write(OTHER);
        let outside = black_box(halved());
        let inside = in_default_mode(halved);
        let panicked = catch_unwind(|| in_default_mode(|| assert!(black_box(false))));
        let after = register::read();
        register::write(register::DEFAULT);
        assert_eq!(inside.map(f64::to_bits), expected.map(f64::to_bits));
        assert_ne!(outside.map(f64::to_bits), expected.map(f64::to_bits));
        assert_eq!(after & register::CONTROL, OTHER);
        assert!(panicked.is_err());
    }
}
