//! Parameter groups: names, and what they change of the settings.

use std::fmt;

/// Changes settings at a step.
type Change<R> = Box<dyn Fn(&mut R, u64) + Send>;

/// A selection of parameters by name: a glob, in which `*` fits any characters, `?` one, `[abc]` one of
/// these and `[!abc]` none of these; several globs; or a function of the name.
pub struct Pattern(Box<dyn Fn(&str) -> bool + Send>);

impl Pattern {
    /// A function of the name.
    pub fn of(fits: impl Fn(&str) -> bool + Send + 'static) -> Self {
        Pattern(Box::new(fits))
    }
}

impl From<&str> for Pattern {
    fn from(glob: &str) -> Self {
        let glob: Vec<char> = glob.chars().collect();
        Pattern::of(move |name| fits(&glob, &name.chars().collect::<Vec<_>>()))
    }
}

impl<const N: usize> From<[&str; N]> for Pattern {
    fn from(globs: [&str; N]) -> Self {
        let patterns = globs.map(Pattern::from);
        Pattern::of(move |name| patterns.iter().any(|pattern| (pattern.0)(name)))
    }
}

/// Whether a name fits a glob, as Python's `fnmatch` decides.
fn fits(glob: &[char], name: &[char]) -> bool {
    match (glob.split_first(), name.split_first()) {
        (None, end) => end.is_none(),
        (Some((&'*', rest)), _) => (0..=name.len()).any(|at| fits(rest, &name[at..])),
        (_, None) => false,
        (Some((&'?', rest)), Some((_, name))) => fits(rest, name),
        (Some((&'[', rest)), Some((&first, name))) => match set(rest) {
            Some((chars, rest)) => chars(first) && fits(rest, name),
            None => first == '[' && fits(rest, name),
        },
        (Some((char, rest)), Some((first, name))) => char == first && fits(rest, name),
    }
}

/// The test of a set of characters that begins after its bracket, and the rest of the glob; `None` if
/// the set does not end.
fn set(glob: &[char]) -> Option<(impl Fn(char) -> bool, &[char])> {
    let negated = glob.first() == Some(&'!');
    let start = usize::from(negated);
    // A bracket right at the start is one of the characters.
    let end = start + 1 + glob.get(start + 1..)?.iter().position(|&char| char == ']')?;
    let (chars, rest) = (&glob[start..end], &glob[end + 1..]);
    let found = move |char: char| {
        let mut at = 0;
        while at < chars.len() {
            if at + 2 < chars.len() && chars[at + 1] == '-' {
                if (chars[at]..=chars[at + 2]).contains(&char) {
                    return true;
                }
                at += 3;
            } else if chars[at] == char {
                return true;
            } else {
                at += 1;
            }
        }
        false
    };
    Some((move |char| found(char) != negated, rest))
}

/// A selection of parameters, and what changes for them.
pub(super) struct Group<R> {
    pattern: Pattern,
    change: Change<R>,
}

/// The groups of an optimizer. Each applies after those before it.
pub(super) struct Groups<R>(Vec<Group<R>>);

impl<R> Default for Groups<R> {
    fn default() -> Self {
        Groups(Vec::new())
    }
}

impl<R> fmt::Debug for Groups<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Groups({})", self.0.len())
    }
}

impl<R: Clone> Groups<R> {
    pub fn push(&mut self, pattern: Pattern, change: Change<R>) {
        self.0.push(Group { pattern, change });
    }

    /// The groups of a parameter.
    pub fn of(&self, name: &str) -> Vec<usize> {
        let groups = self.0.iter().enumerate();
        groups.filter(|(_, group)| (group.pattern.0)(name)).map(|(at, _)| at).collect()
    }

    /// The settings of parameters in these groups at a step.
    pub fn at(&self, settings: &R, groups: &[usize], step: u64) -> R {
        let mut settings = settings.clone();
        groups.iter().for_each(|at| (self.0[*at].change)(&mut settings, step));
        settings
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
