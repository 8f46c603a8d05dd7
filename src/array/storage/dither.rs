//! Dither: what state with few digits adds before the rest is cut off, so that it is right on
//! average. It depends on the step, and in blocks on the position in the block, so any cut of an
//! array gives the same bits.

/// Positions in a block that have words of their own; the words repeat.
pub(crate) const STRATA: usize = 16;

/// 2^32 divided by the plastic number: multiples of it fill the range evenly.
const STEP_WORD: u32 = 0xC13F_A9A9;
/// Between the words of neighbouring positions: sixteen strata, in an order that is no ramp.
const STRATUM: u32 = 0x9000_0000;

/// The words of one step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dither {
    /// Below 2^16, for all elements.
    pub(crate) word: u32,
    /// Below 2^20, by the position in a block.
    pub(crate) strata: [u32; STRATA],
}

impl Dither {
    /// The words of the parameter's update number `step`.
    pub(crate) fn at(step: u64) -> Self {
        let hash = hash32(step as u32 ^ (step >> 32) as u32);
        let stratum = |k: usize| hash.wrapping_add((k as u32).wrapping_mul(STRATUM)) >> 12;
        Dither {
            word: (step as u32).wrapping_mul(STEP_WORD) >> 16,
            strata: std::array::from_fn(stratum),
        }
    }
}

/// A mixer of 32 bits, by Chris Wellons (*Prospecting for Hash Functions*, "lowbias32").
fn hash32(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}
