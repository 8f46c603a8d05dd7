//! Dense arrays of narrow storages, tile by tile: a kernel decodes and encodes their elements a
//! chunk at a time, without a buffer for the array.

use crate::array::prefetch;
use crate::array::storage::dither::Dither;
use crate::array::storage::e5m3::{self, Scale};
use crate::array::storage::{Companion, Decoding, Encoding};
use crate::number::element::Element as _;

/// Elements per chunk.
pub(crate) const CHUNK: usize = 16;
/// Elements per tile: a block of [`e5m3`].
pub(crate) const TILE: usize = e5m3::BLOCK;
/// Chunks per tile.
pub(crate) const CHUNKS: usize = TILE / CHUNK;

/// The numbers of a chunk.
pub(crate) type Chunk = [f32; CHUNK];
/// The numbers of a tile.
pub(crate) type Numbers = e5m3::Numbers;

/// A tile of an array.
pub(crate) trait Source {
    /// The numbers of a chunk.
    fn get(&self, chunk: usize) -> Chunk;

    /// As [`Source::get`], with zero for magnitudes below `floor`, a power of two that is not above
    /// the storage's own floor.
    fn flushed(&self, chunk: usize, floor: f32) -> Chunk;

    /// Prefetches a later tile.
    fn prefetch(&self);
}

/// A tile of an array that an update writes.
pub(crate) trait Place: Source {
    /// Takes note of the tile's new numbers, after the last is read and before the first is put.
    #[inline(always)]
    fn settle(&mut self, _numbers: &Numbers, _dither: &Dither) {}

    /// Puts the new numbers of a chunk.
    fn put(&mut self, chunk: usize, numbers: Chunk, dither: &Dither);
}

/// An array. Elements after the last whole tile are left out.
pub(crate) trait Array {
    type Tile: Source;

    /// Its tiles in order.
    fn tiles(self) -> impl Iterator<Item = Self::Tile>;
}

impl<S: Decoding<Element = f32>> Source for &[S; TILE] {
    #[inline(always)]
    fn get(&self, chunk: usize) -> Chunk {
        let stored = &self.as_chunks::<CHUNK>().0[chunk];
        let mut made = [0.0; CHUNK];
        for k in 0..CHUNK {
            made[k] = stored[k].decode();
        }
        made
    }

    #[inline(always)]
    fn flushed(&self, chunk: usize, floor: f32) -> Chunk {
        let stored = &self.as_chunks::<CHUNK>().0[chunk];
        let mut made = [0.0; CHUNK];
        for k in 0..CHUNK {
            made[k] = stored[k].flushed(floor);
        }
        made
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch::after(*self);
    }
}

impl<'a, S: Decoding<Element = f32>> Array for &'a [S] {
    type Tile = &'a [S; TILE];

    #[inline(always)]
    fn tiles(self) -> impl Iterator<Item = Self::Tile> {
        self.as_chunks().0.iter()
    }
}

impl<S: Decoding<Element = f32>> Source for &mut [S; TILE] {
    #[inline(always)]
    fn get(&self, chunk: usize) -> Chunk {
        (&**self).get(chunk)
    }

    #[inline(always)]
    fn flushed(&self, chunk: usize, floor: f32) -> Chunk {
        (&**self).flushed(chunk, floor)
    }

    #[inline(always)]
    fn prefetch(&self) {
        (&**self).prefetch();
    }
}

impl<S: Encoding<Element = f32>> Place for &mut [S; TILE] {
    #[inline(always)]
    fn put(&mut self, chunk: usize, numbers: Chunk, dither: &Dither) {
        let to = &mut self.as_chunks_mut::<CHUNK>().0[chunk];
        for k in 0..CHUNK {
            to[k] = S::encode(S::prepared(numbers[k]), dither);
        }
    }
}

impl<'a, S: Encoding<Element = f32>> Array for &'a mut [S] {
    type Tile = &'a mut [S; TILE];

    #[inline(always)]
    fn tiles(self) -> impl Iterator<Item = Self::Tile> {
        self.as_chunks_mut().0.iter_mut()
    }
}

/// Live numbers with what they lack.
pub(crate) struct Split<L, C> {
    pub(crate) live: L,
    pub(crate) low: C,
}

impl<S, C> Source for Split<&mut [S; TILE], &mut [C; TILE]>
where
    S: Decoding<Element = f32>,
    C: Companion,
{
    #[inline(always)]
    fn get(&self, chunk: usize) -> Chunk {
        let live = self.live.get(chunk);
        let low = &self.low.as_chunks::<CHUNK>().0[chunk];
        let mut made = [0.0; CHUNK];
        for k in 0..CHUNK {
            made[k] = low[k].join(live[k]);
        }
        made
    }

    #[inline(always)]
    fn flushed(&self, chunk: usize, floor: f32) -> Chunk {
        let mut made = self.get(chunk);
        for x in &mut made {
            *x = x.flush(floor);
        }
        made
    }

    #[inline(always)]
    fn prefetch(&self) {
        self.live.prefetch();
        prefetch::after(self.low);
    }
}

impl<S, C> Place for Split<&mut [S; TILE], &mut [C; TILE]>
where
    S: Encoding<Element = f32>,
    C: Companion,
{
    #[inline(always)]
    fn put(&mut self, chunk: usize, numbers: Chunk, dither: &Dither) {
        let mut prepared = [0.0; CHUNK];
        for k in 0..CHUNK {
            prepared[k] = S::prepared(numbers[k]);
        }
        let live = &mut self.live.as_chunks_mut::<CHUNK>().0[chunk];
        for k in 0..CHUNK {
            live[k] = S::encode(prepared[k], dither);
        }
        let low = &mut self.low.as_chunks_mut::<CHUNK>().0[chunk];
        for k in 0..CHUNK {
            low[k] = C::of(prepared[k]);
        }
    }
}

impl<'a, S, C> Array for Split<&'a mut [S], &'a mut [C]>
where
    S: Encoding<Element = f32>,
    C: Companion,
{
    type Tile = Split<&'a mut [S; TILE], &'a mut [C; TILE]>;

    #[inline(always)]
    fn tiles(self) -> impl Iterator<Item = Self::Tile> {
        let low = self.low.as_chunks_mut().0;
        self.live.tiles().zip(low).map(|(live, low)| Split { live, low })
    }
}

/// Blocks of codes with their exponents, made by [`e5m3::encode`].
pub(crate) struct Blocks<'a> {
    pub(crate) codes: &'a mut [u8],
    pub(crate) bases: &'a mut [u8],
}

/// One of [`Blocks`].
pub(crate) struct Block<'a> {
    codes: &'a mut [u8; TILE],
    base: &'a mut u8,
    /// Of the old numbers.
    floor: u32,
    /// Of the new numbers.
    scale: Scale,
}

impl Source for Block<'_> {
    #[inline(always)]
    fn get(&self, chunk: usize) -> Chunk {
        e5m3::numbers(&self.codes.as_chunks().0[chunk], self.floor)
    }

    /// What [`e5m3::encode`] makes is zero or not below the floor.
    #[inline(always)]
    fn flushed(&self, chunk: usize, _floor: f32) -> Chunk {
        self.get(chunk)
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch::after(self.codes);
    }
}

impl Place for Block<'_> {
    #[inline(always)]
    fn settle(&mut self, numbers: &Numbers, dither: &Dither) {
        self.scale = Scale::of(numbers, dither);
        *self.base = self.scale.base();
    }

    #[inline(always)]
    fn put(&mut self, chunk: usize, numbers: Chunk, _: &Dither) {
        self.codes.as_chunks_mut::<CHUNK>().0[chunk] = self.scale.codes(numbers);
    }
}

impl<'a> Array for Blocks<'a> {
    type Tile = Block<'a>;

    #[inline(always)]
    fn tiles(self) -> impl Iterator<Item = Self::Tile> {
        let codes = self.codes.as_chunks_mut().0;
        codes.iter_mut().zip(self.bases).map(|(codes, base)| Block {
            codes,
            floor: e5m3::floor(*base),
            base,
            scale: Scale::default(),
        })
    }
}
