//! Hosts: exact, then the longest wildcard, then `*`, then the routes without a host.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::tree::Tree;
use crate::shards::Shards;

/// The tree of each host pattern. Cheap to clone.
///
/// A pattern with a port is compared with the host as sent, and is asked before the patterns
/// without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    with_port: Names,
    without_port: Names,
    /// Of the pattern `*`.
    any: Tree,
    /// Of the routes that name no host.
    hostless: Tree,
}

/// Host patterns that are compared with the same text.
#[derive(Clone, Debug, Default)]
struct Names {
    exact: Shards<Arc<str>, Tree>,
    /// By what follows the leading `*`.
    wild: Shards<Arc<str>, Tree>,
    /// The lengths of the keys of `wild`, and how many have each.
    wild_bytes: BTreeMap<usize, usize>,
}

impl Hosts {
    /// Changes the tree of a host pattern, or of the routes that name none.
    pub(super) fn change(&mut self, pattern: Option<&Arc<str>>, change: impl FnOnce(&mut Tree)) {
        let Some(pattern) = pattern else { return change(&mut self.hostless) };
        let names = if has_port(pattern) { &mut self.with_port } else { &mut self.without_port };
        match pattern.strip_prefix('*') {
            Some("") => change(&mut self.any),
            Some(tail) => names.change_wild(&tail.into(), change),
            None => edit(&mut names.exact, pattern, change),
        }
    }

    /// The first answer that a tree gives, asked from the most specific host pattern to the least.
    pub(super) fn find<'t, T>(
        &'t self,
        host: &str,
        host_header: &str,
        mut ask: impl FnMut(&'t Tree) -> Option<T>,
    ) -> Option<T> {
        let sent = self.with_port.lower(host_header);
        self.with_port
            .exact(&sent)
            .and_then(&mut ask)
            .or_else(|| self.without_port.exact(host).and_then(&mut ask))
            .or_else(|| self.with_port.wild(&sent).find_map(&mut ask))
            .or_else(|| self.without_port.wild(host).find_map(&mut ask))
            .or_else(|| ask(&self.any))
            .or_else(|| ask(&self.hostless))
    }
}

impl Names {
    fn change_wild(&mut self, tail: &Arc<str>, change: impl FnOnce(&mut Tree)) {
        let before = self.wild.len();
        edit(&mut self.wild, tail, change);
        let count = self.wild_bytes.entry(tail.len()).or_default();
        *count = (*count + self.wild.len()).saturating_sub(before);
        if *count == 0 {
            self.wild_bytes.remove(&tail.len());
        }
    }

    fn exact(&self, host: &str) -> Option<&Tree> {
        if self.exact.is_empty() { None } else { self.exact.get(host) }
    }

    /// The trees whose wildcard takes at least one character of the host, longest tail first.
    fn wild(&self, host: &str) -> impl Iterator<Item = &Tree> {
        self.wild_bytes.keys().rev().filter_map(move |bytes| {
            let taken = host.len().checked_sub(*bytes).filter(|taken| *taken > 0)?;
            self.wild.get(host.get(taken..)?)
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

/// Changes one tree, and forgets it once it is empty.
fn edit(trees: &mut Shards<Arc<str>, Tree>, name: &Arc<str>, change: impl FnOnce(&mut Tree)) {
    let mut tree = trees.get(name).cloned().unwrap_or_default();
    change(&mut tree);
    if tree.is_empty() {
        trees.remove(name);
    } else {
        trees.insert(Arc::clone(name), tree);
    }
}

/// Whether a host pattern names a port. The colons of an IPv6 address stand in brackets
/// (RFC 3986 §3.2.2).
fn has_port(pattern: &str) -> bool {
    let behind_address = pattern.rsplit_once(']').map_or(pattern, |(_, behind)| behind);
    behind_address.contains(':')
}
