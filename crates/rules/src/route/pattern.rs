//! Path patterns: exact, or with `*` for any run of characters, slashes too.

use std::sync::Arc;

/// One path pattern of a route.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: Arc<str>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// No `*`.
    Exact,
    /// One `*`, at the end. Holds the bytes before it.
    Prefix(usize),
    /// A `*` elsewhere. Holds the bytes before the first.
    Glob(usize),
}

impl Pattern {
    pub(super) fn new(text: &Arc<str>) -> Self {
        let shape = match text.find('*') {
            None => Shape::Exact,
            Some(star) if star + 1 == text.len() => Shape::Prefix(star),
            Some(star) => Shape::Glob(star),
        };
        Self { text: Arc::clone(text), shape }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn is_exact(&self) -> bool {
        matches!(self.shape, Shape::Exact)
    }

    /// What a path must start with; of an exact pattern, all of it.
    pub(super) fn prefix(&self) -> &str {
        match self.shape {
            Shape::Exact => &self.text,
            Shape::Prefix(bytes) | Shape::Glob(bytes) => self.text.get(..bytes).unwrap_or_default(),
        }
    }

    /// Where the part begins that a trailing `*` takes, and the path's end when none does; `None`
    /// when the pattern does not match. The path is known to start with [`Pattern::prefix`].
    ///
    /// Of the ways to match, this is the one that leaves most to the trailing `*`.
    pub(super) fn taken_from(&self, path: &str) -> Option<usize> {
        match self.shape {
            Shape::Exact => (path == &*self.text).then_some(path.len()),
            Shape::Prefix(bytes) => Some(bytes),
            Shape::Glob(bytes) => {
                // Each piece where it first fits: if any match exists, this finds one.
                let mut pieces = self.text.get(bytes + 1..)?.split('*');
                let last = pieces.next_back()?;
                let mut end = bytes;
                for piece in pieces {
                    end += path.get(end..)?.find(piece)? + piece.len();
                }
                if last.is_empty() {
                    return Some(end);
                }
                path.get(end..)?.ends_with(last).then_some(path.len())
            }
        }
    }
}
