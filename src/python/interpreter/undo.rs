//! Managers of `with` blocks that undo what they entered when nobody leaves the block.
//!
//! On Python 3.14 a signal that arrives at the end of `__enter__` raises before the block begins, so
//! `__exit__` is never called. The manager is freed then, and whoever entered and did not leave, by
//! hand too, is undone at that point.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

/// Whether a manager has entered and not left.
#[derive(Debug, Default)]
pub struct Inside(AtomicBool);

impl Inside {
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, inside: bool) {
        self.0.store(inside, Ordering::Relaxed);
    }

    /// Does `leave` if the manager is inside; for its `drop`. There is nobody to raise to, so a failure
    /// is reported as unraisable, and the exception on its way goes on.
    pub fn undo(&self, leave: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if !self.get() {
            return;
        }
        // Nothing can be undone once the interpreter has ended.
        let _ = Python::try_attach(|py| {
            let on_its_way = PyErr::take(py);
            if let Err(error) = leave(py) {
                error.write_unraisable(py, None);
            }
            if let Some(error) = on_its_way {
                error.restore(py);
            }
        });
    }
}
