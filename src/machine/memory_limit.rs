//! The memory limit: a loop with the memory traffic of an update and almost no arithmetic.
//!
//! On arrays larger than the caches, no update can be faster than this loop, so benchmarks report
//! times relative to it. It uses the same threads as an update.

use std::hint::black_box;
use std::sync::Mutex;

use crate::error::{Error, check_shape};
use crate::machine::levels::{Level, Work};
use crate::machine::pool;
use crate::machine::portions::portion;
use crate::machine::threads::useful_threads;
use crate::number::element::Element;

/// Elements per iteration of the loop.
const CHUNK: usize = 16;

/// A number whose bits can be combined with another's.
pub trait Word: Element {
    /// Bitwise exclusive or.
    fn xor(self, other: Self) -> Self;
}

impl Word for f32 {
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        f32::from_bits(self.to_bits() ^ other.to_bits())
    }
}

impl Word for f64 {
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        f64::from_bits(self.to_bits() ^ other.to_bits())
    }
}

/// Replaces each number of every written array by its exclusive or with the same element of `read`.
/// A second call undoes the first, so the loop can run on arrays that are in use.
///
/// # Errors
///
/// [`Error::Shape`] if lengths differ.
///
/// # Examples
///
/// ```
/// let (mut w, r) = ([1.0_f32, 2.0], [5.0, 5.0]);
/// thalweg::machine::memory_limit::stream([&mut w], &r, thalweg::Level::current(), 1)?;
/// assert_ne!(w, [1.0, 2.0]);
/// thalweg::machine::memory_limit::stream([&mut w], &r, thalweg::Level::current(), 1)?;
/// assert_eq!(w, [1.0, 2.0]);
/// # Ok::<(), thalweg::Error>(())
/// ```
pub fn stream<E: Word, const W: usize>(
    written: [&mut [E]; W],
    read: &[E],
    level: Level,
    threads: usize,
) -> Result<(), Error> {
    let len = read.len();
    for w in &written {
        check_shape("a written array", &[w.len()], &[len])?;
    }
    let threads = useful_threads(len, threads);
    let portion = portion(len, threads);
    let mut portions = Vec::with_capacity(len.div_ceil(portion));
    let mut rest = written;
    for read in read.chunks(portion) {
        let heads = rest.each_mut().map(|w| {
            let (head, tail) = std::mem::take(w).split_at_mut(read.len());
            *w = tail;
            head
        });
        portions.push(Mutex::new(Some(Portion { written: heads, read })));
    }
    pool::for_each(portions.len(), threads, |i| {
        if let Some(portion) = portions[i].lock().ok().and_then(|mut portion| portion.take()) {
            level.run(portion);
        }
    });
    Ok(())
}

struct Portion<'a, E, const W: usize> {
    written: [&'a mut [E]; W],
    read: &'a [E],
}

impl<E: Word, const W: usize> Work for Portion<'_, E, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (read, read_rest) = self.read.as_chunks::<CHUNK>();
        let mut written = self.written.map(|w| w.as_chunks_mut::<CHUNK>());
        for (i, r) in read.iter().enumerate() {
            // Hides the iteration from the compiler: with AVX-512 it otherwise combines sixteen
            // iterations and gathers their numbers one by one, which takes ten times as long.
            let r = black_box(r);
            for (chunks, _) in &mut written {
                let w = chunks[i];
                chunks[i] = std::array::from_fn(|k| w[k].xor(r[k]));
            }
        }
        for (_, rest) in &mut written {
            for (w, r) in rest.iter_mut().zip(read_rest) {
                *w = w.xor(*r);
            }
        }
    }
}
