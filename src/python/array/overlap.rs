//! Overlap of arrays: intervals of addresses give candidates, then an exact test decides. Python
//! code runs only on systems without a table of mappings.

use std::collections::HashMap;

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use crate::array::files::{Maps, Place};
use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::storage::storage_of;

/// Number of spans that are tried beside a guess, before a search of all.
const NEAR: usize = 4;

/// Intervals of addresses of arrays, to find those that may overlap another array.
#[derive(Debug, Default)]
pub struct Extents {
    /// Start, end and owner, sorted by start.
    spans: Vec<(usize, usize, usize)>,
    /// The largest end among each span and those before it.
    reach: Vec<usize>,
}

impl Extents {
    /// The intervals of arrays; an owner is a position in `arrays`.
    pub fn of(arrays: &[Occupant<'_, '_>]) -> Self {
        let span = |(owner, occupant): (usize, &Occupant<'_, '_>)| {
            let (start, end) = Memory::of(occupant.array).extent(occupant.storage);
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
        self.meeting_near(&mut 0, start, end)
    }

    /// As [`Extents::meeting`]. `below` is the number of spans that start before the `end` of the
    /// call before, where the search begins: arrays of one kind mostly lie side by side.
    pub fn meeting_near(
        &self,
        below: &mut usize,
        start: usize,
        end: usize,
    ) -> impl Iterator<Item = usize> + use<'_> {
        *below = self.starting_below(*below, end);
        (0..*below)
            .rev()
            .take_while(move |i| self.reach[*i] > start && start < end)
            .filter(move |i| self.spans[*i].1 > start)
            .map(|i| self.spans[i].2)
    }

    /// The number of spans that start below `end`, searched from a guess.
    fn starting_below(&self, guess: usize, end: usize) -> usize {
        let mut below = guess;
        for _ in 0..NEAR {
            if self.spans.get(below).is_some_and(|span| span.0 < end) {
                below += 1;
            } else if below > 0 && self.spans[below - 1].0 >= end {
                below -= 1;
            } else {
                return below;
            }
        }
        self.spans.partition_point(|span| span.0 < end)
    }
}

/// Positions of the first two arrays, at least one of them written, that have a byte in common.
///
/// Intervals of addresses only give candidates: columns of one matrix share an interval and no
/// element.
pub fn first_overlap(arrays: &[Occupant<'_, '_>]) -> Option<(usize, usize)> {
    let extents = Extents::of(arrays);
    arrays.iter().enumerate().find_map(|(position, later)| {
        let (start, end) = Memory::of(later.array).extent(later.storage);
        let shares =
            |earlier: &Occupant<'_, '_>| (earlier.written || later.written) && earlier.meets(later);
        let mut candidates = extents.meeting(start, end).filter(|other| *other < position);
        Some((candidates.find(|other| shares(&arrays[*other]))?, position))
    })
}

/// Positions of the arrays that map files, and their places there. May run Python code.
pub fn mapped(arrays: &[Occupant<'_, '_>]) -> PyResult<Vec<(usize, Place)>> {
    let mut maps = Maps::default();
    let mut found = Vec::new();
    for (position, occupant) in arrays.iter().enumerate() {
        found.extend(maps.place(occupant.array)?.map(|place| (position, place)));
    }
    Ok(found)
}

/// As [`first_overlap`], for arrays that map the same bytes of a file at different addresses.
pub fn first_in_files(
    arrays: &[Occupant<'_, '_>],
    mapped: &[(usize, Place)],
) -> Option<(usize, usize)> {
    let mut files: HashMap<_, Vec<(usize, Place)>> = HashMap::new();
    for (position, place) in mapped {
        files.entry(place.file).or_default().push((*position, *place));
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
    first.map(|(later, earlier)| (earlier, later))
}

/// As [`first_in_files`], for objects with whether each is written; those that are not arrays are
/// ignored. May run Python code, so it comes before the arrays are checked.
pub fn first_file_overlap<'a, 'py: 'a>(
    objects: impl Iterator<Item = (&'a Bound<'py, PyAny>, bool)>,
) -> PyResult<Option<(usize, usize)>> {
    let occupant = |(position, (object, written)): (usize, (&'a Bound<'py, PyAny>, bool))| {
        let array = object.cast::<PyUntypedArray>().ok()?;
        Some((position, Occupant { array, storage: storage_of(array)?, written }))
    };
    let (positions, arrays): (Vec<_>, Vec<_>) = objects.enumerate().filter_map(occupant).unzip();
    let mapped = mapped(&arrays)?;
    let found = first_in_files(&arrays, &mapped);
    Ok(found.map(|(earlier, later)| (positions[earlier], positions[later])))
}
