//! Reading what is switched off: its faults matter to nobody, its secrets stay secrets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Reader;
use crate::custody::{Custody, Seal, is_stored};
use crate::pointer;
use crate::seal::MASK;

impl<'v> Reader<'v> {
    /// Reads a value whose faults, and whose secrets that are not open here, matter to nobody.
    ///
    /// What could not be read may be a secret in a place that is not known for it, so its texts
    /// are kept as such. So are texts that are secrets by their looks: once they are sealed or
    /// masked, a place may read well that did not before.
    pub(crate) fn forgive<T>(&mut self, value: &'v Value, read: impl FnOnce(&mut Self) -> T) {
        let (faults, seals) = (self.faults.len(), self.seals.len());
        let unresolved = self.unresolved.len();
        drop(read(self));
        self.unresolved.truncate(unresolved);
        let here = self.pointer();
        let misread: BTreeSet<String> =
            self.faults.drain(faults..).map(|fault| fault.path).filter(|at| *at != here).collect();
        let known: BTreeSet<String> =
            self.seals.iter().skip(seals).map(|seal| seal.pointer.clone()).collect();
        let found = &mut self.seals;
        pointer::texts(value, &here, &mut |at, text| {
            let hidden = text == MASK || is_stored(text);
            if !known.contains(at) && (hidden || is_within(at, &misread)) {
                found.push(Seal { pointer: at.to_owned(), custody: Custody::Seal });
            }
        });
        self.forgiven.push(here);
    }
}

/// Whether a place is one of these or lies below one.
pub(crate) fn is_within(place: &str, roots: &BTreeSet<String>) -> bool {
    let mut ends = place.match_indices('/').map(|(at, _)| at).chain([place.len()]);
    ends.any(|end| place.get(..end).is_some_and(|root| roots.contains(root)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::is_within;

    #[test]
    fn a_place_lies_within_itself_and_what_is_above_it() {
        let roots = BTreeSet::from([String::from("/a/b")]);
        for (place, expected) in
            [("/a/b", true), ("/a/b/c/0", true), ("/a", false), ("/a/bc", false), ("", false)]
        {
            assert_eq!(is_within(place, &roots), expected, "{place}");
        }
    }
}
