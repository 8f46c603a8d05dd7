//! Exchange of the parameters for their averaged points, and back.

#![allow(unsafe_code)] // binds checked arrays by address

use pyo3::prelude::*;
use thalweg::array::layout::Order;
use thalweg::array::pointer::{ARRAYS, GRADIENT, LOW, PARAMETER, STATE};
use thalweg::error::{Error, Quoted};
use thalweg::machine::fork;
use thalweg::machine::levels::Level;
use thalweg::machine::threads::{num_threads, useful_threads};
use thalweg::rule::{AveragedPoint, Numbers, Swap, Update};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::{Narrow, Tensor};

use crate::array::checks::Checked;
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::form::Part;
use crate::model::leaf::{Active, Leaf};
use crate::model::wording::Wording;
use crate::step::bind::history_of;
use crate::step::guarded::Guarded;

/// Writes the averaged point into each parameter that trains and has trained, and marks the
/// optimizer as held. Its leaves keep the numbers that the parameters had.
pub fn exchange(py: Python<'_>, guarded: &Guarded) -> Outcome<()> {
    guarded.inside(py, |model| {
        let model = model.ready()?;
        model.check_whole()?;
        let mut exchanged = Vec::new();
        for leaf in &model.written.leaves {
            let Some(active) = model.leaves[*leaf].active.as_ref() else { continue };
            if model.leaves[*leaf].step > 0 {
                let point = point(active)?;
                let numbers = point.zeros(active.p.array.bind(py))?;
                exchanged.push((*leaf, Checked::new(&numbers, point.storage)));
            }
        }
        // After the new arrays, because NumPy's Python code has made them.
        model.check_current(py)?;
        model.prepare_writing(py)?;
        let pairs = exchanged.iter().map(|(leaf, numbers)| (&model.leaves[*leaf], numbers));
        let (mut tasks, updates) = bound(py, model.options.wording, pairs, |active| {
            let [_, _, beta1] = history_of(py, active).ok_or_else(no_average)?.get();
            Ok(Numbers::from(AveragedPoint { beta1 }))
        })?;
        // Finished when the parameters are back, so that the record shows no whole state before.
        model.begin_writing();
        let done = run(py, &mut tasks, &updates, || {
            for (leaf, numbers) in exchanged {
                model.leaves[leaf].exchanged = Some(numbers);
            }
            model.held = true;
        });
        if done.is_err() {
            model.finish_writing(&guarded.counters);
        }
        done
    })
}

/// Gives the parameters back the numbers that they had, every bit.
pub fn give_back(py: Python<'_>, guarded: &Guarded) -> Outcome<()> {
    guarded.inside(py, |model| {
        model.prepare_writing(py)?;
        let pairs = model.leaves.iter().filter_map(|leaf| Some((leaf, leaf.exchanged.as_ref()?)));
        let swap = |_: &Active| Ok(Numbers::from(Swap));
        let (mut tasks, updates) = bound(py, model.options.wording, pairs, swap)?;
        run(py, &mut tasks, &updates, || model.held = false)?;
        model.leaves.iter_mut().for_each(|leaf| leaf.exchanged = None);
        model.finish_writing(&guarded.counters);
        Ok(())
    })
}

/// The array beside a parameter from which its averaged point is found.
fn point(active: &Active) -> Outcome<Part> {
    let first = active.form.parts().next();
    first.filter(|_| active.form.keeps_history()).ok_or_else(no_average)
}

fn no_average() -> Refusal {
    Refusal::Value("the rule of this optimizer averages no points".to_owned())
}

/// Each parameter, its point `z` and the numbers beside it, bound to the update of a rule.
fn bound<'m>(
    py: Python<'_>,
    wording: &Wording,
    pairs: impl Iterator<Item = (&'m Leaf, &'m Checked)>,
    rule: impl Fn(&Active) -> Outcome<Numbers>,
) -> Outcome<(Vec<Task<'static>>, Vec<Update>)> {
    let (mut tasks, mut updates) = (Vec::new(), Vec::new());
    for (update, (leaf, numbers)) in pairs.enumerate() {
        let active = leaf.active.as_ref().ok_or_else(no_average)?;
        let p = &active.p;
        let (own, _) = active.recheck(py, &leaf.name, wording)?;
        updates.push(rule(active)?.at_step(p.storage.element(), 1, 1.0)?);
        let (mut pointers, mut strides) = ([own[PARAMETER]; ARRAYS], [&p.strides[..]; ARRAYS]);
        (pointers[GRADIENT], strides[GRADIENT]) = (own[STATE], &active.state[0].strides);
        let copy = || format!("the copy of parameter {}", Quoted(&leaf.name));
        (pointers[STATE], strides[STATE]) = (numbers.recheck(py, "", copy)?, &numbers.strides);
        // SAFETY: the arrays were checked when they were taken in and again just now; they are
        // aligned and do not overlap. The optimizer and `numbers` keep them alive until the tasks
        // are done. The caller guarantees that no other thread resizes or writes them meanwhile.
        let tensor = unsafe {
            if let Some(low) = active.low() {
                (pointers[LOW], strides[LOW]) = (own[LOW], &low.strides);
                let low_of = Some(PARAMETER);
                let narrow = Narrow { step: 1, bases: std::ptr::null_mut(), low_of };
                Tensor::narrow(&p.shape, pointers, strides, 1, Order::Memory, narrow)
            } else {
                Tensor::new(&p.shape, pointers, strides, 1, Order::Memory)
            }
        };
        tasks.push(Task { tensor, update });
    }
    Ok((tasks, updates))
}

/// Runs the tasks, then `mark`; no fork comes between.
fn run(
    py: Python<'_>,
    tasks: &mut [Task<'_>],
    updates: &[Update],
    mark: impl FnOnce() + Send,
) -> Outcome<()> {
    let elements = tasks.iter().map(|task| task.tensor.len()).sum();
    let threads = useful_threads(elements, num_threads().0);
    let work = || {
        Plan::default().run(tasks, updates, Level::current(), threads)?;
        mark();
        Ok::<(), Error>(())
    };
    Ok(py.detach(|| fork::whole(work))?)
}
