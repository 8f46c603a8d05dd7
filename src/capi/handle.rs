//! What an optimizer holds, and what the calls that use one have in common.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use thalweg::number::element::Kind;
use thalweg::optimizer::{AnyRule, Optimizer, Settings};

use crate::checked::Checked;
use crate::options::Options;
use crate::overlap::check_overlaps;
use crate::refusal::{Refusal, guarded};
use crate::tensor::Tensor;
use crate::versioned::{read, read_all};

/// `thalweg_optimizer`.
#[derive(Debug)]
pub struct Handle(pub(crate) Mutex<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// `None` only while it is changed.
    pub(crate) optimizer: Option<Optimizer<AnyRule>>,
    /// The settings of all parameters, and those of groups.
    pub(crate) groups: Vec<Shared>,
}

/// Settings that the optimizer reads at each step.
pub(crate) type Shared = Arc<Mutex<AnyRule>>;

pub(crate) fn get(shared: &Shared) -> AnyRule {
    *shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn optimizer(&mut self) -> Result<&mut Optimizer<AnyRule>, Refusal> {
        self.optimizer.as_mut().ok_or_else(|| Refusal::invalid("the optimizer had a fault before"))
    }

    /// Changes the optimizer by one of its methods that make a new one.
    pub(crate) fn change(
        &mut self,
        change: impl FnOnce(Optimizer<AnyRule>) -> Optimizer<AnyRule>,
    ) -> Result<(), Refusal> {
        self.optimizer()?;
        self.optimizer = self.optimizer.take().map(change);
        Ok(())
    }

    /// Adds settings for the parameters whose names fit.
    pub(crate) fn add(&mut self, glob: &str, settings: AnyRule) -> Result<(), Refusal> {
        let shared = Arc::new(Mutex::new(settings));
        self.groups.push(Arc::clone(&shared));
        self.change(|optimizer| optimizer.group(glob, move |settings| *settings = get(&shared)))
    }
}

/// Options that are in range, and have rule and choices of `like`.
///
/// # Safety
///
/// `options` is null, or of such a struct.
pub(crate) unsafe fn settings(
    options: *const Options,
    like: Option<&Shared>,
) -> Result<AnyRule, Refusal> {
    // SAFETY: the caller's promise.
    let settings = unsafe { read(options)? }.settings()?;
    settings.numbers().at_step(Kind::F64, 1, 1.0)?;
    match like.and_then(|like| get(like).changed_choice(&settings)) {
        None => Ok(settings),
        Some(name) => Err(Refusal::invalid(format!("{name} must be that of the optimizer"))),
    }
}

/// Runs a call that uses an optimizer.
///
/// # Safety
///
/// `handle` is null or an optimizer that was not freed.
pub(crate) unsafe fn with(
    handle: *const Handle,
    work: impl FnOnce(&mut Inner) -> Result<i32, Refusal>,
) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle.as_ref() };
        let handle = handle.ok_or_else(|| Refusal::invalid("the optimizer must not be NULL"))?;
        let mut inner = match handle.0.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Refusal::invalid("another call uses the optimizer at this time"));
            }
        };
        work(&mut inner)
    })
}

/// A string of the caller.
///
/// # Safety
///
/// `text` is null or a string that lives for `'a`.
pub(crate) unsafe fn string<'a>(what: &str, text: *const c_char) -> Result<&'a CStr, Refusal> {
    match text.is_null() {
        true => Err(Refusal::invalid(format!("{what} must not be NULL"))),
        // SAFETY: the caller's promise.
        false => Ok(unsafe { CStr::from_ptr(text) }),
    }
}

/// A path of the caller.
///
/// # Safety
///
/// As [`string`].
pub(crate) unsafe fn path(text: *const c_char) -> Result<PathBuf, Refusal> {
    // SAFETY: the caller's promise.
    let text = unsafe { string("path", text)? };
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        Ok(std::ffi::OsStr::from_bytes(text.to_bytes()).into())
    }
    #[cfg(not(unix))]
    {
        text.to_str().map(PathBuf::from).map_err(|_| Refusal::invalid("path must be UTF-8"))
    }
}

/// A checked tensor with its name and shape.
pub(crate) type Named<'a> = (&'a str, Option<&'a [usize]>, Checked<'a>);

/// Tensors with their names, checked.
///
/// # Safety
///
/// `tensors` is null or of `n` such structs, whose strings and shapes live for `'a`.
pub(crate) unsafe fn checked<'a>(
    tensors: *const Tensor,
    n: usize,
    check: impl Fn(&'a Tensor) -> Result<Checked<'a>, Refusal>,
) -> Result<Vec<Named<'a>>, Refusal> {
    let mut all = Vec::with_capacity(n.min(65_536));
    // SAFETY: the caller's promise.
    for (position, tensor) in unsafe { read_all(tensors, n)? }.enumerate() {
        let tensor = tensor?;
        let refused = |refusal: Refusal| refusal.of(&tensor.what(position));
        all.push(check(tensor).map_err(refused)?);
    }
    check_overlaps(&all, &mut Vec::new())?;
    let named = |checked: Checked<'a>| {
        // SAFETY: the caller's promise.
        let (name, shape) = unsafe { (checked.given.name()?, checked.given.shape()?) };
        Ok((name.unwrap_or_default(), shape, checked))
    };
    all.into_iter().map(named).collect()
}
