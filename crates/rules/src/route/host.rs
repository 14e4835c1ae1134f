//! Hosts: exact, then the longest wildcard, then `*`, then the routes without a host.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::forest::Tree;

/// The tree of each host pattern.
///
/// A pattern with a port is compared with the host as sent, and is asked before the patterns
/// without one.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    with_port: Names,
    without_port: Names,
    /// Of the pattern `*`.
    any: Tree,
    /// Of the routes that name no host.
    hostless: Tree,
}

/// Host patterns that are compared with the same text.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Arc<str>, Tree>,
    /// By what follows the leading `*`.
    wild: HashMap<Box<str>, Tree>,
    /// The lengths of the keys of `wild`, longest first, each once.
    wild_bytes: Vec<usize>,
}

/// Numbers for host patterns while claims are gathered.
#[derive(Debug, Default)]
pub(super) struct Numbers<'a>(HashMap<&'a Arc<str>, usize>);

impl<'a> Numbers<'a> {
    /// The number of the routes that name no host.
    pub(super) const HOSTLESS: usize = 0;

    /// How many numbers are given.
    pub(super) fn count(&self) -> usize {
        self.0.len() + 1
    }

    /// The number of a host pattern.
    pub(super) fn of(&mut self, pattern: &'a Arc<str>) -> usize {
        let next = self.count();
        *self.0.entry(pattern).or_insert(next)
    }
}

impl Hosts {
    /// Names the trees, which stand in the order of their numbers.
    pub(super) fn build(numbers: Numbers<'_>, trees: &[Tree]) -> Self {
        let tree = |number| trees.get(number).copied().unwrap_or_default();
        let mut hosts = Self { hostless: tree(Numbers::HOSTLESS), ..Self::default() };
        hosts.without_port.exact.reserve(trees.len());
        for (pattern, number) in numbers.0 {
            let tree = tree(number);
            let names =
                if has_port(pattern) { &mut hosts.with_port } else { &mut hosts.without_port };
            match pattern.strip_prefix('*') {
                Some("") => hosts.any = tree,
                Some(tail) => drop(names.wild.insert(tail.into(), tree)),
                None => drop(names.exact.insert(Arc::clone(pattern), tree)),
            }
        }
        hosts.with_port.measure();
        hosts.without_port.measure();
        hosts
    }

    /// The first answer that a tree gives, asked from the most specific host pattern to the least.
    pub(super) fn find<T>(
        &self,
        host: &str,
        host_header: &str,
        mut ask: impl FnMut(Tree) -> Option<T>,
    ) -> Option<T> {
        let sent = self.with_port.lower(host_header);
        self.with_port
            .exact(&sent)
            .and_then(&mut ask)
            .or_else(|| self.without_port.exact(host).and_then(&mut ask))
            .or_else(|| self.with_port.wild(&sent).find_map(&mut ask))
            .or_else(|| self.without_port.wild(host).find_map(&mut ask))
            .or_else(|| ask(self.any))
            .or_else(|| ask(self.hostless))
    }
}

impl Names {
    fn measure(&mut self) {
        self.wild_bytes = self.wild.keys().map(|tail| tail.len()).collect();
        self.wild_bytes.sort_unstable_by(|one, other| other.cmp(one));
        self.wild_bytes.dedup();
    }

    fn exact(&self, host: &str) -> Option<Tree> {
        if self.exact.is_empty() { None } else { self.exact.get(host).copied() }
    }

    /// The trees whose wildcard takes at least one character of the host, longest tail first.
    fn wild(&self, host: &str) -> impl Iterator<Item = Tree> {
        self.wild_bytes.iter().filter_map(move |bytes| {
            let taken = host.len().checked_sub(*bytes).filter(|taken| *taken > 0)?;
            self.wild.get(host.get(taken..)?).copied()
        })
    }

    /// The text in lower case, when there is anything to compare it with.
    fn lower<'h>(&self, host: &'h str) -> Cow<'h, str> {
        let compared = !self.exact.is_empty() || !self.wild.is_empty();
        if compared && host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(host.to_ascii_lowercase());
        }
        Cow::Borrowed(host)
    }
}

/// Whether a host pattern names a port. The colons of an IPv6 address stand in brackets
/// (RFC 3986 §3.2.2).
fn has_port(pattern: &str) -> bool {
    let behind_address = pattern.rsplit_once(']').map_or(pattern, |(_, behind)| behind);
    behind_address.contains(':')
}
