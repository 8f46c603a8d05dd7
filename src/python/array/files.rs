//! The bytes of a file that an array covers, from the operating system's table of mappings.
//!
//! Two mappings of one file have different addresses and the same bytes, so addresses do not show
//! that they overlap. The table lists every mapping, however it was made: `np.memmap`, `mmap`,
//! shared memory that is attached twice. On systems without the table, `thalweg.mapped.memmap`
//! reads the attributes of `np.memmap` instead.

use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::array::memory::Memory;
use crate::array::occupant::Occupant;
use crate::array::storage::storage_of;

const TABLE: &str = "/proc/self/maps";

/// Where an array's memory lies in a file.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Device and inode.
    pub file: (u64, u64),
    /// Offset in the file minus address, the same for a whole mapping.
    shift: usize,
    /// Whether a write here changes the file, and so other mappings. Writes to the file may change
    /// the memory here in either case.
    shared: bool,
}

impl Place {
    /// Whether two arrays in different mappings have bytes of a file in common, and a write to one
    /// of them changes the other. Within one mapping, addresses decide.
    pub fn conflict(one: (&Occupant<'_, '_>, Place), other: (&Occupant<'_, '_>, Place)) -> bool {
        let ((one, here), (other, there)) = (one, other);
        if here.file != there.file || here.shift == there.shift {
            return false;
        }
        (one.written && here.shared || other.written && there.shared)
            && here.of(one).meets(one.storage, &there.of(other), other.storage)
    }

    /// First offset in the file that the array covers, and the offset after the last.
    pub fn extent(&self, occupant: &Occupant<'_, '_>) -> (usize, usize) {
        self.of(occupant).extent(occupant.storage)
    }

    /// The array's memory, with addresses counted from the beginning of the file.
    fn of<'a>(&self, occupant: &Occupant<'a, '_>) -> Memory<'a> {
        let mut memory = Memory::of(occupant.array);
        memory.address = memory.address.wrapping_add(self.shift);
        memory
    }
}

/// The table of mappings, read on first use.
#[derive(Debug, Default)]
pub struct Maps {
    table: Option<Option<Vec<Mapping>>>,
}

#[derive(Debug)]
struct Mapping {
    start: usize,
    end: usize,
    place: Place,
}

impl Mapping {
    /// From a line `start-end permissions offset major:minor inode path`; `None` unless it maps a
    /// file.
    fn parse(line: &str) -> Option<Self> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (number(start)? as usize, number(end)? as usize);
        let shared = fields.next()?.ends_with('s');
        let offset = number(fields.next()?)? as usize;
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = number(major)? << 32 | number(minor)?;
        let inode = fields.next()?.parse().ok().filter(|inode| *inode != 0)?;
        let place = Place { file: (device, inode), shift: offset.wrapping_sub(start), shared };
        Some(Mapping { start, end, place })
    }
}

impl Maps {
    /// Whether the whole array lies in one shared mapping of a file. False without a table. Runs no
    /// Python code.
    pub fn is_shared(&mut self, array: &Bound<'_, PyUntypedArray>) -> bool {
        let Some(storage) = storage_of(array).filter(|_| Memory::lender(array).is_some()) else {
            return false;
        };
        let (low, high) = Memory::of(array).extent(storage);
        let mapping = self.table().and_then(|table| mapping_at(table, low));
        mapping.is_some_and(|mapping| mapping.place.shared && high <= mapping.end)
    }

    /// The place of an array that maps a file. Runs Python code if there is no table.
    pub fn place(&mut self, array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Place>> {
        if Memory::lender(array).is_none() {
            return Ok(None);
        }
        let Some(table) = self.table() else { return told(array) };
        let address = Memory::of(array).address.addr();
        Ok(mapping_at(table, address).map(|mapping| mapping.place))
    }

    fn table(&mut self) -> Option<&[Mapping]> {
        let table = self.table.get_or_insert_with(|| {
            let table = std::fs::read_to_string(TABLE).ok()?;
            Some(table.lines().filter_map(Mapping::parse).collect())
        });
        table.as_deref()
    }
}

/// The mapping that contains an address; the table is sorted.
fn mapping_at(table: &[Mapping], address: usize) -> Option<&Mapping> {
    let before = table.partition_point(|mapping| mapping.start <= address);
    table[..before].last().filter(|mapping| address < mapping.end)
}

/// The place of an array according to the attributes of its `np.memmap`.
fn told(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Place>> {
    static TOLD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let told = TOLD.import(array.py(), "thalweg.mapped.memmap", "file_place")?.call1((array,))?;
    let place: Option<(u64, u64, isize, bool)> = told.extract()?;
    Ok(place.map(|(device, inode, shift, shared)| Place {
        file: (device, inode),
        shift: shift.cast_unsigned(),
        shared,
    }))
}
