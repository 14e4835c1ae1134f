//! The routes of one host pattern, by path: exact, then the longest prefix, then shorter ones.
//!
//! A radix tree over the bytes of paths and prefixes. A search walks down with the path, and every
//! node on its way is a prefix of the path, so it meets all candidates and nothing else. Clones
//! share what neither of them changes: a change copies the nodes between its place and the root.

use std::cmp::Ordering;
use std::sync::Arc;

use model::Revision;

use super::Route;
use super::pattern::Pattern;

/// A route's claim on a path.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) pattern: Pattern,
    /// The revision that made the route: among equals the older wins.
    pub(super) made: Revision,
    pub(super) route: Arc<Route>,
}

/// Claims, findable by path. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(Arc<Node>);

/// A text that a path may equal or start with: those of the nodes above it, and its own.
#[derive(Clone, Debug, Default)]
struct Node {
    /// What it adds to the node above; empty at the root alone.
    label: Box<[u8]>,
    /// Claims on the very path, the better first.
    exact: Vec<Claim>,
    /// Claims on what starts with the text, the better first.
    open: Vec<Claim>,
    /// Each with the first byte of its label, in the order of these.
    children: Vec<(u8, Arc<Self>)>,
}

impl Tree {
    /// Whether there is no claim.
    pub(super) fn is_empty(&self) -> bool {
        !self.0.is_claimed() && self.0.children.is_empty()
    }

    /// Adds a claim.
    pub(super) fn insert(&mut self, claim: Claim) {
        let mut node = Arc::make_mut(&mut self.0);
        let pattern = claim.pattern.clone();
        let mut rest = pattern.prefix().as_bytes();
        while let Some(first) = rest.first() {
            let place = match node.place(*first) {
                Ok(place) => place,
                Err(free) => {
                    let leaf = Node { label: rest.into(), ..Node::default() };
                    node.children.insert(free, (*first, Arc::new(leaf)));
                    free
                }
            };
            let Some((_, child)) = node.children.get_mut(place) else { return };
            node = Arc::make_mut(child);
            let common = common_bytes(&node.label, rest);
            if common < node.label.len() {
                node.split(common);
            }
            rest = rest.get(common..).unwrap_or_default();
        }
        node.insert(claim);
    }

    /// Takes out the claims of a route on the text of a pattern.
    pub(super) fn remove(&mut self, pattern: &Pattern, route: &Arc<Route>) {
        let mut node = Arc::make_mut(&mut self.0);
        let mut rest = pattern.prefix().as_bytes();
        let Some(mut first) = rest.first().copied() else { return node.remove(route) };
        let mut is_root = true;
        while let Ok(place) = node.place(first) {
            let Some((_, child)) = node.children.get_mut(place) else { return };
            let Some(left) = rest.strip_prefix(&*child.label) else { return };
            let Some(next) = left.first() else {
                Arc::make_mut(child).remove(route);
                return node.tidy(place, is_root);
            };
            let Some((_, child)) = node.children.get_mut(place) else { return };
            node = Arc::make_mut(child);
            (rest, first, is_root) = (left, *next, false);
        }
    }

    /// The best claim on a path that passes `test`, and where the part begins that a trailing `*`
    /// of its pattern took; that is the path's end when none did.
    pub(super) fn find(
        &self,
        path: &str,
        mut test: impl FnMut(&Claim) -> bool,
    ) -> Option<(&Claim, usize)> {
        let (mut node, mut rest) = (&*self.0, path.as_bytes());
        // The longest prefix nearly always takes the request; only further ones make a list.
        let (mut nearest, mut shorter) = (None, Vec::new());
        loop {
            if !node.open.is_empty() {
                shorter.extend(nearest.replace(node));
            }
            let Some(first) = rest.first() else {
                let mut exact = node.exact.iter();
                if let Some(claim) = exact.find(|claim| test(claim)) {
                    return Some((claim, path.len()));
                }
                break;
            };
            let Some(child) = node.child(*first) else { break };
            let Some(left) = rest.strip_prefix(&*child.label) else { break };
            (node, rest) = (child, left);
        }
        nearest.into_iter().chain(shorter.into_iter().rev()).find_map(|node: &Node| {
            node.open.iter().find_map(|claim| {
                let taken_from = claim.pattern.taken_from(path)?;
                test(claim).then_some((claim, taken_from))
            })
        })
    }
}

impl Node {
    const fn is_claimed(&self) -> bool {
        !self.exact.is_empty() || !self.open.is_empty()
    }

    /// Where the child stands whose label starts with this byte, or would.
    fn place(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(first, _)| *first)
    }

    fn child(&self, first: u8) -> Option<&Self> {
        let (_, child) = self.children.get(self.place(first).ok()?)?;
        Some(child)
    }

    fn insert(&mut self, claim: Claim) {
        let claims = if claim.pattern.is_exact() { &mut self.exact } else { &mut self.open };
        if claims.is_empty() {
            // Nearly all are alone.
            claims.reserve_exact(1);
        }
        let place = claims.partition_point(|other| order(other, &claim).is_le());
        claims.insert(place, claim);
    }

    fn remove(&mut self, route: &Arc<Route>) {
        self.exact.retain(|claim| !Arc::ptr_eq(&claim.route, route));
        self.open.retain(|claim| !Arc::ptr_eq(&claim.route, route));
    }

    /// Leaves so many bytes of the label here, and moves everything else below them.
    fn split(&mut self, at: usize) {
        let (upper, lower) = self.label.split_at_checked(at).unwrap_or_default();
        let Some(first) = lower.first().copied() else { return };
        let (upper, lower) = (Box::from(upper), Box::from(lower));
        let below = Self { label: lower, ..std::mem::take(self) };
        *self = Self { label: upper, children: vec![(first, Arc::new(below))], ..Self::default() };
    }

    /// Ends what a claim left behind: a child that holds nothing, and nodes with one child only.
    fn tidy(&mut self, place: usize, is_root: bool) {
        let Some((_, child)) = self.children.get_mut(place) else { return };
        if child.is_claimed() {
            return;
        }
        if !child.children.is_empty() {
            return Arc::make_mut(child).join();
        }
        self.children.remove(place);
        if !is_root && !self.is_claimed() {
            self.join();
        }
    }

    /// Takes in the only child; a node with several stays.
    fn join(&mut self) {
        if self.children.len() != 1 {
            return;
        }
        let Some((_, child)) = self.children.pop() else { return };
        let child = Arc::unwrap_or_clone(child);
        let label = [&*self.label, &*child.label].concat().into();
        *self = Self { label, ..child };
    }
}

/// The higher priority, the longer pattern, the older route; those of one revision by their ids,
/// and those of one route as they were given.
fn order(one: &Claim, other: &Claim) -> Ordering {
    let priority = other.route.priority.cmp(&one.route.priority);
    priority
        .then_with(|| other.pattern.text().len().cmp(&one.pattern.text().len()))
        .then_with(|| one.made.cmp(&other.made))
        .then_with(|| one.route.id.cmp(&other.route.id))
}

/// How many bytes two texts have in common at their start.
fn common_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Claim, Node, Route, Tree};
    use crate::route::index::tests::route;
    use crate::route::pattern::Pattern;

    fn claim(route: &Arc<Route>, uri: &str) -> Claim {
        let pattern = Pattern::new(&Arc::from(uri));
        Claim { pattern, made: model::Revision::ZERO, route: Arc::clone(route) }
    }

    /// The labels and the numbers of claims, in brackets for each level.
    fn shown(node: &Node) -> String {
        let children: String = node.children.iter().map(|(_, child)| shown(child)).collect();
        let (exact, open) = (node.exact.len(), node.open.len());
        format!("({} {exact}+{open}{children})", String::from_utf8_lossy(&node.label))
    }

    /// The shape of a tree of some patterns, after some of them were taken out again.
    fn check(put: &[&str], removed: &[&str], expected: &str) {
        let route = Arc::new(route("r", "/"));
        let mut tree = Tree::default();
        put.iter().for_each(|uri| tree.insert(claim(&route, uri)));
        removed.iter().for_each(|uri| tree.remove(&Pattern::new(&Arc::from(*uri)), &route));
        assert_eq!(shown(&tree.0), expected);
    }

    #[test]
    fn a_text_is_split_where_others_part_from_it() {
        check(&["/abc", "/abd*", "/ab"], &[], "( 0+0(/ab 1+0(c 1+0)(d 0+1)))");
        check(&["*", "/é", "/è"], &[], "( 0+1(/\u{fffd} 0+0(\u{fffd} 1+0)(\u{fffd} 1+0)))");
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        check(&["/abc", "/abd"], &["/abd"], "( 0+0(/abc 1+0))");
        check(&["/a", "/abc", "/abd"], &["/a"], "( 0+0(/ab 0+0(c 1+0)(d 1+0)))");
        check(&["/a", "/abc"], &["/a"], "( 0+0(/abc 1+0))");
        check(&["/abc", "*", "x"], &["/abc", "*", "x"], "( 0+0)");
        check(&["/abc"], &["/ab", "/abcd", "y", "*"], "( 0+0(/abc 1+0))");
    }

    #[test]
    fn a_change_copies_the_way_to_its_place_and_nothing_else() {
        let route = Arc::new(route("r", "/"));
        let mut tree = Tree::default();
        ["/a/1", "/a/2", "/b/1"].iter().for_each(|uri| tree.insert(claim(&route, uri)));
        let before = tree.clone();
        tree.insert(claim(&route, "/b/2"));
        let parts = |tree: &Tree| {
            let slash = Arc::clone(&tree.0.children[0].1);
            [Arc::clone(&slash.children[0].1), Arc::clone(&slash.children[1].1)]
        };
        let ([a, b], [a_after, b_after]) = (parts(&before), parts(&tree));
        assert!(Arc::ptr_eq(&a, &a_after) && !Arc::ptr_eq(&b, &b_after));
        assert_eq!(shown(&b), "(b/1 1+0)");
        assert_eq!(shown(&b_after), "(b/ 0+0(1 1+0)(2 1+0))");
    }
}
