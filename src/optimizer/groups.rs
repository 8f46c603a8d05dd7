//! Parameter groups: names, and what they change of the settings.

use glob::Pattern as Glob;

use super::error::Error;
use super::settings::Settings;
use crate::rule::Numbers;

/// Changes settings at a step.
type Change<R> = Box<dyn Fn(&mut R, u64) + Send>;

/// A selection of parameters by name: a glob, in which `*` fits any characters, `?` one, `[abc]` one of
/// these and `[!abc]` none of these; several globs; or a function of the name.
///
/// ```
/// use thalweg::optimizer::{AdamW, Pattern};
///
/// let _ = AdamW::default()
///     .optimizer()
///     .group("*.b", |biases| biases.weight_decay = 0.0)
///     .group(["norm.*", "*.gain"], |gains| gains.weight_decay = 0.0)
///     .group(Pattern::of(|name| name.starts_with("head.")), |head| head.lr *= 10.0);
/// ```
pub struct Pattern(Box<dyn Fn(&str) -> bool + Send>);

impl Pattern {
    /// A function of the name.
    pub fn of(fits: impl Fn(&str) -> bool + Send + 'static) -> Self {
        Pattern(Box::new(fits))
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        let mut stars = text.to_owned();
        while stars.contains("**") {
            stars = stars.replace("**", "*"); // in a path they would have another meaning
        }
        match Glob::new(&stars) {
            Ok(glob) => Pattern::of(move |name| glob.matches(name)),
            // A bracket that does not end stands for itself, as in Python.
            Err(_) => {
                let literal = text.to_owned();
                Pattern::of(move |name| name == literal)
            }
        }
    }
}

impl<const N: usize> From<[&str; N]> for Pattern {
    fn from(globs: [&str; N]) -> Self {
        let patterns = globs.map(Pattern::from);
        Pattern::of(move |name| patterns.iter().any(|pattern| (pattern.0)(name)))
    }
}

/// A selection of parameters, and what changes for them.
struct Group<R> {
    pattern: Pattern,
    change: Change<R>,
}

/// The settings of an optimizer, and its groups. Each group applies after those before it.
pub(super) struct Groups<R> {
    pub settings: R,
    groups: Vec<Group<R>>,
}

impl<R> Groups<R> {
    pub fn new(settings: R) -> Self {
        Groups { settings, groups: Vec::new() }
    }

    pub fn push(&mut self, pattern: Pattern, change: Change<R>) {
        self.groups.push(Group { pattern, change });
    }
}

/// What decides the numbers of parameters.
pub(super) trait Source {
    /// The groups of a parameter.
    fn groups_of(&self, name: &str) -> Vec<usize>;

    /// Writes the settings of parameters in these groups at a step into the numbers of the rule.
    fn fill(&self, numbers: &mut Numbers, groups: &[usize], step: u64) -> Result<(), Error>;
}

impl<R: Settings> Source for Groups<R> {
    fn groups_of(&self, name: &str) -> Vec<usize> {
        let groups = self.groups.iter().enumerate();
        groups.filter(|(_, group)| (group.pattern.0)(name)).map(|(at, _)| at).collect()
    }

    fn fill(&self, numbers: &mut Numbers, groups: &[usize], step: u64) -> Result<(), Error> {
        let mut settings = self.settings.clone();
        groups.iter().for_each(|at| (self.groups[*at].change)(&mut settings, step));
        settings.fill(numbers);
        self.settings.changed_choice(&settings).map_or(Ok(()), |name| Err(Error::Choice(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn globs_fit_as_in_python() {
        let cases = [
            ("*", "", true),
            ("*.b", "layer.0.b", true),
            ("*.b", "layer.0.bb", false),
            ("**.b", "layer.0.b", true),
            ("b", "b", true),
            ("b?", "b", false),
            ("b?", "b1", true),
            ("[wb]", "w", true),
            ("[!wb]", "w", false),
            ("[0-9]*", "10.w", true),
            ("[0-9]*", "w", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("a/*", "a/b/c", true),
            ("*", ".hidden", true),
            ("B", "b", false),
            ("é?", "éa", true),
            ("a*b*c", "a.x.b.y.c", true),
            ("a*b*c", "a.x.b.y.d", false),
        ];
        for (glob, name, expected) in cases {
            assert_eq!((Pattern::from(glob).0)(name), expected, "{glob} {name}");
        }
        assert!((Pattern::from(["*.b", "w"]).0)("w"));
        assert!(!(Pattern::of(|name| name.len() > 1).0)("w"));
    }
}
