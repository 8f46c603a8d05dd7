//! The record of progress of an optimizer whose arrays are files.
//!
//! Mapped arrays outlive the process in the state of its last write. The record, mapped too, tells
//! whether that is the state between two steps: a number is written before the first change of an
//! array and again after the last one, together with the counters. `thalweg.mapped.state_dir` makes
//! the file; `thalweg.mapped.found` interprets it when a directory is opened.

#![allow(unsafe_code)] // words of a mapped file, by address

use std::sync::atomic::{AtomicU64, Ordering, fence};

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::prelude::*;

use crate::array::memory::Memory;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::counters::Counts;
use thalweg::machine::fork;

/// Layout of the file: positions of words. A word is an unsigned 64-bit integer, little endian.
///
/// `thalweg.mapped.progress` makes a new record by these positions.
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
    /// First of the numbers of updates: one word per leaf, in the order of the sorted names.
    #[classattr]
    const STEPS: usize = 16;
    /// Value of `FLUSHED` after a write has begun since the last flush.
    #[classattr]
    const NOTHING: u64 = u64::MAX;
}

/// The record of a live optimizer.
#[derive(Debug)]
pub struct Record {
    array: Py<PyUntypedArray>,
    /// Owner of the memory, which the array cannot move.
    #[allow(dead_code)] // keeps the memory alive
    map: Py<PyAny>,
    words: Words,
    /// Generation of the process that may write.
    generation: u32,
    /// Nesting depth of writes: an open step contains others.
    depth: u32,
    /// Arrays are part old and part new, until a load replaces all of them.
    pub torn: bool,
    pub closed: bool,
    /// Whether the arrays are so large that a step releases their pages.
    pub releases: bool,
}

/// Words of the file, stored in little-endian order.
#[derive(Clone, Copy, Debug)]
struct Words {
    address: *const AtomicU64,
    len: usize,
}

// SAFETY: atomics in memory that the record keeps alive, through `map`.
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
        // SAFETY: `len` is the array's length, checked by `Record::new`; `map` keeps the words
        // alive.
        (word < self.len).then(|| unsafe { &*self.address.add(word) })
    }
}

impl Record {
    /// Takes over the words of a mapped file: the fixed ones and one per leaf.
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
        // An array that owns its memory could be resized.
        let Some(map) = Memory::lender(array).filter(|_| fits) else {
            return Err(Refusal::Value(
                "the progress record has another length or layout".to_owned(),
            ));
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

    /// Whether this is the process that writes. A forked child that leaves a `with` block of a step
    /// opened by its parent must not mark that step as finished.
    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Refuses writes in a forked child, and after `close`.
    pub fn check(&self) -> Outcome<()> {
        if !self.is_ours() {
            return Err(Refusal::Value(
                "this process is a fork of the one that trains in this state_dir; train in that \
                 process, or on copies (copy.deepcopy((params, opt)))"
                    .to_owned(),
            ));
        }
        if self.closed {
            return Err(Refusal::Value(
                "the optimizer is closed (opt.close()); make it again with the same state_dir"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    pub fn check_whole(&self) -> Outcome<()> {
        if self.torn {
            return Err(Refusal::Value(
                "parameters and state are partly old and partly new, because a step was \
                 interrupted; load a checkpoint with its parameters first (opt.load(path))"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Does, before the first write, everything that can be refused or can fail.
    ///
    /// Pages reach the disk in any order. So the first write after a flush is noted on the disk
    /// before it begins.
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

    /// Flushes the record itself to the disk.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.array.bind(py).call_method0("flush").map(drop)
    }

    /// Notes that a write begins.
    pub fn begin(&mut self) {
        if self.depth == 0 && self.is_ours() {
            self.words.set(Word::BEGUN, self.words.get(Word::BEGUN) + 1);
            fence(Ordering::SeqCst);
        }
        self.depth += 1;
    }

    /// Notes the counters. At the outermost level, also notes that the write is complete if
    /// `whole`.
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
