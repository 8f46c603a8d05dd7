//! The record of progress of an optimizer whose arrays are files.
//!
//! Mapped arrays survive the process in whatever state it left them. The record, mapped too, tells
//! whether that is the state between two steps: a number is put down before the first write and
//! again after the last, together with the counters. `thalweg.mapped.state_dir` makes the file, and
//! says on opening what it means.

#![allow(unsafe_code)] // words of a mapped file, by address

use std::sync::atomic::{AtomicU64, Ordering, fence};

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::prelude::*;

use crate::array::memory::Memory;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::counters::Counts;
use thalweg::machine::fork;

/// The layout of the file: positions of words. A word is unsigned, little endian, and has 8 bytes.
///
/// `thalweg.mapped.progress` writes a new record by these positions.
#[pyclass(module = "thalweg._core", frozen)]
#[derive(Debug)]
pub struct Word;

#[pymethods]
impl Word {
    #[classattr]
    const MAGIC: usize = 0;
    #[classattr]
    const FORMAT: usize = 1;
    #[classattr]
    const MODEL: usize = 2;
    #[classattr]
    const BOOT: usize = 3;
    #[classattr]
    const BEGUN: usize = 4;
    #[classattr]
    const FINISHED: usize = 5;
    #[classattr]
    const FLUSHED: usize = 6;
    /// Three words: steps, skips, skips since the last step.
    #[classattr]
    const COUNTERS: usize = 7;
    /// A 64-bit float.
    #[classattr]
    const WEIGHT: usize = 10;
    #[classattr]
    const LEAVES: usize = 11;
    /// Numbers of updates from here on, one word a leaf in the order of the sorted names.
    #[classattr]
    const STEPS: usize = 16;
    /// The value of `FLUSHED` once writing has begun again.
    #[classattr]
    const NOTHING: u64 = u64::MAX;
}

/// A record that is kept while the optimizer lives.
#[derive(Debug)]
pub struct Record {
    array: Py<PyUntypedArray>,
    /// Has the memory, which the array cannot move.
    #[allow(dead_code)] // held
    map: Py<PyAny>,
    words: Words,
    /// That the process has which may write.
    generation: u32,
    /// How many of what writes are in progress; a step that is open holds others.
    depth: u32,
    /// Arrays are part old and part new, until somebody says that they are whole again.
    pub torn: bool,
    pub closed: bool,
    /// Whether arrays are so large that their pages are let go of behind a step.
    pub releases: bool,
}

/// Words of the file, in little-endian order.
#[derive(Clone, Copy, Debug)]
struct Words {
    address: *const AtomicU64,
    len: usize,
}

// SAFETY: atomics in memory that the record keeps alive.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    fn get(&self, word: usize) -> u64 {
        u64::from_le(self.at(word).map_or(0, |word| word.load(Ordering::Acquire)))
    }

    fn set(&self, word: usize, value: u64) {
        if let Some(word) = self.at(word) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    fn at(&self, word: usize) -> Option<&AtomicU64> {
        // SAFETY: `Record::new` checked that there are so many words, and `map` keeps them alive.
        (word < self.len).then(|| unsafe { &*self.address.add(word) })
    }
}

impl Record {
    /// Takes over the words of a mapped file; as many as there are leaves, and what goes before.
    pub fn new(
        array: &Bound<'_, PyUntypedArray>,
        leaves: usize,
        (torn, releases): (bool, bool),
    ) -> Outcome<Self> {
        let memory = Memory::of(array);
        let fits = memory.len() == Word::STEPS + leaves
            && array.dtype().is_equiv_to(&dtype::<u64>(array.py()))
            && memory.writable()
            && memory.aligned()
            && memory.c_contiguous();
        // An array that owns its memory can be resized.
        let Some(map) = Memory::lender(array).filter(|_| fits) else {
            return Err(Refusal::Value("the record of progress does not fit".to_owned()));
        };
        let words = Words { address: memory.address.cast::<AtomicU64>(), len: memory.len() };
        Ok(Record {
            array: array.clone().unbind(),
            map: map.unbind(),
            words,
            generation: fork::generation(),
            depth: 0,
            torn,
            closed: false,
            releases,
        })
    }

    /// Whether this is the process that writes: a child that leaves the block of a step that its
    /// parent opened must not say that it is done.
    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Refuses where nothing may be written any more.
    pub fn check(&self) -> Outcome<()> {
        if !self.is_ours() {
            return Err(Refusal::Value(
                "this process was forked from the one that trains the arrays of this state_dir, \
                 which they belong to; train in that process, or on copies (copy.deepcopy((params, \
                 opt)))"
                    .to_owned(),
            ));
        }
        if self.closed {
            return Err(Refusal::Value(
                "the optimizer was closed (opt.close()); make it again with the same state_dir"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    pub fn check_whole(&self) -> Outcome<()> {
        if self.torn {
            return Err(Refusal::Value(
                "parameters and state are part old and part new, because a step was cut short; \
                 load a checkpoint with its parameters first (opt.load(path))"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// What can be refused or fail before the first write.
    ///
    /// Pages reach the disk in any order, so that something is written after all was flushed must be
    /// on the disk before any of it is.
    pub fn prepare(&self, py: Python<'_>) -> Outcome<()> {
        self.check()?;
        let words = &self.words;
        let flushed = words.get(Word::FLUSHED);
        if flushed == Word::NOTHING {
            return Ok(());
        }
        words.set(Word::FLUSHED, Word::NOTHING);
        self.sync(py).map_err(|error| {
            words.set(Word::FLUSHED, flushed);
            Refusal::Python(error)
        })
    }

    /// Puts the record itself on the disk.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.array.bind(py).call_method0("flush").map(drop)
    }

    /// Puts down that writing begins.
    pub fn begin(&mut self) {
        if self.depth == 0 && self.is_ours() {
            self.words.set(Word::BEGUN, self.words.get(Word::BEGUN) + 1);
            fence(Ordering::SeqCst);
        }
        self.depth += 1;
    }

    /// Puts down what was counted, and with the outermost that all is `whole`, if it is.
    pub fn finish(&mut self, counts: Counts, steps: impl Iterator<Item = u64>, whole: bool) {
        if !self.is_ours() {
            return;
        }
        let (taken, skips, consecutive, weight) = counts;
        for (word, value) in [taken, skips, consecutive].into_iter().enumerate() {
            self.words.set(Word::COUNTERS + word, value);
        }
        self.words.set(Word::WEIGHT, weight.to_bits());
        for (leaf, step) in steps.enumerate() {
            self.words.set(Word::STEPS + leaf, step);
        }
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 && whole && !self.torn {
            fence(Ordering::SeqCst);
            self.words.set(Word::FINISHED, self.words.get(Word::BEGUN));
        }
    }
}
