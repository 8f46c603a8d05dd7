//! CPU levels: the same code compiled for several instruction sets, one of them selected at run
//! time.
//!
//! The compiler vectorises the scalar code of the rules inside functions that enable an instruction
//! set. The level affects speed only, never results. A new level is one line of `levels!`.

#![allow(unsafe_code)] // calls into functions that enable an instruction set

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::Error;

/// The environment variable that selects a level by name, for example `baseline`.
const LEVEL_VARIABLE: &str = "THALWEG_CPU_LEVEL";

/// Code to run at a level. `run` must be `#[inline(always)]`, and so must every callee that is to
/// be compiled for the level.
pub(crate) trait Work {
    type Output;
    fn run(self) -> Self::Output;
}

/// An instruction set that this machine supports.
///
/// Only detection creates a Level, so a Level proves that its code can run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Isa);

macro_rules! levels {
    ($($(#[$cfg:meta])* $isa:ident $name:literal $function:ident $feature:tt $detected:expr;)*) => {
        /// Best first. The baseline, which every machine supports, is last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Isa {
            $($(#[$cfg])* $isa,)*
            Baseline,
        }

        impl Isa {
            const ALL: &[Isa] = &[$($(#[$cfg])* Isa::$isa,)* Isa::Baseline];

            const fn name(self) -> &'static str {
                match self {
                    $($(#[$cfg])* Isa::$isa => $name,)*
                    Isa::Baseline => "baseline",
                }
            }

            fn detected(self) -> bool {
                match self {
                    $($(#[$cfg])* Isa::$isa => $detected,)*
                    Isa::Baseline => true,
                }
            }
        }

        $(
            $(#[$cfg])*
            #[target_feature(enable = $feature)]
            #[inline(never)] // keeps a symbol for tests/vectorised.rs to find
            fn $function<W: Work>(work: W) -> W::Output {
                work.run()
            }
        )*

        impl Level {
            /// Runs `work` compiled for this level.
            #[inline(always)]
            pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
                match self.0 {
                    // SAFETY: a Level exists only where detection found its instruction set.
                    $($(#[$cfg])* Isa::$isa => unsafe { $function(work) },)*
                    Isa::Baseline => baseline(work),
                }
            }
        }
    };
}

levels! {
    #[cfg(target_arch = "x86_64")]
    Avx512 "avx512" avx512 "avx512f" std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(target_arch = "x86_64")]
    Avx2 "avx2" avx2 "avx2" std::arch::is_x86_feature_detected!("avx2");
}

#[inline(never)]
fn baseline<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Index into `Isa::ALL`, or `UNSET`.
static CURRENT: AtomicU8 = AtomicU8::new(UNSET);
const UNSET: u8 = u8::MAX;

impl Level {
    /// The levels of this machine, best first.
    pub fn available() -> impl Iterator<Item = Level> {
        Isa::ALL.iter().copied().filter(|isa| isa.detected()).map(Level)
    }

    /// The name: `baseline`, `avx2` or `avx512`.
    ///
    /// The baseline is SSE2 on x86-64 and NEON on AArch64.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    /// The level with this name.
    ///
    /// # Errors
    ///
    /// [`Error::Level`] if this machine has no level with this name.
    pub fn named(name: &str) -> Result<Level, Error> {
        Level::find(name, "the CPU level")
    }

    fn find(name: &str, source: &'static str) -> Result<Level, Error> {
        Level::available().find(|level| level.name() == name).ok_or_else(|| Error::Level {
            source,
            name: name.to_owned(),
            available: Level::available().map(Level::name).collect(),
        })
    }

    /// The level at which updates run: the one last [`set`](Level::set), else the one named by the
    /// environment variable `THALWEG_CPU_LEVEL`, else the best.
    ///
    /// A variable that names no level of this machine is ignored here; [`Level::from_environment`]
    /// reports it.
    pub fn current() -> Level {
        let index = CURRENT.load(Ordering::Relaxed);
        match Isa::ALL.get(usize::from(index)) {
            Some(isa) => Level(*isa),
            None => Level::initial(),
        }
    }

    fn initial() -> Level {
        static INITIAL: OnceLock<Level> = OnceLock::new();
        *INITIAL.get_or_init(|| {
            let best = Level::available().next().unwrap_or(Level(Isa::Baseline));
            Level::from_environment().ok().flatten().unwrap_or(best)
        })
    }

    /// The level named by the environment variable `THALWEG_CPU_LEVEL`, if it is set.
    ///
    /// # Errors
    ///
    /// [`Error::Level`] if the variable names no level of this machine.
    pub fn from_environment() -> Result<Option<Level>, Error> {
        match std::env::var(LEVEL_VARIABLE) {
            Ok(name) if !name.is_empty() => Level::find(&name, LEVEL_VARIABLE).map(Some),
            _ => Ok(None),
        }
    }

    /// Makes this the level at which updates run.
    pub fn set(self) {
        let index = Isa::ALL.iter().position(|isa| *isa == self.0);
        CURRENT.store(index.map_or(UNSET, |i| i as u8), Ordering::Relaxed);
    }
}
