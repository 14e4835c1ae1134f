//! Regular expressions that are judged when they are read, and built when they are first needed.
//!
//! Building one takes some thirty microseconds and ten kilobytes: seconds and a gigabyte for a
//! document of a hundred thousand routes, most of which see no request for a long while. Reading
//! one takes two microseconds, and tells whether it can be built, and in little memory.

use std::sync::{Arc, OnceLock};

use regex::{Error, Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};
use regex_syntax::utf8::Utf8Sequences;

/// A regular expression that can be built. Cheap to clone; the clones are built once.
#[derive(Clone)]
pub struct Regexp(Arc<Inner>);

struct Inner {
    text: Box<str>,
    case: Case,
    built: OnceLock<Regex>,
}

/// Whether upper and lower case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Minded,
    Ignored,
}

impl Regexp {
    /// Reads an expression whose groups lie at most `depth_max` deep.
    ///
    /// # Errors
    /// When it is none, is nested deeper, or compiles to over [`Regexp::BYTES_MAX`].
    pub fn parse(text: &str, case: Case, depth_max: u32) -> Result<Self, Error> {
        let mut parser = ParserBuilder::new();
        parser.case_insensitive(case == Case::Ignored).nest_limit(depth_max);
        let built = match parser.build().parse(text) {
            Ok(parsed) if states(&parsed) <= STATES_SMALL => OnceLock::new(),
            // What is large is built to learn how large, and what is none to learn why.
            Ok(_) | Err(_) => {
                let mut builder = builder(text, case);
                OnceLock::from(builder.size_limit(Self::BYTES_MAX).nest_limit(depth_max).build()?)
            }
        };
        Ok(Self(Arc::new(Inner { text: text.into(), case, built })))
    }

    /// Bytes of an expression once it is compiled, and of its cache of states. A larger one is
    /// refused.
    pub const BYTES_MAX: usize = 1 << 20;

    /// The expression, built by whoever needs it first.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        let Inner { text, case, built } = &*self.0;
        built.get_or_init(|| {
            let built = builder(text, *case).size_limit(usize::MAX).nest_limit(u32::MAX).build();
            built.expect("what was read whole is built, when no limit is set")
        })
    }
}

impl std::fmt::Debug for Regexp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Regexp").field(&self.0.text).field(&self.0.case).finish()
    }
}

fn builder(text: &str, case: Case) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder.case_insensitive(case == Case::Ignored).dfa_size_limit(Regexp::BYTES_MAX);
    builder
}

/// No fewer than the states of the automaton (Thompson's) that the expression is compiled to.
/// Recursion ends at the depth that the parser lets through.
fn states(parsed: &Hir) -> usize {
    match parsed.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() + 1,
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges().iter();
            let sequences = ranges.flat_map(|range| Utf8Sequences::new(range.start(), range.end()));
            sequences.map(|sequence| sequence.len()).sum::<usize>() + 2
        }
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let times = max.unwrap_or(*min).max(1).saturating_add(1);
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            states(sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(2, |sum, part| states(part).saturating_add(sum).saturating_add(1))
        }
    }
}

/// States that surely fit in [`Regexp::BYTES_MAX`], at less than a hundred bytes each.
const STATES_SMALL: usize = 8_192;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::RegexBuilder;

    use super::{Case, Regexp};

    const DEPTH_MAX: u32 = 64;

    /// Whether an expression is taken, and whether reading it has built it.
    fn check(text: &str, expected: Option<bool>) {
        let parsed = Regexp::parse(text, Case::Minded, DEPTH_MAX).ok();
        assert_eq!(parsed.map(|it| it.0.built.get().is_some()), expected, "{text}");
    }

    #[test]
    fn what_is_small_is_built_when_it_is_needed() {
        for text in ["", "^/n/(.*)", "a|b|(c(d))*", r"^\p{Greek}+$", r"\w+", "x{100}"] {
            check(text, Some(false));
        }
    }

    #[test]
    fn what_is_large_is_built_at_once_and_what_is_too_large_is_refused() {
        check("(a{100}){200}", Some(true));
        check(r"\w{1000}", None);
        check("((a{100}){100}){100}", None);
    }

    #[test]
    fn what_is_none_is_refused_and_groups_have_a_depth() {
        let nested = |depth| "(".repeat(depth) + &")".repeat(depth);
        for text in ["(", "a{2", "[z-a]", r"\q", "(?<n>a)(?<n>b)", r"\p{None}", "(?=a)"] {
            check(text, None);
        }
        check(&nested(60), Some(false));
        check(&nested(70), None);
    }

    #[test]
    fn clones_are_built_once() {
        let one = Regexp::parse("a+", Case::Ignored, DEPTH_MAX).unwrap();
        let other = one.clone();
        assert!(one.regex().is_match("xA") && std::ptr::eq(one.regex(), other.regex()));
    }

    proptest! {
        #[test]
        fn it_takes_what_the_builder_takes_and_finds_the_same(
            text in r"(\(|\)|a|b|\.|\*|\+|\?|\||\[a-c\]|\\w|\{2,3\}|\{9\}|\^|\$){0,12}",
            texts in prop::collection::vec("[abc_é/]{0,12}", 4),
            is_ignored in any::<bool>(),
        ) {
            let case = if is_ignored { Case::Ignored } else { Case::Minded };
            let mut builder = RegexBuilder::new(&text);
            builder.case_insensitive(is_ignored).nest_limit(DEPTH_MAX).size_limit(Regexp::BYTES_MAX);
            let parsed = Regexp::parse(&text, case, DEPTH_MAX);
            match (builder.build(), parsed) {
                (Ok(expected), Ok(found)) => {
                    for text in &texts {
                        prop_assert_eq!(
                            expected.captures(text).map(|it| format!("{it:?}")),
                            found.regex().captures(text).map(|it| format!("{it:?}"))
                        );
                    }
                }
                (Err(expected), Err(found)) => prop_assert_eq!(expected, found),
                (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
            }
        }
    }
}
