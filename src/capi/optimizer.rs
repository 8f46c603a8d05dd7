//! State of parameters by name, and files.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use thalweg::array::pointer::{GRADIENT, PARAMETER};
use thalweg::array::storage::Storage;
use thalweg::optimizer::{Format, Param, State, Step as How};

use crate::checked::Checked;
use crate::handle::{self, Handle, Inner, checked, get, settings, string, with};
use crate::options::Options;
use crate::refusal::{DONE, Refusal, SKIPPED, guarded};
use crate::setting::{Found, Step};
use crate::tensor::{Tensor, dtype};

/// `thalweg_optimizer_new`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_new(
    optimizer: *mut *mut Handle,
    options: *const Options,
    state: i32,
) -> i32 {
    guarded(|| {
        if optimizer.is_null() || !optimizer.is_aligned() {
            return Err(Refusal::invalid("the place for the optimizer must not be NULL"));
        }
        // SAFETY: the caller's promise.
        let settings = unsafe { settings(options, None)? };
        let format = usize::try_from(state).ok().and_then(|state| Format::ALL.get(state));
        let format = *format.ok_or_else(|| {
            Refusal::invalid(format!(
                "state must be THALWEG_FULL, THALWEG_STATE_BFLOAT16 or THALWEG_COMPACT, got {state}"
            ))
        })?;
        let made = settings.optimizer().state(format);
        let made = made.map_err(|error| Refusal::from(error).of_state())?;
        let mut inner = Inner { optimizer: Some(made), groups: Vec::new() };
        inner.add("*", settings)?;
        // SAFETY: the caller's promise.
        unsafe { optimizer.write(Box::into_raw(Box::new(Handle(Mutex::new(inner))))) };
        Ok(DONE)
    })
}

/// `thalweg_optimizer_free`.
///
/// # Safety
///
/// `optimizer` is null or an optimizer that was not freed, and that no call uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_free(optimizer: *mut Handle) {
    guarded(|| {
        if !optimizer.is_null() {
            // SAFETY: the caller's promise; `thalweg_optimizer_new` made it from a box.
            drop(unsafe { Box::from_raw(optimizer) });
        }
        Ok(DONE)
    });
}

/// `thalweg_optimizer_group`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_group(
    optimizer: *mut Handle,
    glob: *const c_char,
    options: *const Options,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let glob = string("glob", glob)?.to_str();
            let glob = glob.map_err(|_| Refusal::invalid("glob must be UTF-8"))?;
            let settings = settings(options, inner.groups.first())?;
            if inner.optimizer()?.names().next().is_some() {
                return Err(Refusal::invalid("groups must be added before the first parameters"));
            }
            inner.add(glob, settings)?;
            Ok(DONE)
        })
    }
}

/// `thalweg_optimizer_set`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_set(
    optimizer: *mut Handle,
    group: usize,
    options: *const Options,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let settings = settings(options, inner.groups.first())?;
            let most = inner.groups.len() - 1;
            let shared = inner.groups.get(group).ok_or_else(|| {
                Refusal::invalid(format!("group must be at most {most}, got {group}"))
            })?;
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = settings;
            Ok(DONE)
        })
    }
}

/// `thalweg_optimizer_step`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_step(
    optimizer: *mut Handle,
    tensors: *const Tensor,
    n: usize,
    step: *mut Step,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let how = Step::given(step)?;
            let policy = how.policy()?;
            let given = How {
                scale: how.scale()?,
                max_norm: Step::limit("max_norm", how.max_norm)?,
                max_value: Step::limit("max_value", how.max_value)?,
                threads: how.threads()?,
            };
            let all = checked(tensors, n, |tensor| Checked::owned(tensor, true))?;
            let params = all.iter().map(|(name, shape, checked)| {
                let param = Param::new(name, checked.live(), checked.values(GRADIENT));
                match shape {
                    Some(shape) => param.shape(shape),
                    None => param,
                }
            });
            inner.change(|optimizer| optimizer.nonfinite(policy))?;
            let report = inner.optimizer()?.step(params, given)?;
            let found = Found {
                grad_norm: report.grad_norm,
                clip: report.clip,
                refused: report.nonfinite.iter().map(|(_, count)| count).sum(),
                overflowed: report.overflowed.len() as u64,
            };
            Step::write(step, &found);
            Ok(if report.skipped { SKIPPED } else { DONE })
        })
    }
}

/// `thalweg_optimizer_steps`.
///
/// # Safety
///
/// `optimizer` is null or an optimizer that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_steps(optimizer: *const Handle) -> u64 {
    let mut steps = 0;
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            steps = inner.optimizer()?.step_count();
            Ok(DONE)
        });
    }
    steps
}

/// `thalweg_optimizer_lend`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_lend(
    optimizer: *mut Handle,
    tensors: *mut Tensor,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let all = checked(tensors, n, |tensor| Checked::named(tensor, false))?;
            let rule = get(&inner.groups[0]).rule();
            let params = all.iter().map(|(name, shape, checked)| {
                let own = std::slice::from_ref(&checked.given.len);
                (*name, checked.storage(), shape.unwrap_or(own))
            });
            let states = inner.optimizer()?.lend(params)?;
            let mut place = tensors;
            for mut state in states {
                let tensor = &mut *place;
                fill(tensor, &mut state, rule.state.iter().map(|spec| (spec.name, spec.base)));
                place = place.byte_add(tensor.size);
            }
            Ok(DONE)
        })
    }
}

/// Writes addresses of state into a tensor.
fn fill<'s>(
    tensor: &mut Tensor,
    state: &mut State<'_>,
    specs: impl Iterator<Item = (&'s str, &'s str)>,
) {
    let whole = tensor.storage().map_or(Storage::F32, Storage::whole);
    let mut address =
        |name: &str| state.array(name).map(|pointer| (pointer.address, pointer.storage));
    let of = |found: Option<(*mut u8, Storage)>| found.map_or(std::ptr::null_mut(), |(at, _)| at);
    tensor.bases = std::ptr::null_mut();
    for (k, (name, base)) in specs.enumerate() {
        let found = address(name);
        tensor.state[k] = of(found).cast();
        let narrow = found.filter(|(_, storage)| *storage != whole);
        tensor.state_dtype[k] = narrow.map_or(0, |(_, storage)| dtype(storage));
        if let Some((bases, _)) = address(base) {
            tensor.bases = bases;
        }
    }
    tensor.low = of(address("low")).cast();
    tensor.history = of(address("history")).cast();
    tensor.step = state.step();
}

/// `thalweg_optimizer_count`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_count(
    optimizer: *mut Handle,
    tensors: *const Tensor,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let all = checked(tensors, n, |tensor| Checked::named(tensor, false))?;
            inner.optimizer()?.count(all.iter().map(|(name, ..)| *name))?;
            Ok(DONE)
        })
    }
}

/// `thalweg_optimizer_save`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_save(
    optimizer: *const Handle,
    path: *const c_char,
    tensors: *const Tensor,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let path = handle::path(path)?;
            let all = checked(tensors, n, |tensor| Checked::named(tensor, false))?;
            let params = all.iter().map(|(name, _, checked)| (*name, checked.values(PARAMETER)));
            inner.optimizer()?.save(path, params)?;
            Ok(DONE)
        })
    }
}

/// `thalweg_optimizer_load`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_optimizer_load(
    optimizer: *mut Handle,
    path: *const c_char,
    tensors: *const Tensor,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        with(optimizer, |inner| {
            let path = handle::path(path)?;
            let all = checked(tensors, n, |tensor| Checked::named(tensor, false))?;
            let params = all.iter().map(|(name, _, checked)| (*name, checked.live()));
            inner.optimizer()?.load(path, params)?;
            Ok(DONE)
        })
    }
}
