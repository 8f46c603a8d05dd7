//! Context managers that undo their entry when they are freed, if they were not left.
//!
//! On Python 3.14 a signal that arrives at the end of `__enter__` raises before the block begins,
//! so `__exit__` is never called. The manager is then freed, and undoes its entry at that point.
//! The same holds for a manager that was entered by hand and not left.

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

    /// Calls `leave` if the manager is inside; for its `drop`. `drop` cannot raise, so a failure is
    /// reported as unraisable; an exception that is being raised is restored.
    pub fn undo(&self, leave: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if !self.get() {
            return;
        }
        // After the interpreter has ended, `try_attach` fails and nothing is undone.
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
