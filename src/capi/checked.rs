//! A parameter whose fields fit each other: types, lengths, alignment, overlap.

use std::ffi::c_void;

use thalweg::array::overlap::Elements;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, MAX_STATE, PARAMETER, Pointer, STATE};
use thalweg::array::storage::{Storage, e5m3};
use thalweg::rule::{Content, HISTORY, Rule, StateSpec, When};
use thalweg::step::kept::Kept;

use crate::refusal::Refusal;
use crate::tensor::{Tensor, dtype, refused_dtype, storage};

/// Arrays of a tensor: those of an update, exponents, and history.
const ALL: usize = ARRAYS + 2;
const BASES: usize = ARRAYS;
const HISTORY_ARRAY: usize = ARRAYS + 1;

/// Their names in messages.
pub(crate) const NAMES: [&str; ALL] =
    ["p", "g", "state[0]", "state[1]", "state[2]", "low", "bases", "history"];

/// A tensor whose fields fit each other.
#[derive(Debug)]
pub struct Checked<'a> {
    pub(crate) given: &'a Tensor,
    /// The arrays as the core has them: state arrays that are there side by side, and the parameter
    /// for unused ones.
    pub(crate) pointers: [Pointer; ARRAYS],
    /// Bytes from one row of them to the next.
    pub(crate) strides: [isize; ARRAYS],
    pub(crate) states: usize,
    /// Rows, and elements of each.
    pub(crate) shape: [usize; 2],
    /// Whether every array is contiguous.
    pub(crate) dense: bool,
    /// The arrays in the order of [`NAMES`].
    pub(crate) places: [Place; ALL],
}

/// Where an array lies; one that is not there has no bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// The lowest address.
    pub start: usize,
    /// Behind the highest address.
    pub end: usize,
    /// Bytes of a row.
    width: usize,
    /// Bytes from one row to the next, in the order of addresses.
    stride: isize,
}

impl<'a> Checked<'a> {
    /// A tensor whose arrays are still to be taken.
    pub fn new(tensor: &'a Tensor) -> Self {
        Checked {
            given: tensor,
            pointers: [Pointer { address: tensor.p.cast(), storage: Storage::F32 }; ARRAYS],
            strides: [0; ARRAYS],
            states: 0,
            shape: [1, tensor.len],
            dense: true,
            places: [Place::default(); ALL],
        }
    }

    /// Takes the parameter and, if it is used, its gradient.
    fn add_live(&mut self, gradient: bool) -> Result<(), Refusal> {
        let tensor = self.given;
        let (len, rows) = (tensor.len, tensor.rows);
        if rows > 0 && !len.is_multiple_of(rows) {
            let what = format!("len must be a multiple of rows, got {len} and {rows}");
            return Err(Refusal::invalid(what));
        }
        if rows > 0 {
            self.shape = [rows, len / rows];
        }
        // SAFETY: the caller of the library promises that NULL, or a string and a shape are there.
        unsafe {
            tensor.name()?;
            tensor.shape()?;
        }
        self.add(PARAMETER, PARAMETER, tensor.p, tensor.storage()?)?;
        self.pointers = [self.pointers[PARAMETER]; ARRAYS];
        self.strides = [self.strides[PARAMETER]; ARRAYS];
        match gradient {
            true => self.add(GRADIENT, GRADIENT, tensor.g.cast_mut(), tensor.grad_storage()?),
            false => Ok(()),
        }
    }

    /// A parameter for an optimizer and, if it is used, its gradient. Other fields must be zero.
    pub fn owned(tensor: &'a Tensor, gradient: bool) -> Result<Self, Refusal> {
        let no_state = tensor.state.iter().all(|state| state.is_null());
        let nothing_beside =
            tensor.low.is_null() && tensor.bases.is_null() && tensor.history.is_null();
        if !(no_state && nothing_beside) || tensor.state_dtype != [0; MAX_STATE] || tensor.step != 0
        {
            return Err(Refusal::invalid(
                "state, state_dtype, low, bases, history and step must be 0: the optimizer has them",
            ));
        }
        Checked::named(tensor, gradient)
    }

    /// As [`Checked::owned`], whatever the fields of state are.
    pub fn named(tensor: &'a Tensor, gradient: bool) -> Result<Self, Refusal> {
        if tensor.rows != 0 || tensor.group != 0 {
            return Err(Refusal::invalid(
                "rows and group must be 0: an optimizer takes contiguous arrays, and finds the group \
                 by the name",
            ));
        }
        if tensor.name.is_null() {
            return Err(Refusal::invalid(
                "name must not be NULL: an optimizer keeps state by name",
            ));
        }
        let mut made = Checked::new(tensor);
        made.add_live(gradient)?;
        Ok(made)
    }

    /// A parameter with the arrays of a rule. `needs` says whether it has a state array.
    pub fn of(
        tensor: &'a Tensor,
        rule: &Rule,
        needs: impl FnMut(&StateSpec) -> bool,
    ) -> Result<Self, Refusal> {
        let mut made = Checked::new(tensor);
        made.add_all(rule, needs)?;
        Ok(made)
    }

    /// Takes the arrays of a rule; `needs` says whether it has a state array.
    pub fn add_all(
        &mut self,
        rule: &Rule,
        mut needs: impl FnMut(&StateSpec) -> bool,
    ) -> Result<(), Refusal> {
        self.add_live(true)?;
        let (tensor, own) = (self.given, self.storage());
        for k in 0..MAX_STATE {
            let (address, dtype) = (tensor.state[k], tensor.state_dtype[k]);
            let spec = rule.state.get(k).filter(|spec| {
                let may_have = matches!(spec.when, When::Nonzero(_)) && !address.is_null();
                needs(spec) || may_have
            });
            let Some(spec) = spec else {
                self.lacks(k, rule)?;
                continue;
            };
            let found = storage(dtype, own.whole(), true);
            let found = found.filter(|storage| spec.content.allows(*storage, own.whole()));
            let found = found.ok_or_else(|| {
                let what = format!("state_dtype[{k}]");
                refused_dtype(&what, dtype, accepted(spec.content, own.whole()))
            })?;
            self.add(STATE + k, STATE + self.states, address, found)?;
            self.states += 1;
        }
        self.add_beside(rule)
    }

    /// The fields of a parameter of schedule-free AdamW, whose averaged point is exchanged with it: `z`
    /// in the place of the gradient, and what is `kept` of the parameter in that of the state.
    pub fn exchanged(tensor: &Tensor, kept: *mut c_void) -> Result<Tensor, Refusal> {
        let z = tensor.state[0];
        if tensor.len > 0 && (z.is_null() || kept.is_null()) {
            return Err(Refusal::invalid("state[0] and kept must not be NULL"));
        }
        let [p, _, of_z, second, third, low] = tensor.row_stride;
        Ok(Tensor {
            g: z,
            grad_dtype: dtype(tensor.storage()?.whole()),
            state: [kept, tensor.state[1], tensor.state[2]],
            row_stride: [p, of_z, 0, second, third, low],
            ..*tensor
        })
    }

    /// A parameter with these fields.
    pub fn average(exchanged: &'a Tensor, rule: &Rule) -> Result<Self, Refusal> {
        let mut made = Checked::of(exchanged, rule, |_| true)?;
        made.states = 1;
        made.pointers[STATE + 1] = made.pointers[PARAMETER];
        made.strides[STATE + 1] = made.strides[PARAMETER];
        Ok(made)
    }

    /// Refuses a state array that a rule or its choices do not have.
    fn lacks(&self, k: usize, rule: &Rule) -> Result<(), Refusal> {
        if self.given.state[k].is_null()
            && self.given.state_dtype[k] == 0
            && self.given.row_stride[STATE + k] == 0
        {
            return Ok(());
        }
        let why = match rule.state.get(k).map(|spec| (spec.name, spec.when)) {
            Some((name, When::Chosen(choice))) => {
                format!("{name} needs {}", choice.name())
            }
            Some((name, When::Nonzero(key))) => format!("{name} needs {}", key.name()),
            _ => format!("{} has no such state", rule.name),
        };
        let what = format!("state[{k}], its type and its row_stride must be 0: {why}");
        Err(Refusal::invalid(what))
    }

    /// Takes an array of the shape of the parameter; `k` is its position for the core.
    fn add(
        &mut self,
        at: usize,
        k: usize,
        address: *mut c_void,
        storage: Storage,
    ) -> Result<(), Refusal> {
        let (what, size, [rows, columns]) = (NAMES[at], storage.size(), self.shape);
        if address.is_null() && self.given.len > 0 {
            return Err(Refusal::invalid(format!("{what} must not be NULL")));
        }
        if !address.addr().is_multiple_of(size) {
            let what = format!("{what} must be aligned to its elements of {size} bytes");
            return Err(Refusal::invalid(format!("{what}, got {address:p}")));
        }
        let width = columns.checked_mul(size).and_then(|width| isize::try_from(width).ok());
        let Some(width) = width else { return Err(too_large(what)) };
        let given = self.given.row_stride[at];
        let stride = if given == 0 { width } else { given };
        let fits = stride.unsigned_abs().is_multiple_of(size)
            && (at == GRADIENT || rows == 1 || stride.unsigned_abs() >= width.unsigned_abs())
            && (given == 0 || self.given.rows > 0)
            && (storage != Storage::E5M3 || stride == width);
        if !fits {
            return Err(Refusal::invalid(format!(
                "row_stride[{at}], of {what}, must be 0 without rows and for E5M3; else a multiple of \
                 {size}, and at least a row's {width} bytes if the array is written, got {given}"
            )));
        }
        self.dense &= stride == width || rows == 1;
        self.pointers[k] = Pointer { address: address.cast(), storage };
        self.strides[k] = stride;
        let width = width.unsigned_abs();
        let reach = stride.unsigned_abs().checked_mul(rows - 1);
        let size = reach.and_then(|reach| reach.checked_add(width));
        let start = match (stride < 0, reach) {
            (true, Some(reach)) => address.addr().checked_sub(reach),
            _ => Some(address.addr()),
        };
        let bytes = start.zip(if width == 0 { Some(0) } else { size });
        self.place(at, bytes, (width, stride))
    }

    /// Takes what is beside arrays of the parameter's shape: what it lacks, exponents, history.
    fn add_beside(&mut self, rule: &Rule) -> Result<(), Refusal> {
        let Tensor { low, bases, history, row_stride, .. } = *self.given;
        let refused = |what: &str| Err(Refusal::invalid(what));
        if self.is_narrow() {
            self.add(LOW, LOW, low, Storage::Low)?;
        } else if !low.is_null() || row_stride[LOW] != 0 {
            return refused(
                "low and its row_stride must be 0: they are of a BFLOAT16 or FLOAT16 p",
            );
        }
        let has_blocks = self.pointers.iter().any(|pointer| pointer.storage == Storage::E5M3);
        match (has_blocks, bases.is_null()) {
            (true, true) if self.given.len > 0 => return refused("bases must not be NULL"),
            (true, _) => {
                let size = self.given.len.div_ceil(e5m3::BLOCK);
                self.place(BASES, Some((bases.addr(), size)), (size, 0))?;
            }
            (false, true) => {}
            (false, false) => {
                return refused("bases must be NULL: they are of a state of type E5M3");
            }
        }
        let keeps_history = rule.state.iter().any(|spec| spec.content == Content::Point);
        match (keeps_history, history.is_null()) {
            (true, true) => refused("history must not be NULL"),
            (true, false) if !history.is_aligned() => refused("history must be aligned to 8 bytes"),
            (true, false) => {
                let size = HISTORY * size_of::<f64>();
                self.place(HISTORY_ARRAY, Some((history.addr(), size)), (size, 0))
            }
            (false, true) => Ok(()),
            (false, false) => refused("history must be NULL: the rule has none"),
        }
    }

    /// Notes where an array lies, from its lowest address and its size in bytes; refused if it shares
    /// bytes with one before.
    #[inline]
    fn place(
        &mut self,
        at: usize,
        bytes: Option<(usize, usize)>,
        (width, stride): (usize, isize),
    ) -> Result<(), Refusal> {
        let bytes = bytes.filter(|(_, size)| isize::try_from(*size).is_ok());
        let end = bytes.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
        let (start, end) = end.ok_or_else(|| too_large(NAMES[at]))?;
        // Its rows are the same bytes in the other order.
        self.places[at] = Place { start, end, width, stride: stride.wrapping_abs() };
        match (0..at).find(|before| self.conflicts(at, self, *before)) {
            None => Ok(()),
            Some(before) => {
                Err(Refusal::invalid(format!("{} overlaps {}", NAMES[at], NAMES[before])))
            }
        }
    }

    /// The rows of an array; one that is not of the parameter's shape is one row.
    fn rows(&self, at: usize) -> Elements<'_> {
        let Place { start, width, stride, .. } = &self.places[at];
        let axes = usize::from(at < ARRAYS);
        let (shape, strides) = (&self.shape[..axes], &std::slice::from_ref(stride)[..axes]);
        Elements { address: *start, shape, strides, size: *width }
    }

    /// Whether an array shares a byte with one of another tensor or of this one, and one of them is
    /// written.
    #[inline]
    pub(crate) fn conflicts(&self, at: usize, other: &Checked<'_>, there: usize) -> bool {
        let (one, two) = (&self.places[at], &other.places[there]);
        one.start.max(two.start) < one.end.min(two.end)
            && (at != GRADIENT || there != GRADIENT)
            && self.rows(at).meets(&other.rows(there))
    }

    /// The storage of the parameter.
    pub fn storage(&self) -> Storage {
        self.pointers[PARAMETER].storage
    }

    /// Whether the parameter lacks digits.
    pub(crate) fn is_narrow(&self) -> bool {
        !self.storage().is_whole()
    }

    /// The numbers of a history, if it has them.
    pub fn kept(&self) -> Option<Kept> {
        // SAFETY: `add_beside` has checked address and alignment; the caller of the library promises
        // that the array lives during the call.
        (!self.given.history.is_null()).then(|| unsafe { Kept::at(self.given.history.cast()) })
    }
}

/// The types of a state array, as the header names them.
fn accepted(content: Content, whole: Storage) -> &'static str {
    match [Storage::Dithered, Storage::E5M3].map(|storage| content.allows(storage, whole)) {
        [true, true] => "0, THALWEG_BFLOAT16, THALWEG_E5M3",
        [true, false] => "0, THALWEG_BFLOAT16",
        _ => "0",
    }
}

fn too_large(what: &str) -> Refusal {
    Refusal::invalid(format!("{what} has more bytes than there are addresses"))
}
