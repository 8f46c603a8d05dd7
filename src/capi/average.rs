//! The averaged point of schedule-free AdamW, in the place of the parameter, and back.

use std::ffi::c_void;

use thalweg::array::layout::Order;
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::number::float_mode::in_default_mode;
use thalweg::rule::{AveragedPoint, Numbers, Swap, Update, rules};
use thalweg::update::plan::{Plan, Task};

use crate::checked::Checked;
use crate::overlap::check_overlaps;
use crate::refusal::{DONE, Refusal, guarded};
use crate::tensor::Tensor;
use crate::versioned::read_all;

/// `thalweg_average_begin`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_average_begin(
    tensors: *const Tensor,
    n: usize,
    kept: *const *mut c_void,
) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        unsafe {
            exchange(tensors, n, kept, |checked| {
                let [_, _, beta1] = checked.kept().map_or([0.0; 3], |kept| kept.get());
                match beta1 > 0.0 {
                    true => Ok(Numbers::from(AveragedPoint { beta1 })),
                    false => Err(Refusal::invalid("it has no average before its first update")),
                }
            })
        }
    })
}

/// `thalweg_average_end`.
///
/// # Safety
///
/// As the header says of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thalweg_average_end(
    tensors: *const Tensor,
    n: usize,
    kept: *const *mut c_void,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { exchange(tensors, n, kept, |_| Ok(Numbers::from(Swap))) })
}

/// Applies a rule to each parameter and what is kept of it.
///
/// # Safety
///
/// As [`thalweg_average_begin`].
unsafe fn exchange(
    tensors: *const Tensor,
    n: usize,
    kept: *const *mut c_void,
    numbers: impl Fn(&Checked<'_>) -> Result<Numbers, Refusal>,
) -> Result<i32, Refusal> {
    if n > 0 && (kept.is_null() || !kept.is_aligned()) {
        return Err(Refusal::invalid("kept must not be NULL"));
    }
    let rule = rules().find(|rule| rule.name == "ScheduleFreeAdamW");
    let rule = rule.ok_or_else(|| Refusal::invalid("there is no such rule"))?;
    let mut exchanged = Vec::with_capacity(n.min(65_536));
    // SAFETY: the caller's promise.
    for (position, tensor) in unsafe { read_all(tensors, n)? }.enumerate() {
        let tensor: &Tensor = tensor?;
        // SAFETY: the caller's promise.
        let kept = unsafe { kept.add(position).read() };
        let found = Checked::exchanged(tensor, kept);
        exchanged.push(found.map_err(|refusal| refusal.of(&tensor.what(position)))?);
    }
    let (mut all, mut updates): (Vec<Checked<'_>>, Vec<Update>) = (Vec::new(), Vec::new());
    for (position, tensor) in exchanged.iter().enumerate() {
        let refused = |refusal: Refusal| refusal.of(&tensor.what(position));
        let checked = Checked::average(tensor, rule).map_err(refused)?;
        let update = numbers(&checked).map_err(refused)?;
        let update = update.at_step(checked.storage().element(), 1, 1.0);
        updates.push(update.map_err(Refusal::from).map_err(refused)?);
        all.push(checked);
    }
    check_overlaps(&all, &mut Vec::new())?;
    let task = |(update, checked): (usize, &Checked<'_>)| {
        // SAFETY: the caller's promise; everything is checked.
        let tensor = unsafe { checked.bind(Order::Memory) };
        Task { tensor, update }
    };
    let mut tasks: Vec<Task<'_>> = all.iter().enumerate().map(task).collect();
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, num_threads().0);
    let work = || Plan::default().run(&mut tasks, &updates, Level::current(), threads);
    in_default_mode(|| fork::whole(work))?;
    Ok(DONE)
}
