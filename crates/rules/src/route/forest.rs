//! The routes of every host, by path: exact, then the longest prefix, then shorter ones.
//!
//! The paths and prefixes of a host stand sorted beside each other, and each place knows the
//! longest prefix of itself among them. A search finds the last place that is not above the path.
//! Every prefix of the path is that place or a prefix of it, because what sorts between a prefix
//! of the path and the path starts with that prefix. So one binary search and a walk over the
//! prefixes find all candidates, and memory is linear.

use std::cmp::Ordering;

use super::pattern::Pattern;

/// A route's claim on a path.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// The number of the tree it belongs to.
    pub(super) tree: usize,
    pub(super) pattern: Pattern,
    pub(super) priority: i64,
    /// The route's number in the order given.
    pub(super) route: usize,
}

/// Claims, findable by tree and path.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// Sorted by tree and text; within a place the exact before the others, the better first.
    claims: Vec<Claim>,
    /// Sorted by tree and text, each text once a tree.
    places: Vec<Place>,
    /// The places' texts in their order and beside each other: a search touches little memory.
    texts: Vec<u8>,
    /// Where each place's text ends in `texts`, and before them a zero.
    ends: Vec<usize>,
}

/// The places of one host pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    /// The number of its first place.
    first: usize,
    places: usize,
}

/// A text that a path may equal or start with. Holds at least one claim.
#[derive(Debug)]
struct Place {
    /// Claims from here to `prefix_from` are on the very path.
    exact_from: usize,
    /// Claims from here to `end` are on what starts with the text.
    prefix_from: usize,
    end: usize,
    /// The longest other place of the tree that this one's text starts with and that has claims
    /// on what starts with it.
    shorter: Option<usize>,
}

impl Forest {
    /// Plants a tree for every number below `trees`; they come back in the order of their numbers.
    pub(super) fn build(mut claims: Vec<Claim>, trees: usize) -> (Self, Vec<Tree>) {
        claims.sort_unstable_by(order);
        let mut planted = vec![Tree::default(); trees];
        let mut forest = Self { ends: vec![0], ..Self::default() };
        // The prefixes of the text at hand, each a prefix of the one after it.
        let mut open: Vec<(usize, &str)> = Vec::new();
        let mut start = 0;
        for claims in claims.chunk_by(|one, other| one.tree == other.tree) {
            open.clear();
            let first_place = forest.places.len();
            for group in claims.chunk_by(is_same_place) {
                let text = group.first().map_or("", |claim| claim.pattern.prefix());
                while open.pop_if(|(_, prefix)| !text.starts_with(*prefix)).is_some() {}
                let shorter = open.last().map(|(place, _)| *place);
                let exact = group.iter().take_while(|claim| claim.pattern.is_exact()).count();
                let end = start + group.len();
                if exact < group.len() {
                    open.push((forest.places.len(), text));
                }
                let place = Place { exact_from: start, prefix_from: start + exact, end, shorter };
                forest.places.push(place);
                forest.texts.extend_from_slice(text.as_bytes());
                forest.ends.push(forest.texts.len());
                start = end;
            }
            let number = claims.first().map(|claim| claim.tree);
            if let Some(tree) = number.and_then(|number| planted.get_mut(number)) {
                *tree = Tree { first: first_place, places: forest.places.len() - first_place };
            }
        }
        forest.claims = claims;
        (forest, planted)
    }

    /// The best claim on a path that passes `test`, and where the part begins that a trailing `*`
    /// of its pattern took; that is the path's end when none did.
    pub(super) fn find(
        &self,
        tree: Tree,
        path: &str,
        mut test: impl FnMut(&Claim) -> bool,
    ) -> Option<(&Claim, usize)> {
        let nearest = self.nearest(tree, path.as_bytes())?;
        let text = self.text(nearest);
        let common = common_bytes(text, path.as_bytes());
        // What is not above the path and starts with it is the path.
        if common == path.len() {
            let place = self.places.get(nearest)?;
            let mut claims = self.claims.get(place.exact_from..place.prefix_from)?.iter();
            if let Some(claim) = claims.find(|claim| test(claim)) {
                return Some((claim, path.len()));
            }
        }
        let mut cursor = Some(nearest);
        while let Some(number) = cursor {
            let place = self.places.get(number)?;
            if self.text(number).len() <= common {
                let mut claims = self.claims.get(place.prefix_from..place.end)?.iter();
                let found = claims.find_map(|claim| {
                    let taken_from = claim.pattern.taken_from(path)?;
                    test(claim).then_some((claim, taken_from))
                });
                if found.is_some() {
                    return found;
                }
            }
            cursor = place.shorter;
        }
        None
    }

    /// The last place of a tree whose text is not above the path.
    fn nearest(&self, tree: Tree, path: &[u8]) -> Option<usize> {
        // Between the two, it is not known which places are above the path.
        let (mut known_below, mut known_above) = (0, tree.places);
        while known_below < known_above {
            let middle = known_below.midpoint(known_above);
            if self.text(tree.first + middle) <= path {
                known_below = middle + 1;
            } else {
                known_above = middle;
            }
        }
        Some(tree.first + known_below.checked_sub(1)?)
    }

    fn text(&self, place: usize) -> &[u8] {
        match self.ends.get(place..place + 2) {
            Some(&[from, end]) => self.texts.get(from..end).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// By tree and text; then exact before others, higher priority, longer pattern, the order given.
fn order(one: &Claim, other: &Claim) -> Ordering {
    let tree = one.tree.cmp(&other.tree);
    tree.then_with(|| one.pattern.prefix().cmp(other.pattern.prefix()))
        .then_with(|| other.pattern.is_exact().cmp(&one.pattern.is_exact()))
        .then_with(|| other.priority.cmp(&one.priority))
        .then_with(|| other.pattern.text().len().cmp(&one.pattern.text().len()))
        .then_with(|| one.route.cmp(&other.route))
}

fn is_same_place(one: &Claim, other: &Claim) -> bool {
    one.tree == other.tree && one.pattern.prefix() == other.pattern.prefix()
}

/// How many bytes two texts have in common at their start.
fn common_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
