//! Typed reading of JSON that finds every fault, each with its place.
//!
//! A reading function takes the reader and a value, and returns what it read, or `None` after it
//! has noted at least one fault. So a resource with any fault has none of its parts used.

use std::collections::BTreeSet;

use model::Secret;
use rules::Unresolved;
use rules::identity::KeyDigest;
use serde_json::{Map, Value};

use crate::custody::{self, Custody, Opened, Opener, Seal};
use crate::fault::Fault;
use crate::pointer;
use crate::reference::{Written, is_reference};
use crate::seal::MASK;

mod forgive;
mod scalar;

pub(crate) use forgive::is_within;
pub(crate) use scalar::{
    any, boolean, decimal, id, integer, list, matching, millis, named, one_of, pattern, port,
    seconds, text, unique,
};

/// Collects the faults of one resource and knows the place that is being read.
#[derive(Debug)]
pub(crate) struct Reader<'v> {
    /// The id the resource is (to be) stored under, where it is known.
    id: Option<&'v str>,
    /// Opens secrets; `None` while a document is only checked.
    opener: Option<Opener<'v>>,
    path: Vec<Step<'v>>,
    faults: Vec<Fault>,
    seals: Vec<Seal>,
    unresolved: Vec<Unresolved>,
    /// Places that are switched off.
    forgiven: Vec<String>,
    /// Whether a secret is a reference.
    refers: bool,
    /// Pointers of all members that were asked for, there or not.
    #[cfg(test)]
    pub(crate) asked: BTreeSet<String>,
}

/// What a reader leaves behind.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Every fault, in the order of the places.
    pub(crate) faults: Vec<Fault>,
    /// Every place that may hold a secret, in the order it was read.
    pub(crate) seals: Vec<Seal>,
    /// Secrets that this node could not open.
    pub(crate) unresolved: Vec<Unresolved>,
    /// Places that are switched off: nothing in them has an effect.
    pub(crate) forgiven: BTreeSet<String>,
    /// Whether a secret is a reference.
    pub(crate) refers: bool,
}

/// One step into a value.
#[derive(Clone, Copy, Debug)]
enum Step<'v> {
    Member(&'v str),
    Element(usize),
}

impl<'v> Reader<'v> {
    /// A reader at the top of a resource.
    pub(crate) const fn new(id: Option<&'v str>) -> Self {
        Self {
            id,
            opener: None,
            path: Vec::new(),
            faults: Vec::new(),
            seals: Vec::new(),
            unresolved: Vec::new(),
            forgiven: Vec::new(),
            refers: false,
            #[cfg(test)]
            asked: BTreeSet::new(),
        }
    }

    /// A reader that opens the secrets of a resource.
    pub(crate) fn opening(opener: Opener<'v>) -> Self {
        Self { opener: Some(opener), ..Self::new(Some(&opener.key.id)) }
    }

    /// The id the resource is (to be) stored under, where it is known.
    pub(crate) const fn id(&self) -> Option<&'v str> {
        self.id
    }

    /// The place that is being read, as a JSON pointer.
    pub(crate) fn pointer(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Member(name) => pointer::push(&mut text, name),
                Step::Element(index) => pointer::push(&mut text, &index.to_string()),
            }
        }
        text
    }

    /// Notes a fault at the place that is being read.
    pub(crate) fn fault(&mut self, message: impl Into<String>) {
        let path = self.pointer();
        self.faults.push(Fault::new(path, message));
    }

    /// Notes a fault at a pointer below the place that is being read.
    pub(crate) fn fault_below(&mut self, below: &str, message: impl Into<String>) {
        let path = self.pointer() + below;
        self.faults.push(Fault::new(path, message));
    }

    /// How many faults there are so far.
    pub(crate) const fn count(&self) -> usize {
        self.faults.len()
    }

    /// Reads something at a member of the place that is being read.
    pub(crate) fn at<T>(&mut self, name: &'v str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Step::Member(name));
        let result = read(self);
        self.path.pop();
        result
    }

    /// Reads something at an element of the place that is being read.
    pub(crate) fn element<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Step::Element(index));
        let result = read(self);
        self.path.pop();
        result
    }

    /// Begins to read an object; a fault when the value is none.
    pub(crate) fn object<'r>(&'r mut self, value: &'v Value) -> Option<Object<'r, 'v>> {
        let Value::Object(map) = value else {
            self.expected("an object", value);
            return None;
        };
        Some(Object { reader: self, map, known: Vec::with_capacity(map.len() + 8) })
    }

    /// Notes that the value is of another type than expected.
    pub(crate) fn expected(&mut self, what: &str, value: &Value) {
        self.fault(format!("expected {what}, got {}", type_name(value)));
    }

    /// Reads a text that is a secret or a reference to one.
    pub(crate) fn secret(&mut self, text: &str, custody: Custody) -> Opened {
        self.hold(text, custody);
        let Some(opener) = self.opener else {
            let open = !is_reference(text) && !custody::is_stored(text) && text != MASK;
            return if open {
                Opened::Text(Secret::new(text.to_owned()))
            } else {
                Opened::Closed(custody::name(text))
            };
        };
        match opener.open(&self.pointer(), text) {
            Ok(secret) => Opened::Text(secret),
            Err(why) => self.unresolved(text, why),
        }
    }

    /// Reads a text that is an API key, a reference to one, or its digest. `None` when its digest
    /// is not known here.
    pub(crate) fn api_key(&mut self, text: &str) -> Option<KeyDigest> {
        self.hold(text, Custody::Hash);
        let digest = self.opener?.digest(&self.pointer(), text);
        digest.map_err(|why| self.unresolved(text, why)).ok()
    }

    /// Notes that a text is a secret, without opening it.
    pub(crate) fn hold(&mut self, text: &str, custody: Custody) {
        self.seals.push(Seal { pointer: self.pointer(), custody });
        if !is_reference(text) {
            return;
        }
        self.refers = true;
        if let Err(why) = Written::parse(text) {
            self.fault(why);
        }
    }

    /// Notes that this node cannot use the secret at the place that is being read.
    pub(crate) fn unresolved(&mut self, text: &str, why: String) -> Opened {
        let reference = custody::name(text);
        if let Some(opener) = self.opener {
            let place = format!("/{}{}", opener.key, self.pointer());
            self.unresolved.push(Unresolved { place, reference: reference.to_string(), why });
        }
        Opened::Closed(reference)
    }

    /// Notes what is wrong with a secret: a fault while a document is checked, and a secret that
    /// cannot be used while it is compiled.
    pub(crate) fn unusable(&mut self, text: &str, why: String) -> Opened {
        if self.opener.is_none() {
            self.fault(why);
            return Opened::Closed(custody::name(text));
        }
        self.unresolved(text, why)
    }

    /// How many secrets of the resource so far this node could not open.
    pub(crate) const fn unresolved_count(&self) -> usize {
        self.unresolved.len()
    }

    /// The first secret of the resource so far that this node could not open.
    pub(crate) fn first_unresolved(&self) -> Option<&str> {
        self.unresolved.first().map(|unresolved| unresolved.reference.as_str())
    }

    /// What the reader found beside the values.
    pub(crate) fn finish(self) -> Notes {
        let Self { mut faults, seals, unresolved, forgiven, refers, .. } = self;
        faults.sort();
        faults.dedup();
        Notes { faults, seals, unresolved, forgiven: forgiven.into_iter().collect(), refers }
    }
}

/// An object whose members are read one by one; those nobody asked for are faults.
#[derive(Debug)]
#[must_use = "call `finish`, which refuses unknown members"]
pub(crate) struct Object<'r, 'v> {
    pub(crate) reader: &'r mut Reader<'v>,
    map: &'v Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'v> Object<'_, 'v> {
    /// Reads a member if it is there.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'v>, &'v Value) -> Option<T>,
    ) -> Option<T> {
        self.know(name);
        let value = self.map.get(name)?;
        self.reader.at(name, |reader| read(reader, value))
    }

    /// Reads a member that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'v>, &'v Value) -> Option<T>,
    ) -> Option<T> {
        if !self.map.contains_key(name) {
            self.reader.at(name, |reader| reader.fault("is required"));
        }
        self.optional(name, read)
    }

    /// Refuses a member that people may know from elsewhere, with the reason.
    pub(crate) fn refused(&mut self, name: &'static str, why: &str) {
        self.know(name);
        if self.map.contains_key(name) {
            self.reader.at(name, |reader| reader.fault(why));
        }
    }

    fn know(&mut self, name: &'static str) {
        self.known.push(name);
        #[cfg(test)]
        self.reader.asked.insert(pointer::join(&self.reader.pointer(), name));
    }

    /// Whether a member is there, right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Notes a fault at a member.
    pub(crate) fn fault(&mut self, name: &'static str, message: impl Into<String>) {
        self.reader.at(name, |reader| reader.fault(message));
    }

    /// Notes a fault when two members that exclude each other are both there.
    pub(crate) fn exclusive(&mut self, one: &'static str, other: &'static str) {
        if self.has(one) && self.has(other) {
            self.fault(other, format!("excludes `{one}`: give one of them"));
        }
    }

    /// Refuses every member that nobody asked for.
    pub(crate) fn finish(self) {
        let Self { reader, map, known } = self;
        for name in map.keys() {
            if !known.contains(&name.as_str()) {
                let message = unknown("field", name, known.iter().copied());
                reader.at(name, |reader| reader.fault(message));
            }
        }
    }
}

/// Says that a name is not known, and which known one is close to it.
pub(crate) fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let shown: String = name.chars().take(SHOWN_CHARS).collect();
    let shown = shown.escape_debug();
    match closest(name, known) {
        Some(close) => format!("unknown {what} `{shown}`; did you mean `{close}`?"),
        None => format!("unknown {what} `{shown}`"),
    }
}

/// The known name at the smallest distance, if it is close enough to be meant.
fn closest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > SHOWN_CHARS {
        return None;
    }
    let folded = fold(name);
    known
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= if candidate.len() < 4 { 1 } else { 2 })
        .min()
        .map(|(_, candidate)| candidate)
}

/// A name without what people confuse: case, and `-` for `_`.
fn fold(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Levenshtein's distance, one row at a time.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, above) in to.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(a != b)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Words such as `a, b or c`.
pub(crate) fn choices<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// Notes which of these are there more than once.
fn repeated<T: Ord>(items: impl Iterator<Item = T>) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    items.enumerate().filter_map(|(index, item)| (!seen.insert(item)).then_some(index)).collect()
}

/// How much of a stranger's name a message repeats, in characters.
const SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Reader, boolean, closest, integer, list, text};

    #[test]
    fn every_fault_is_found_at_once_with_its_place() {
        let value = json!({"on": 1, "names": ["a", 2, ""], "extra": null});
        let mut reader = Reader::new(None);
        let mut object = reader.object(&value).unwrap();
        object.optional("on", boolean);
        object.optional("names", list(1, 4, text(1, 8)));
        object.required("size", integer::<u8>(1, 5));
        object.finish();
        let paths: Vec<String> =
            reader.finish().faults.into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["/extra", "/names/1", "/names/2", "/on", "/size"]);
    }

    fn check_close(name: &str, expected: Option<&str>) {
        assert_eq!(closest(name, ["rate", "burst", "rejected_code"].into_iter()), expected);
    }

    #[test]
    fn a_name_close_to_a_known_one_is_offered_it() {
        check_close("rat", Some("rate"));
        check_close("Burst", Some("burst"));
        check_close("rejected-code", Some("rejected_code"));
        check_close("bursts_", Some("burst"));
    }

    #[test]
    fn a_name_close_to_none_is_offered_none() {
        check_close("x", None);
        check_close("limit", None);
    }
}
