//! The paths of an API as a tree, walked segment by segment.

use super::shape::Shape;
use super::{Values, Verb};

/// The tree. Its places are numbers; the root is 0, and a place stands behind its parent.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<Place>,
    /// The literals below each place, beside each other and sorted.
    edges: Vec<Edge>,
    /// The first bytes of each edge's text: a search touches little memory.
    keys: Vec<u64>,
}

/// What may follow a path so far, and what may be called there.
#[derive(Debug)]
struct Place {
    parent: u32,
    /// The segment that leads here.
    segment: Segment,
    /// Its literals: from where to where in the edges.
    literals: (u32, u32),
    parameter: Option<(Form, u32)>,
    /// The numbers of the templates that end here, by verb.
    templates: [Option<u32>; Verb::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    text: &'static str,
    place: u32,
}

/// A segment of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(&'static str),
    Parameter(Form),
}

/// How a segment holds parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It is one.
    Whole(Shape),
    /// Two names around a text that neither holds: `{event_t}.{event_n}`.
    Pair(&'static str),
    /// A name before a text: `{scan_id}.png`.
    Before(&'static str),
}

impl Form {
    /// Whether a segment, or for a tail the rest of a path, has this form.
    pub(super) fn takes(self, text: &str) -> bool {
        self.read(text, &mut Values::default())
    }

    fn read<'p>(self, text: &'p str, values: &mut Values<'p>) -> bool {
        match self {
            Self::Whole(shape) => shape.takes(text) && values.push(text),
            Self::Before(end) => text
                .strip_suffix(end)
                .is_some_and(|name| Shape::Name.takes(name) && values.push(name)),
            Self::Pair(between) => text.split_once(between).is_some_and(|(one, other)| {
                !other.contains(between)
                    && [one, other]
                        .into_iter()
                        .all(|name| Shape::Name.takes(name) && values.push(name))
            }),
        }
    }

    /// What a fitting segment is, for people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Whole(shape) => shape.words(),
            Self::Pair(_) | Self::Before(_) => "of this form",
        }
    }
}

impl Table {
    pub(super) fn new() -> Self {
        let root = Place::new(0, Segment::Literal(""));
        Self { places: vec![root], edges: Vec::new(), keys: Vec::new() }
    }

    /// Adds a place; `None` when the parent has one of this segment or cannot have it.
    pub(super) fn add(&mut self, parent: u32, segment: Segment) -> Option<u32> {
        let number = u32::try_from(self.places.len()).ok()?;
        let above = self.places.get_mut(parent as usize)?;
        if let Segment::Parameter(form) = segment {
            if above.parameter.is_some() {
                return None;
            }
            above.parameter = Some((form, number));
        }
        self.places.push(Place::new(parent, segment));
        Some(number)
    }

    /// Lets a template end at a place; `None` when one of its verb does already.
    pub(super) fn end(&mut self, place: u32, verb: Verb, template: u32) -> Option<()> {
        let slot = self.places.get_mut(place as usize)?.templates.get_mut(verb as usize)?;
        slot.replace(template).is_none().then_some(())
    }

    /// Sorts what was added; `false` when a literal stands twice at a place.
    pub(super) fn finish(&mut self) -> bool {
        let mut edges: Vec<(u32, u64, Edge)> = Vec::with_capacity(self.places.len());
        for (number, place) in (0..).zip(&self.places).skip(1) {
            if let Segment::Literal(text) = place.segment {
                edges.push((place.parent, key(text), Edge { text, place: number }));
            }
        }
        let order = |(parent, key, edge): &(u32, u64, Edge)| (*parent, *key, edge.text);
        edges.sort_unstable_by_key(order);
        let is_unique = edges.windows(2).all(|pair| match pair {
            [one, other] => order(one) != order(other),
            _ => true,
        });
        self.edges = edges.iter().map(|(_, _, edge)| *edge).collect();
        self.keys = edges.iter().map(|(_, key, _)| *key).collect();
        let mut from = 0;
        for siblings in edges.chunk_by(|(one, ..), (other, ..)| one == other) {
            let end = from + u32::try_from(siblings.len()).unwrap_or_default();
            let parent = siblings.first().map(|(parent, ..)| *parent as usize);
            if let Some(place) = parent.and_then(|parent| self.places.get_mut(parent)) {
                place.literals = (from, end);
            }
            from = end;
        }
        is_unique
    }

    /// Walks down a path that begins with a slash: where it ends, and what parameters took.
    pub(super) fn walk<'p>(&self, path: &'p str) -> Option<(u32, Values<'p>)> {
        let mut values = Values::default();
        let mut number = 0;
        let mut rest = path;
        while let Some(after) = rest.strip_prefix('/') {
            let (segment, beyond) = after.split_at(after.find('/').unwrap_or(after.len()));
            let place = self.places.get(number as usize)?;
            if let Some(next) = self.literal(place, segment) {
                (number, rest) = (next, beyond);
                continue;
            }
            let (form, next) = place.parameter?;
            let is_tail = form == Form::Whole(Shape::Tail);
            let (text, beyond) = if is_tail { (after, "") } else { (segment, beyond) };
            if !form.read(text, &mut values) {
                return None;
            }
            (number, rest) = (next, beyond);
        }
        Some((number, values))
    }

    /// The number of the template of a verb that ends at a place.
    pub(super) fn template_at(&self, place: u32, verb: Verb) -> Option<usize> {
        let place = self.places.get(place as usize)?;
        place.templates.get(verb as usize).copied().flatten().map(|number| number as usize)
    }

    /// Whether any template ends at a place.
    pub(super) fn is_end(&self, place: u32) -> bool {
        let place = self.places.get(place as usize);
        place.is_some_and(|place| place.templates.iter().any(Option::is_some))
    }

    /// Whether the way to a place ends in a tail.
    pub(super) fn ends_in_tail(&self, place: u32) -> bool {
        let place = self.places.get(place as usize);
        place.is_some_and(|place| place.segment == Segment::Parameter(Form::Whole(Shape::Tail)))
    }

    /// Whether a literal leads on from a place.
    pub(super) fn has_literal(&self, place: u32, text: &str) -> bool {
        let place = self.places.get(place as usize);
        place.is_some_and(|place| self.literal(place, text).is_some())
    }

    /// The segments that lead to a place, and the places they lead to.
    pub(super) fn way_to(&self, place: u32) -> Vec<(Segment, u32)> {
        let mut way = Vec::new();
        let mut number = place;
        while number != 0
            && let Some(place) = self.places.get(number as usize)
        {
            way.push((place.segment, number));
            number = place.parent;
        }
        way.reverse();
        way
    }

    /// The path to a place with these names for its parameters.
    pub(super) fn path_to(&self, place: u32, names: &[&str]) -> String {
        let mut names = names.iter();
        let mut path = String::new();
        for (segment, _) in self.way_to(place) {
            path.push('/');
            path.push_str(&segment.with_names(&mut names));
        }
        path
    }

    /// The place that a literal leads to.
    fn literal(&self, place: &Place, text: &str) -> Option<u32> {
        let (from, end) = (place.literals.0 as usize, place.literals.1 as usize);
        let (keys, wanted) = (self.keys.get(from..end)?, key(text));
        let first = keys.partition_point(|key| *key < wanted);
        // Few texts have their first bytes in common.
        let same = keys.get(first..)?.iter().take_while(|key| **key == wanted).count();
        let mut edges = self.edges.get(from + first..from + first + same)?.iter();
        edges.find(|edge| edge.text == text).map(|edge| edge.place)
    }
}

/// The first eight bytes of a text, such that keys sort as texts do.
fn key(text: &str) -> u64 {
    let bytes = text.as_bytes();
    if let Some(first) = bytes.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut first = [0; 8];
    first.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    u64::from_be_bytes(first)
}

impl Segment {
    /// The segment as a template writes it; takes as many names as it has parameters.
    pub(super) fn with_names(self, names: &mut std::slice::Iter<'_, &str>) -> String {
        let mut name = || names.next().copied().unwrap_or_default();
        match self {
            Self::Literal(text) => text.to_owned(),
            Self::Parameter(Form::Whole(_)) => format!("{{{}}}", name()),
            Self::Parameter(Form::Before(end)) => format!("{{{}}}{end}", name()),
            Self::Parameter(Form::Pair(between)) => {
                let one = name();
                format!("{{{one}}}{between}{{{}}}", name())
            }
        }
    }
}

impl Place {
    const fn new(parent: u32, segment: Segment) -> Self {
        Self {
            parent,
            segment,
            literals: (0, 0),
            parameter: None,
            templates: [None; Verb::ALL.len()],
        }
    }
}
