//! An optimizer with the type of its settings: what users call.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use super::error::Error;
use super::file::Loaded;
use super::groups::{Groups, Pattern};
use super::held::{Held, Skips};
use super::param::{Live, Param, Values};
use super::settings::Settings;
use super::state::State;
use super::step::{Report, Step};
use crate::array::storage::Storage;
use crate::rule::{Format, rules};
use crate::step::setting::Policy;

/// An optimizer with the state of its parameters.
///
/// ```
/// use thalweg::optimizer::{AdamW, Format, Policy, Step};
///
/// let mut opt = AdamW::default().optimizer().state(Format::Bfloat16)?.nonfinite(Policy::Skip);
/// let (mut p, g) = ([1.0_f32, 2.0], [f32::NAN, 0.0]);
/// let report = opt.step([("p", &mut p[..], &g[..])], Step::default())?;
/// assert!(report.skipped);
/// assert_eq!(report.nonfinite, [("p".to_owned(), 1)]);
/// assert_eq!((p, opt.step_count(), opt.skips().total), ([1.0, 2.0], 0, 1));
/// # Ok::<(), thalweg::optimizer::Error>(())
/// ```
pub struct Optimizer<R> {
    source: Groups<R>,
    held: Held,
}

impl<R: fmt::Debug> fmt::Debug for Optimizer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Optimizer")
            .field("settings", &self.source.settings)
            .field("parameters", &self.held.leaves.len())
            .field("step_count", &self.held.step_count)
            .finish_non_exhaustive()
    }
}

impl<R: Settings> Optimizer<R> {
    /// An optimizer without parameters.
    #[allow(clippy::expect_used)] // the tests make the optimizers of all settings
    pub(super) fn new(settings: R) -> Self {
        let rule =
            rules().find(|rule| rule.name == settings.name()).expect("the table has the rule");
        let held = Held::new(rule, settings.chosen());
        Optimizer { source: Groups::new(settings), held }
    }

    /// Changes the settings of some parameters, after the groups before: `change` gets the settings
    /// at each step. It applies to parameters that occur later.
    ///
    /// Choices, such as `maximize`, are the same for all parameters and stay as they are.
    #[must_use]
    pub fn group(
        self,
        pattern: impl Into<Pattern>,
        change: impl Fn(&mut R) + Send + 'static,
    ) -> Self {
        self.schedule(pattern, move |settings, _| change(settings))
    }

    /// As [`Optimizer::group`], with changes that depend on the step, which counts from 1.
    #[must_use]
    pub fn schedule(
        mut self,
        pattern: impl Into<Pattern>,
        change: impl Fn(&mut R, u64) + Send + 'static,
    ) -> Self {
        self.source.push(pattern.into(), Box::new(change));
        self
    }

    /// Sets how the state of parameters is kept that occur later.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if the rule's state cannot be kept so.
    pub fn state(mut self, format: Format) -> Result<Self, Error> {
        format.check(self.held.rule.name, &self.held.specs).map_err(Error::Settings)?;
        self.held.format = format;
        Ok(self)
    }

    /// Sets the response to gradients that are not finite.
    #[must_use]
    pub fn nonfinite(mut self, policy: Policy) -> Self {
        self.held.policy = policy;
        self
    }

    /// Number of steps taken.
    pub fn step_count(&self) -> u64 {
        self.held.step_count
    }

    /// Numbers of steps that were skipped.
    pub fn skips(&self) -> Skips {
        self.held.skips
    }

    /// Names of the parameters that have state, in the order of their first step.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.held.leaves.iter().map(|leaf| leaf.name.as_str())
    }

    /// Takes one step: updates each of the parameters, which have names and gradients. Those that
    /// are not given stay as they are, with their state.
    ///
    /// Allocates nothing after the first step, if parameters, gradients and state have one type.
    ///
    /// # Errors
    ///
    /// For hyperparameters out of range, gradients that a rule cannot take, a name that occurs
    /// twice, and parameters of another length or type than before. Nothing has changed then.
    pub fn step<'a, P: Into<Param<'a>>>(
        &mut self,
        params: impl IntoIterator<Item = P>,
        how: Step,
    ) -> Result<Report, Error> {
        let source = &self.source;
        self.held.attempt(|held| {
            for param in params {
                held.find(&param.into(), source)?;
            }
            held.take(&how, source)
        })
    }

    /// The state of parameters, which have names, types and shapes; made where a name is new. For a
    /// program that updates parameters itself, for example some rows on each of its threads, and
    /// then [counts](Optimizer::count) the step.
    ///
    /// ```
    /// use thalweg::array::storage::Storage;
    /// use thalweg::optimizer::AdamW;
    ///
    /// let mut opt = AdamW::default().optimizer();
    /// let mut states = opt.lend([("w", Storage::F32, &[64, 32][..])])?;
    /// let (step, exp_avg) = (states[0].step(), states[0].array("exp_avg"));
    /// assert!(step == 1 && exp_avg.is_some_and(|array| array.storage == Storage::F32));
    /// // The program updates the parameter.
    /// opt.count(["w"])?;
    /// assert_eq!(opt.step_count(), 1);
    /// # Ok::<(), thalweg::optimizer::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// For a name that occurs twice, and parameters of another length or type than before. Nothing
    /// has changed then.
    pub fn lend<'a>(
        &mut self,
        params: impl IntoIterator<Item = (&'a str, Storage, &'a [usize])>,
    ) -> Result<Vec<State<'_>>, Error> {
        let source = &self.source;
        let params = params.into_iter().collect::<Vec<_>>();
        let places = self.held.attempt(|held| {
            let place = |(name, storage, shape): &(&str, Storage, &[usize])| {
                let len = shape.iter().try_fold(1, |len: usize, axis| len.checked_mul(*axis));
                let len = len.ok_or_else(|| Error::of(name, "its shape has too many elements"))?;
                held.place(name, (*storage, len), Some(shape), source)
            };
            let places = params.iter().map(place).collect::<Result<Vec<_>, _>>()?;
            let mut seen = HashSet::new();
            match places.iter().position(|place| !seen.insert(*place)) {
                Some(twice) => Err(Error::of(params[twice].0, "it occurs twice")),
                None => Ok(places),
            }
        })?;
        let mut leaves: Vec<_> = self.held.leaves.iter_mut().map(Some).collect();
        Ok(places.iter().filter_map(|place| leaves[*place].take()).map(State).collect())
    }

    /// Counts a step that the program took itself, with these parameters.
    ///
    /// # Errors
    ///
    /// For a name that the optimizer does not have or that occurs twice. Nothing has changed then.
    pub fn count<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        self.held.count(names.into_iter().collect())
    }

    /// Writes the averaged point of a parameter of [`ScheduleFreeAdamW`](super::ScheduleFreeAdamW):
    /// the parameter for evaluation and use. Training goes on with the parameter `p` itself. The call
    /// takes memory of the parameter's size while it runs.
    ///
    /// ```
    /// use thalweg::optimizer::{ScheduleFreeAdamW, Step};
    ///
    /// let (mut p, mut average) = ([1.0_f32; 3], [0.0_f32; 3]);
    /// let mut opt = ScheduleFreeAdamW::default().optimizer();
    /// opt.step([("p", &mut p[..], &[0.5_f32; 3][..])], Step::default())?;
    /// opt.average("p", &p[..], &mut average[..])?;
    /// assert!(average[0] < 1.0);
    /// # Ok::<(), thalweg::optimizer::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the rule averages no points, the parameter had no step yet, or `p` or `out` does not fit.
    pub fn average<'a>(
        &self,
        name: &str,
        p: impl Into<Values<'a>>,
        out: impl Into<Live<'a>>,
    ) -> Result<(), Error> {
        self.held.average(name, &p.into(), out.into())
    }

    /// Saves parameters, state and counts in a file, which the Python package reads. The file is
    /// written completely or not at all.
    ///
    /// The settings of the last step are written as numbers.
    ///
    /// # Errors
    ///
    /// If a parameter of the optimizer is not given, one is given that it does not have or that does
    /// not fit, or the file cannot be written.
    pub fn save<'a, V: Into<Values<'a>>>(
        &self,
        path: impl AsRef<Path>,
        params: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<(), Error> {
        let params = params.into_iter().map(|(name, values)| (name, values.into()));
        self.held.save(path.as_ref(), params.collect(), &self.source)
    }

    /// Loads parameters, state and counts from a file that [`Optimizer::save`] or the Python package
    /// wrote. The settings stay those of the optimizer.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged, is of another rule or other choices, or has other
    /// parameters than those given, or their state in another format. Nothing has changed then.
    pub fn load<'a, V: Into<Live<'a>>>(
        &mut self,
        path: impl AsRef<Path>,
        params: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Loaded, Error> {
        let params = params.into_iter().map(|(name, live)| (name, live.into()));
        self.held.load(path.as_ref(), params.collect(), &self.source)
    }
}
