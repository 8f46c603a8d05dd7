//! The Python module `thalweg._core`, the only crate that knows Python.
//!
//! It reads arrays and trees, checks them, releases the interpreter lock, calls the core, and maps
//! refusals to exceptions. Constructors, groups, state dicts and most documentation are in
//! `python/thalweg`.
//!
//! From the lowest to the highest; a folder or file uses those above it:
//!
//! | folder or file | why it exists |
//! |---|---|
//! | `interpreter` | exceptions, interpreter exit, exclusive access, undo of `with` blocks |
//! | `array` | NumPy arrays: dtype, memory, overlap, checks |
//! | `values` | numbers, flags, strings and callables given by Python |
//! | `saved` | checkpoint files, and locks on directories |
//! | `model` | the contents of an optimizer: tree, state, classes, counters, record of progress |
//! | `step` | a step: gradients, one pass of checks, update, report |
//! | `restore`, `updater` | loading of saved state; arrays that are updated together |
//! | `optimizer`, `openstep`, `swapped` | the base class of optimizers, and the context managers |
//! | `functional`, `memory_limit` | functions of arrays, without an optimizer |

mod array;
mod functional;
mod interpreter;
mod memory_limit;
mod model;
mod openstep;
mod optimizer;
mod restore;
mod saved;
mod step;
mod swapped;
mod updater;
mod values;

use pyo3::prelude::*;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the Python module needs a 64-bit system: offsets in mapped files are addresses");

/// Native core of thalweg. It was not tested without the interpreter's lock, so it asks for it.
#[pymodule(gil_used = true)]
mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    use crate::array::storage::known;
    #[pymodule_export]
    use crate::functional::{apply, clip_by_global_norm, decay, global_norm};
    use crate::interpreter::errors::Refusal;
    use crate::interpreter::exit::Presence;
    #[pymodule_export]
    use crate::interpreter::exit::close;
    #[pymodule_export]
    use crate::interpreter::identity::holds;
    use crate::interpreter::types::loaded_modules;
    #[pymodule_export]
    use crate::memory_limit::stream_arrays;
    #[pymodule_export]
    use crate::model::record::Word;
    use crate::model::tree;
    #[pymodule_export]
    use crate::openstep::OpenStep;
    #[pymodule_export]
    use crate::optimizer::Optimizer;
    #[pymodule_export]
    use crate::saved::lock::{DirectoryLock, is_locked_here, replace_file, sync_directory};
    #[pymodule_export]
    use crate::saved::stored::{
        CheckpointFile, Stored, checkpoint_dtypes, checkpoint_header, write_checkpoint,
    };
    #[pymodule_export]
    use crate::step::report::{StepReport, TensorStats};
    #[pymodule_export]
    use crate::swapped::Swapped;
    #[pymodule_export]
    use crate::updater::Updater;
    use crate::values::hyper::{format, named, number, number_of_threads, rows_meaning, text};
    #[pymodule_export]
    use crate::values::scalars::{check_number, check_whole, half_cosine, power};
    use thalweg::machine::fork;
    use thalweg::machine::levels::Level;
    use thalweg::machine::threads::{self, Source};
    use thalweg::number::element::Kind;
    use thalweg::number::sums::BLOCK;
    use thalweg::rule::{self, Format, StateSpec, When};

    /// Refuses an environment variable with an invalid CPU level or number of threads.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        fork::watch();
        known(module.py());
        loaded_modules(module.py())?;
        Level::from_environment().map_err(Refusal::from)?;
        threads::threads_from_environment().map_err(Refusal::from)?;
        module.add("SUM_BLOCK", BLOCK)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// Leaves of a tree by name, without those that are None.
    #[pyfunction]
    fn flatten<'py>(tree: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let _presence = Presence::begin(tree.py());
        let flat = PyDict::new(tree.py());
        for (name, leaf) in tree::flatten(tree)? {
            if !leaf.is_none() {
                flat.set_item(name, leaf)?;
            }
        }
        Ok(flat)
    }

    /// The table of rules. For each name: its hyperparameters, its choices, and its state arrays as
    /// pairs of a name and a condition. The condition is None, a choice that must be made, or a
    /// hyperparameter that must not be 0.
    #[pyfunction]
    fn rules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let table = PyDict::new(py);
        for rule in rule::rules() {
            let hyperparameters: Vec<_> = rule.hyperparameters.iter().map(|h| h.name()).collect();
            let choices: Vec<_> = rule.choices.iter().map(|choice| choice.name()).collect();
            let needs = |state: &StateSpec| match state.when {
                When::Always => None,
                When::Chosen(choice) => Some(choice.name()),
                When::Nonzero(key) => Some(key.name()),
            };
            let state: Vec<_> = rule.state.iter().map(|state| (state.name, needs(state))).collect();
            table.set_item(rule.name, (hyperparameters, choices, state))?;
        }
        Ok(table)
    }

    /// Checks a hyperparameter's value; returns it as a float.
    #[pyfunction]
    fn check_hyperparameter(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
        let key = named(name)?;
        let number = number(value, || name.to_owned())?;
        Ok(key.check(number, Kind::F64).map_err(Refusal::from)?)
    }

    /// Checks the name of a format of state; returns it.
    #[pyfunction]
    fn check_state_format(value: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        Ok(format(value).map(Format::name)?)
    }

    /// Checks the meaning of rows; returns it.
    #[pyfunction]
    fn check_rows(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        rows_meaning(&value)?;
        Ok(value)
    }

    /// Sets the maximum number of threads for updates.
    #[pyfunction]
    fn set_num_threads(n: &Bound<'_, PyAny>) -> PyResult<()> {
        let n = number_of_threads(n, "the number of threads")?;
        Ok(threads::set_num_threads(n).map_err(Refusal::from)?)
    }

    /// Maximum number of threads for updates.
    #[pyfunction]
    fn get_num_threads() -> usize {
        threads::num_threads().0
    }

    /// Source of the number of threads: a function, an environment variable, or the machine.
    #[pyfunction]
    fn num_threads_source() -> &'static str {
        match threads::num_threads().1 {
            Source::Set => "thalweg.set_num_threads",
            Source::Variable(name) => name,
            Source::Machine => "CPU affinity and cgroup quota",
        }
    }

    /// Sets the CPU level of updates.
    #[pyfunction]
    fn set_cpu_level(level: &Bound<'_, PyAny>) -> PyResult<()> {
        let level = text("the CPU level", level)?;
        Level::named(&level).map_err(Refusal::from)?.set();
        Ok(())
    }

    /// Name of the CPU level of updates.
    #[pyfunction]
    fn get_cpu_level() -> &'static str {
        Level::current().name()
    }

    /// Names of the CPU levels available on this machine, best first.
    #[pyfunction]
    fn cpu_levels() -> Vec<&'static str> {
        Level::available().map(Level::name).collect()
    }
}
