//! The other processes of a sharded optimizer, reached by a Python function.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use thalweg::error::{Error, Quoted};
use thalweg::read::peers::Peers;
use thalweg::rule::Numbers;

use crate::interpreter::errors::Refusal;
use crate::model::Model;

/// The peers of a step. `gather` is called with bytes, and returns those of every process, in their
/// order.
pub struct Others<'a> {
    gather: &'a Py<PyAny>,
    /// A digest for each class of hyperparameters, and one of the numbers of updates; sent with the
    /// first numbers, so that processes with other ones do not take the step.
    digests: Vec<f64>,
    /// The name of a leaf of each class, if it has one.
    names: Vec<Option<String>>,
    number: u64,
    has_begun: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl<'a> Others<'a> {
    pub fn new(gather: &'a Py<PyAny>, model: &Model, numbers: &[Numbers], number: u64) -> Self {
        let mut names = vec![None; numbers.len()];
        for leaf in model.leaves.iter().rev().filter(|leaf| !model.classes[leaf.class].frozen) {
            names[leaf.class] = Some(leaf.name.clone());
        }
        let classes = numbers.iter().map(|numbers| digest(format!("{numbers:?}").bytes()));
        let leaves = model.leaves.iter().flat_map(|leaf| [leaf.class as u64, leaf.step]);
        let counts = digest(leaves.chain([number]).flat_map(u64::to_le_bytes));
        let digests = classes.chain([counts]).collect();
        let (has_begun, raised) = (AtomicBool::new(false), Mutex::default());
        Others { gather, digests, names, number, has_begun, raised }
    }

    /// The exception behind [`Error::Peers`], or the refusal of any other error.
    pub fn refusal(self, error: Error) -> Refusal {
        let raised = self.raised.into_inner().unwrap_or_default();
        match (error, raised) {
            (Error::Peers, Some(raised)) => Refusal::Python(raised),
            (error, _) => Refusal::Core { error, step: Some(self.number) },
        }
    }

    fn exchange(&self, py: Python<'_>, mine: &[f64]) -> PyResult<Vec<Vec<f64>>> {
        let first = !self.has_begun.swap(true, Ordering::Relaxed);
        let digests = if first { &self.digests[..] } else { &[] };
        let bytes: Vec<u8> = digests.iter().chain(mine).flat_map(|x| x.to_le_bytes()).collect();
        let all = self.gather.bind(py).call1((PyBytes::new(py, &bytes),))?;
        let mut numbers = Vec::new();
        for one in all.try_iter()? {
            let one = one?;
            let (chunks, _) = one.cast::<PyBytes>()?.as_bytes().as_chunks();
            numbers.push(chunks.iter().copied().map(f64::from_le_bytes).collect::<Vec<_>>());
        }
        if first {
            self.compare(&numbers)?;
            numbers.iter_mut().for_each(|one| drop(one.drain(..digests.len())));
        }
        Ok(numbers)
    }

    /// Refuses digests of a process that differ from those of the first one.
    fn compare(&self, all: &[Vec<f64>]) -> PyResult<()> {
        let len = self.digests.len();
        let ours = |one: &[f64]| one.get(..len).map(<[f64]>::to_vec);
        let Some(first) = all.first().and_then(|one| ours(one)) else {
            return Err(PyValueError::new_err("rank 0 has other groups than the other ranks"));
        };
        for (rank, one) in all.iter().enumerate() {
            let Some(digests) = ours(one) else {
                return Err(PyValueError::new_err(format!(
                    "rank {rank} has other groups than rank 0; nothing was changed on any rank"
                )));
            };
            let Some(class) = (0..len).find(|i| digests[*i].to_bits() != first[*i].to_bits())
            else {
                continue;
            };
            let what = match self.names.get(class) {
                None => "other numbers of updates".to_owned(),
                Some(Some(name)) => format!("other hyperparameters for {}", Quoted(name)),
                Some(None) => "other hyperparameters".to_owned(),
            };
            return Err(PyValueError::new_err(format!(
                "rank {rank} has {what} at step {} than rank 0; nothing was changed on any rank. \
                 Change groups, and call reset and load, on every rank alike",
                self.number
            )));
        }
        Ok(())
    }
}

impl Peers for Others<'_> {
    fn gather(&self, mine: &[f64]) -> Result<Vec<Vec<f64>>, Error> {
        Python::attach(|py| self.exchange(py, mine)).map_err(|error| {
            if let Ok(mut raised) = self.raised.lock() {
                *raised = Some(error);
            }
            Error::Peers
        })
    }
}

/// A digest (FNV-1a) with as many bits as a float64 holds exactly.
fn digest(bytes: impl Iterator<Item = u8>) -> f64 {
    let add = |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325, add);
    (sum >> 12) as f64
}
