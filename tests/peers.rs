//! Norms among peers, each of which has some whole blocks of every tensor, are those of one process.

#![allow(clippy::unwrap_used)] // a test that fails panics

use std::sync::{Barrier, Mutex};
use std::thread;

use thalweg::Level;
use thalweg::error::Error;
use thalweg::number::sums::BLOCK;
use thalweg::read::norm::{Input, ReadPass};
use thalweg::read::peers::Peers;

/// Peers in the threads of this process.
struct World {
    told: Mutex<Vec<Vec<f64>>>,
    barrier: Barrier,
}

struct Peer<'a> {
    rank: usize,
    world: &'a World,
}

impl Peers for Peer<'_> {
    fn gather(&self, mine: &[f64]) -> Result<Vec<Vec<f64>>, Error> {
        self.world.told.lock().unwrap()[self.rank] = mine.to_vec();
        self.world.barrier.wait();
        let all = self.world.told.lock().unwrap().clone();
        self.world.barrier.wait();
        Ok(all)
    }
}

/// Numbers between -1 and 1, times `size`.
fn drawn(len: usize, size: f64) -> Vec<f64> {
    let word = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    (0..len).map(|i| (word(i) as f64 / (1_u64 << 52) as f64 - 1.0) * size).collect()
}

#[test]
fn norms_are_those_of_whole_tensors() {
    for size in [1.0, 1e-200, 1e200] {
        let tensors = [drawn(5 * BLOCK + 77, size), drawn(3, size), drawn(2 * BLOCK, 1.0), vec![]];
        let inputs: Vec<_> = tensors.iter().map(|tensor| Input::from_slice(tensor)).collect();
        let mut alone = ReadPass::default();
        let whole = alone.read(&inputs, Level::current(), 2);
        for ranks in 1..5 {
            let world =
                World { told: Mutex::new(vec![vec![]; ranks]), barrier: Barrier::new(ranks) };
            let found = thread::scope(|scope| {
                let threads: Vec<_> = (0..ranks)
                    .map(|rank| {
                        scope.spawn({
                            let (world, tensors) = (&world, &tensors);
                            move || read(rank, ranks, world, tensors)
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            for (norm, each) in found {
                assert_eq!(norm.to_bits(), whole.of_scaled(1.0).to_bits());
                for (tensor, norm) in each.into_iter().enumerate() {
                    assert_eq!(norm.to_bits(), alone.norm_of(tensor).of_scaled(1.0).to_bits());
                }
            }
        }
    }
}

/// The norm of all tensors, and of each, from the blocks that one rank of several has.
fn read(rank: usize, ranks: usize, world: &World, tensors: &[Vec<f64>]) -> (f64, Vec<f64>) {
    let cut = |tensor: &[f64], rank: usize| {
        (tensor.len().div_ceil(BLOCK) * rank / ranks * BLOCK).min(tensor.len())
    };
    let parts: Vec<_> =
        tensors.iter().map(|t| Input::from_slice(&t[cut(t, rank)..cut(t, rank + 1)])).collect();
    let mut pass = ReadPass::default();
    let norm = pass.read_among(&parts, Level::current(), 1, &Peer { rank, world }).unwrap();
    (norm.of_scaled(1.0), (0..tensors.len()).map(|i| pass.norm_of(i).of_scaled(1.0)).collect())
}

#[test]
fn other_tensors_are_refused() {
    struct Other;
    impl Peers for Other {
        fn gather(&self, mine: &[f64]) -> Result<Vec<Vec<f64>>, Error> {
            Ok(vec![mine.to_vec(), mine[..1].to_vec()])
        }
    }
    let input = [Input::from_slice(&[1.0_f32; 9])];
    let found = ReadPass::default().read_among(&input, Level::current(), 1, &Other);
    assert_eq!(found, Err(Error::Peers));
}
