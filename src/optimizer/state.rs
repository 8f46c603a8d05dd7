//! The state of one parameter, in memory of its own.

#![allow(unsafe_code)] // bytes of words

use crate::array::pointer::{ARRAYS, GRADIENT, LOW, Pointer, STATE};
use crate::array::storage::{Storage, e5m3};
use crate::rule::{Content, Format, HISTORY, History, StateSpec};

/// An array of state.
#[derive(Debug)]
pub(super) struct Array {
    pub name: &'static str,
    pub storage: Storage,
    pub len: usize,
    /// Words, so that elements of every storage are aligned.
    words: Vec<u64>,
}

impl Array {
    pub fn zeros(name: &'static str, storage: Storage, len: usize) -> Self {
        let words = vec![0; (len * storage.size()).div_ceil(size_of::<u64>())];
        Array { name, storage, len, words }
    }

    /// Its address; exclusive, because the elements may be written through it.
    pub fn address(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }

    /// Its elements.
    pub fn pointer(&mut self) -> Pointer {
        Pointer { address: self.address(), storage: self.storage }
    }

    /// Its elements, to be read.
    pub fn read_only(&self) -> Pointer {
        Pointer { address: self.words.as_ptr().cast_mut().cast(), storage: self.storage }
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the words have at least that many bytes, and any byte is a u8.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len_in_bytes()) }
    }

    /// The bytes in memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len_in_bytes();
        // SAFETY: as above, and the borrow is exclusive; any bytes are a word.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), len) }
    }

    fn len_in_bytes(&self) -> usize {
        self.len * self.storage.size()
    }
}

/// The state of a parameter, lent to a program that updates the parameter itself.
#[derive(Debug)]
pub struct State<'a>(pub(super) &'a mut Leaf);

impl State<'_> {
    /// Number of the parameter's next update, from 1.
    pub fn step(&self) -> u64 {
        self.0.step + 1
    }

    /// The array with this name in files, such as `"exp_avg"`, if the parameter has it. Its memory
    /// stays where it is until the optimizer loads a file or is dropped; no step may run while it
    /// is used.
    pub fn array(&mut self, name: &str) -> Option<Pointer> {
        let array = self.0.arrays.iter_mut().find(|array| array.name == name)?;
        Some(Pointer { address: array.address(), storage: array.storage })
    }
}

/// A parameter that has state.
#[derive(Debug)]
pub(super) struct Leaf {
    pub name: String,
    pub storage: Storage,
    pub shape: Vec<usize>,
    pub len: usize,
    /// Position of its groups.
    pub class: usize,
    /// Number of its updates.
    pub step: u64,
    /// The number of state arrays of the rule; they come first.
    pub states: usize,
    pub arrays: Vec<Array>,
    bases: Option<usize>,
    low: Option<usize>,
    history: Option<usize>,
}

impl Leaf {
    /// A parameter without an update; `specs` are its state arrays.
    pub fn new(
        name: &str,
        (storage, shape): (Storage, &[usize]),
        (specs, format): (&[StateSpec], Format),
        class: usize,
    ) -> Self {
        let len = shape.iter().product();
        let kept = |spec: &StateSpec| format.storage(spec.content, storage.whole(), len);
        let whole = specs.iter().map(|spec| Array::zeros(spec.name, kept(spec), len));
        let mut arrays: Vec<Array> = whole.collect();
        let states = arrays.len();
        let mut add = |name, storage, len| {
            arrays.push(Array::zeros(name, storage, len));
            arrays.len() - 1
        };
        let blocked = specs.iter().find(|spec| kept(spec) == Storage::E5M3);
        let bases = blocked.map(|spec| add(spec.base, Storage::E5M3, len.div_ceil(e5m3::BLOCK)));
        let low = (!storage.is_whole()).then(|| add("low", Storage::Low, len));
        let keeps_history = specs.iter().any(|spec| spec.content == Content::Point);
        let history = keeps_history.then(|| add("history", Storage::F64, HISTORY));
        let (name, shape) = (name.to_owned(), shape.to_vec());
        Leaf { name, storage, shape, len, class, step: 0, states, arrays, bases, low, history }
    }

    /// The pointers of a tensor: `p`, `g`, state, and what a narrow parameter lacks. Unused ones
    /// are the parameter's.
    pub fn pointers(&mut self, p: Pointer, g: Pointer) -> [Pointer; ARRAYS] {
        let mut pointers = [p; ARRAYS];
        pointers[GRADIENT] = g;
        for (pointer, array) in pointers[STATE..].iter_mut().zip(&mut self.arrays[..self.states]) {
            *pointer = Pointer { address: array.address(), storage: array.storage };
        }
        if let Some(low) = self.low {
            pointers[LOW] = Pointer { address: self.arrays[low].address(), storage: Storage::Low };
        }
        pointers
    }

    /// The exponents of blocks; null if there are none.
    pub fn bases(&mut self) -> *mut u8 {
        self.bases.map_or(std::ptr::null_mut(), |bases| self.arrays[bases].address())
    }

    /// Whether the parameter lacks digits that the state has.
    pub fn is_narrow(&self) -> bool {
        self.low.is_some()
    }

    /// Its history, if the rule keeps one.
    pub fn kept(&self) -> Option<History> {
        let bytes = self.arrays[self.history?].bytes();
        let (numbers, _) = bytes.as_chunks::<{ size_of::<f64>() }>();
        Some(std::array::from_fn(|k| f64::from_ne_bytes(numbers[k])))
    }

    /// What a narrow parameter lacks.
    pub fn low(&self) -> Option<&Array> {
        self.low.map(|low| &self.arrays[low])
    }

    /// The place of its history, if the rule keeps one.
    pub fn history(&mut self) -> Option<*mut [f64; HISTORY]> {
        self.history.map(|history| self.arrays[history].address().cast())
    }

    /// The shape that files give the array at a position.
    pub fn shape_of(&self, position: usize) -> Vec<usize> {
        let is_like = position < self.states || Some(position) == self.low;
        if is_like { self.shape.clone() } else { vec![self.arrays[position].len] }
    }
}
