//! The loop over tiles of narrow arrays: it decodes, updates and encodes without buffers in between.
//!
//! The two parts of a formula are separate passes over a tile, because the numbers of a block are
//! encoded by the largest of them. The second pass, in which the processor divides, also encodes.

use std::hint::black_box;

use crate::array::storage::dither::Dither;
use crate::array::tiles::{Array, CHUNK, CHUNKS, Place, Source};
use crate::rule::Formula;
use crate::update::kernel::Aligned;

/// Whether [`update`] is for this formula: in parts, with a first and a second moment.
pub(crate) const fn takes<F: Formula<f32, N>, const N: usize>() -> bool {
    F::IN_PARTS && N == 2
}

/// Updates every whole tile of `p` and the two state arrays in place. All arrays have as many.
///
/// Always inlined, so that [`crate::machine::levels`] compiles it for each CPU level.
#[inline(always)]
pub(crate) fn update<F: Formula<f32, N>, const N: usize>(
    formula: &F,
    dither: &Dither,
    p: impl Array<Tile: Place>,
    g: impl Array,
    (first, second): (impl Array<Tile: Place>, impl Array<Tile: Place>),
) {
    let (formula, dither) = (*formula, *dither);
    let mut new = Aligned([[[0.0; CHUNK]; CHUNKS]; 2]);
    // The black boxes keep the compiler from unrolling the passes over a tile, and from vectorising
    // over chunks instead of inside them.
    let chunks = || (0..black_box(CHUNKS)).map(|chunk| chunk % CHUNKS);
    for ((mut p, g), (mut m, mut v)) in
        p.tiles().zip(g.tiles()).zip(first.tiles().zip(second.tiles()))
    {
        p.prefetch();
        g.prefetch();
        m.prefetch();
        v.prefetch();
        let [new_m, new_v] = &mut new.0;
        for chunk in chunks() {
            let (new_m, new_v) = (black_box(&mut new_m[chunk]), &mut new_v[chunk]);
            let (old_p, g) = (p.get(chunk), g.get(chunk));
            let old = [m.flushed(chunk, F::FLOORS[0]), v.flushed(chunk, F::FLOORS[1])];
            let (mut fresh_m, mut fresh_v) = ([0.0; CHUNK], [0.0; CHUNK]);
            for k in 0..CHUNK {
                let mut state = [0.0; N];
                (state[0], state[1]) = (old[0][k], old[1][k]);
                let state = formula.state_of_flushed(old_p[k], g[k], state);
                (fresh_m[k], fresh_v[k]) = (state[0], state[1]);
            }
            m.put(chunk, fresh_m, &dither);
            (*new_m, *new_v) = (fresh_m, fresh_v);
        }
        v.settle(new_v, &dither);
        for chunk in chunks() {
            let (m, new_v) = (*black_box(&new_m[chunk]), new_v[chunk]);
            let old_p = p.get(chunk);
            let mut fresh = [0.0; CHUNK];
            for k in 0..CHUNK {
                let mut state = [0.0; N];
                (state[0], state[1]) = (m[k], new_v[k]);
                fresh[k] = formula.parameter(old_p[k], state);
            }
            p.put(chunk, fresh, &dither);
            v.put(chunk, new_v, &dither);
        }
    }
}
