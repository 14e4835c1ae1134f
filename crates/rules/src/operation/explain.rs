//! Why a call is the operation it is: every template that could have taken it, and what each of
//! the others lost to. The same rules as [`Catalogue::find`], told slowly.

use super::table::{Form, Segment};
use super::{Call, Catalogue, Shape, Template, Unknown, Verb};
use crate::target::Target;

/// What a catalogue says of a call, and why.
#[derive(Debug)]
pub struct Explanation<'c, 'p> {
    pub answer: Result<Call<'c, 'p>, Unknown>,
    /// The parameters of the template that took the call, and what each of them takes.
    pub guards: Vec<Guard>,
    /// The other templates whose literals stand in the path, by path and method.
    pub rivals: Vec<Rival<'c>>,
}

/// What a parameter takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// As the template writes it: `{zone_id}`.
    pub parameter: String,
    /// What such a value is, for people.
    pub words: &'static str,
}

/// A template that did not take a call though its literals stand in the path.
#[derive(Debug)]
pub struct Rival<'c> {
    pub template: &'c Template,
    /// The template's path without the base.
    pub path: String,
    pub loss: Loss,
}

/// What a template lost to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It has another method.
    Method,
    /// A literal stands before its parameter.
    Literal { parameter: String, literal: String },
    /// The value has not the shape of its parameter.
    Shape { parameter: String, value: String, words: &'static str },
    /// The encoded slashes make the path another one.
    TwoReadings,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Method => f.write_str("it has another method"),
            Self::Literal { parameter, literal } => {
                write!(f, "the literal `{literal}` stands before `{parameter}`")
            }
            Self::Shape { parameter, value, words } => {
                write!(f, "`{value}` is not {words}, which `{parameter}` takes")
            }
            Self::TwoReadings => {
                f.write_str("with its encoded slashes read as slashes, the path is another one")
            }
        }
    }
}

impl Catalogue {
    /// Which call a request is, and why.
    #[must_use]
    pub fn explain<'c, 'p>(&'c self, method: &str, target: &'p Target) -> Explanation<'c, 'p> {
        let answer = self.find(method, target);
        let chosen = answer.as_ref().ok().map(|call| call.template.place);
        let guards = answer.as_ref().map(|call| self.guards(call.template)).unwrap_or_default();
        let verb = Verb::of(method);
        let rest = target.normal().strip_prefix(self.base).and_then(|rest| rest.strip_prefix('/'));
        let segments: Vec<&str> = rest.map(|rest| rest.split('/').collect()).unwrap_or_default();
        let mut rivals = Vec::new();
        for template in &self.templates {
            if chosen == Some(template.place) && verb == Some(template.verb) {
                continue;
            }
            let Some(loss) = self.loss(template, &segments) else { continue };
            let loss = match loss {
                Some(loss) => loss,
                None if verb == Some(template.verb) => Loss::TwoReadings,
                None => Loss::Method,
            };
            rivals.push(Rival { template, path: self.path_of(template), loss });
        }
        Explanation { answer, guards, rivals }
    }

    fn guards(&self, template: &Template) -> Vec<Guard> {
        let mut names = template.parameters.iter();
        let mut guards = Vec::new();
        for (segment, _) in self.table.way_to(template.place) {
            let parameter = segment.with_names(&mut names);
            if let Segment::Parameter(form) = segment {
                guards.push(Guard { parameter, words: form.words() });
            }
        }
        guards
    }

    /// Whether the literals of a template stand in a path, and if so, what the template loses to;
    /// `Some(None)` for nothing that the path says.
    fn loss(&self, template: &Template, segments: &[&str]) -> Option<Option<Loss>> {
        let way = self.table.way_to(template.place);
        let has_tail = self.table.ends_in_tail(template.place);
        if segments.len() < way.len() || (!has_tail && segments.len() > way.len()) {
            return None;
        }
        let mut names = template.parameters.iter();
        let mut loss = None;
        let mut above = 0;
        for (place, (segment, number)) in way.into_iter().enumerate() {
            let value = segments.get(place).copied().unwrap_or_default();
            let written = segment.with_names(&mut names);
            match segment {
                Segment::Literal(text) if text != value => return None,
                Segment::Literal(_) => {}
                Segment::Parameter(form) => {
                    loss = loss.or_else(|| {
                        let rest = segments.get(place..).unwrap_or_default();
                        self.loss_at(above, form, rest, written)
                    });
                }
            }
            above = number;
        }
        Some(loss)
    }

    fn loss_at(&self, above: u32, form: Form, rest: &[&str], parameter: String) -> Option<Loss> {
        let value = rest.first().copied().unwrap_or_default();
        if self.table.has_literal(above, value) {
            return Some(Loss::Literal { parameter, literal: value.to_owned() });
        }
        let value =
            if form == Form::Whole(Shape::Tail) { rest.join("/") } else { value.to_owned() };
        (!form.takes(&value)).then(|| Loss::Shape { parameter, value, words: form.words() })
    }
}
