//! The floating-point mode of a thread: what arithmetic does with subnormal numbers, how it rounds.
//!
//! Others may have set it: a library linked with `-ffast-math`, `torch.set_flush_denormal`, the
//! program. Compiled code presumes the default (subnormal numbers are numbers, results are rounded to
//! the nearest, nothing traps), and so does the promise about bits. So whatever computes does it
//! inside [`in_default_mode`].

#![allow(unsafe_code)] // reads and writes the control register

use std::hint::black_box;

/// Does `work` in the default mode; afterwards the calling thread has the mode that it had.
///
/// Where the mode is the default, as nearly always, that costs reading a register.
pub fn in_default_mode<T>(work: impl FnOnce() -> T) -> T {
    let _restore = Restore(set_default());
    // The compiler knows nothing of modes: what the work sees is not there before the mode is set, and
    // what comes of it is there before it is set back.
    black_box(apart(black_box(work)))
}

/// Puts the calling thread into the default mode for good; the mode before, if it was another.
pub(crate) fn set_default() -> Option<register::Mode> {
    let mode = register::read();
    let differs = mode & register::CONTROL != register::DEFAULT & register::CONTROL;
    differs.then(|| {
        register::write(register::DEFAULT);
        mode
    })
}

/// A call, so that no arithmetic is moved out of the default mode.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Sets the mode back, also where work panics.
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
    /// All but the flags that say what has happened.
    pub const CONTROL: Mode = 0xFFC0;

    pub fn read() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores the register, four bytes, into a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) }
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: what is written was read, or is the default that compiled code presumes.
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
        // SAFETY: reads the register. Memory is named so that nothing is moved past it.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) }
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: what is written was read, or is the default that compiled code presumes.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack)) }
    }
}

/// Elsewhere the mode is the caller's.
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

    /// Flush results and operands to zero, round up.
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
