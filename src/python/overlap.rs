//! Which arrays have memory in common: candidates by address, then an exact answer.

use std::collections::HashMap;

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::arrays::plain;
use super::maps::{Maps, Place};
use super::memory::Memory;
use crate::element::Kind;

/// Where arrays lie that are written, to find what might overlap them.
#[derive(Debug, Default)]
pub struct Extents {
    /// Start, end and owner, by start.
    spans: Vec<(usize, usize, usize)>,
    /// The largest end up to each span.
    reach: Vec<usize>,
}

impl Extents {
    /// The extents of arrays; owners are their positions.
    pub fn of(arrays: &[Occupant<'_, '_>]) -> Self {
        let span = |(owner, occupant): (usize, &Occupant<'_, '_>)| {
            let (start, end) = Memory::of(occupant.array).extent(occupant.kind);
            (start, end, owner)
        };
        Extents::new(arrays.iter().enumerate().map(span).collect())
    }

    fn new(mut spans: Vec<(usize, usize, usize)>) -> Self {
        spans.retain(|(start, end, _)| start < end);
        spans.sort_unstable();
        let reach = spans.iter().scan(0, |reach, span| {
            *reach = span.1.max(*reach);
            Some(*reach)
        });
        Extents { reach: reach.collect(), spans }
    }

    /// The owners of spans that meet `start..end`.
    pub fn meeting(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let below = self.spans.partition_point(|span| span.0 < end);
        (0..below)
            .rev()
            .take_while(move |i| self.reach[*i] > start && start < end)
            .filter(move |i| self.spans[*i].1 > start)
            .map(|i| self.spans[i].2)
    }
}

/// An array among others that must not overlap.
#[derive(Clone, Copy)]
pub struct Occupant<'a, 'py> {
    pub array: &'a Bound<'py, PyUntypedArray>,
    pub kind: Kind,
    pub written: bool,
}

/// Positions of the first two arrays, one of them written, that have an element in common.
///
/// Intervals of addresses only find candidates: columns of one matrix share a range and no element.
pub fn first_overlap(arrays: &[Occupant<'_, '_>]) -> PyResult<Option<(usize, usize)>> {
    let extents = Extents::of(arrays);
    for (position, later) in arrays.iter().enumerate() {
        let (start, end) = Memory::of(later.array).extent(later.kind);
        for candidate in extents.meeting(start, end).filter(|other| *other < position) {
            let earlier = &arrays[candidate];
            if (earlier.written || later.written) && share_memory(earlier, later)? {
                return Ok(Some((candidate, position)));
            }
        }
    }
    first_file_overlap(arrays)
}

/// The same for arrays that map the same bytes of a file at different addresses.
fn first_file_overlap(arrays: &[Occupant<'_, '_>]) -> PyResult<Option<(usize, usize)>> {
    let mut files: HashMap<_, Vec<(usize, Place)>> = HashMap::new();
    for (position, place) in mapped(arrays)? {
        files.entry(place.file).or_default().push((position, place));
    }
    let mut first = None;
    for mapped in files.values() {
        let span = |(owner, (position, place)): (usize, &(usize, Place))| {
            let (start, end) = place.extent(&arrays[*position]);
            (start, end, owner)
        };
        let extents = Extents::new(mapped.iter().enumerate().map(span).collect());
        for (i, (later, place)) in mapped.iter().enumerate() {
            let (start, end) = place.extent(&arrays[*later]);
            for earlier in extents.meeting(start, end).filter(|earlier| *earlier < i) {
                let (other, there) = mapped[earlier];
                if Place::conflict((&arrays[other], there), (&arrays[*later], *place)) {
                    first = [first, Some((*later, other))].into_iter().flatten().min();
                }
            }
        }
    }
    Ok(first.map(|(later, earlier)| (earlier, later)))
}

/// Positions of the arrays that map files, with their places there.
pub fn mapped(arrays: &[Occupant<'_, '_>]) -> PyResult<Vec<(usize, Place)>> {
    let mut maps = Maps::default();
    let mut found = Vec::new();
    for (position, occupant) in arrays.iter().enumerate() {
        found.extend(maps.place(occupant.array)?.map(|place| (position, place)));
    }
    Ok(found)
}

/// Whether two arrays have an element in common, exactly. Where strides do not show it NumPy decides.
pub fn share_memory(one: &Occupant<'_, '_>, other: &Occupant<'_, '_>) -> PyResult<bool> {
    static SHARES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if Memory::of(one.array).interleaves(one.kind, &Memory::of(other.array), other.kind) {
        return Ok(false);
    }
    let arrays = (plain(one.array)?, plain(other.array)?);
    SHARES.import(one.array.py(), "numpy", "shares_memory")?.call1(arrays)?.extract()
}
