//! Answers on their way back: which of their fields an agent does not get to see, which URLs in them
//! lead through the gate, and which answers do not get back at all.

use std::ops::Range;
use std::sync::Arc;

use model::ResponseId;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::operation::Template;
use crate::selector::{Selector, SelectorIndex, Selects};

/// What a document says of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub id: ResponseId,
    /// The requests whose answers it is about.
    pub selector: Selector,
    /// What the catalogue holds for secret, and these requests get to see all the same.
    pub reveal: Reveal,
    /// What they do not get to see besides.
    pub redact: Vec<Field>,
    pub detours: Vec<Detour>,
    /// Why their answers do not get back.
    pub refuse: Option<Arc<str>>,
}

/// Which secret fields are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reveal {
    Fields(Vec<Field>),
    All,
}

/// A field of a JSON answer, such as `result.items.*.secret`: names with dots between them, `*` for
/// any name. Lists on the way are passed through, each item alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(Arc<[Step]>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(Arc<str>),
    Any,
}

/// A URL in an answer that leads the agent through the gate instead of around it. One that begins
/// otherwise is hidden.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Detour {
    pub field: Field,
    pub from: Arc<str>,
    pub to: Arc<str>,
}

/// Every rule about answers, by what it binds.
pub type ResponseIndex = SelectorIndex<Response>;

/// What is to be done to the answer of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// The catalogue says that the answer holds secrets.
    strict: bool,
    hidden: Vec<Field>,
    detours: Vec<Detour>,
    refused: Option<(ResponseId, Arc<str>)>,
}

/// An answer that cannot be looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is no JSON")]
    Malformed,
    #[error("its lists lie more than {DEPTH_MAX} deep in one another")]
    Deep,
}

impl Field {
    /// Reads a field; `None` for an empty text or name, or one of more than 16 names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let steps: Vec<Step> = text
            .split('.')
            .map(|name| match name {
                "" => None,
                "*" => Some(Step::Any),
                name => Some(Step::Name(Arc::from(name))),
            })
            .collect::<Option<_>>()?;
        (steps.len() <= STEPS_MAX).then(|| Self(Arc::from(steps)))
    }
}

impl Review {
    /// What is to be done to the answer of a call that these rules bind; `None` for nothing.
    #[must_use]
    pub fn of<'a>(
        template: Option<&Template>,
        rules: impl Iterator<Item = &'a Arc<Response>>,
    ) -> Option<Self> {
        let secrets = template.map_or("", |template| template.secrets);
        let mut review = Self::default();
        review.hidden.extend(secrets.split(',').filter_map(Field::parse));
        let mut redacted = Vec::new();
        for rule in rules {
            match &rule.reveal {
                Reveal::All => review.hidden.clear(),
                Reveal::Fields(shown) => review.hidden.retain(|field| !shown.contains(field)),
            }
            redacted.extend(rule.redact.iter().cloned());
            review.detours.extend(rule.detours.iter().cloned());
            if let (None, Some(reason)) = (&review.refused, &rule.refuse) {
                review.refused = Some((rule.id.clone(), Arc::clone(reason)));
            }
        }
        review.strict = !review.hidden.is_empty();
        review.hidden.extend(redacted);
        (review != Self::default()).then_some(review)
    }

    /// Whether the answer holds secrets of the API's own, and so gets back only when it was looked
    /// through. Otherwise what is no JSON may pass.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// The rule that keeps the answer back, and its reason.
    #[must_use]
    pub const fn refused(&self) -> Option<&(ResponseId, Arc<str>)> {
        self.refused.as_ref()
    }

    /// The answer as the agent gets it; `None` when nothing is to be changed. What is not changed
    /// stays byte for byte.
    ///
    /// # Errors
    /// When it cannot be looked through; nothing of it may get back then.
    pub fn edit(&self, text: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let text = std::str::from_utf8(text).map_err(|_| Unreadable::Malformed)?;
        let whole: &RawValue = serde_json::from_str(text).map_err(|_| Unreadable::Malformed)?;
        let hidden = self.hidden.iter().map(|field| (&*field.0, Deed::Hide));
        let detours = self.detours.iter().map(|detour| (&*detour.field.0, Deed::Lead(detour)));
        let goals: Vec<Goal<'_>> = hidden.chain(detours).collect();
        let mut editor = Editor { text, edits: Vec::new() };
        editor.walk(whole, &goals, 0)?;
        Ok(editor.finish())
    }
}

/// The names that are still to come, and what is done where they end.
type Goal<'a> = (&'a [Step], Deed<'a>);

#[derive(Clone, Copy)]
enum Deed<'a> {
    Hide,
    Lead(&'a Detour),
}

struct Editor<'t> {
    text: &'t str,
    /// In the order of the text, apart from one another.
    edits: Vec<(Range<usize>, String)>,
}

impl<'t> Editor<'t> {
    fn walk(
        &mut self,
        value: &'t RawValue,
        goals: &[Goal<'_>],
        depth: usize,
    ) -> Result<(), Unreadable> {
        let text = value.get();
        let mut from = serde_json::Deserializer::from_str(text);
        match text.as_bytes().first() {
            Some(b'{') => {
                let members = from.deserialize_map(Members).map_err(|_| Unreadable::Malformed)?;
                for (name, value) in members {
                    self.enter(&name, value, goals, depth)?;
                }
                Ok(())
            }
            Some(b'[') if depth >= DEPTH_MAX => Err(Unreadable::Deep),
            Some(b'[') => {
                let items = from.deserialize_seq(Items).map_err(|_| Unreadable::Malformed)?;
                items.into_iter().try_for_each(|item| self.walk(item, goals, depth + 1))
            }
            _ => Ok(()),
        }
    }

    /// Looks at a member: does what is due there, or looks into it.
    fn enter(
        &mut self,
        name: &str,
        value: &'t RawValue,
        goals: &[Goal<'_>],
        depth: usize,
    ) -> Result<(), Unreadable> {
        let mut inside = Vec::new();
        for (steps, deed) in goals {
            let Some((step, rest)) = steps.split_first() else { continue };
            if matches!(step, Step::Name(wanted) if **wanted != *name) {
                continue;
            }
            if !rest.is_empty() {
                inside.push((rest, *deed));
            } else if let Some(new) = replacement(value.get(), *deed) {
                // A field that is hidden is hidden, whatever else is to be done to it.
                return self.replace(value, new);
            }
        }
        if inside.is_empty() { Ok(()) } else { self.walk(value, &inside, depth) }
    }

    fn replace(&mut self, value: &RawValue, new: String) -> Result<(), Unreadable> {
        let start = value.get().as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let start = start.ok_or(Unreadable::Malformed)?;
        self.edits.push((start..start + value.get().len(), new));
        Ok(())
    }

    fn finish(self) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        let mut edited = Vec::with_capacity(self.text.len());
        let mut at = 0;
        for (range, new) in self.edits {
            edited.extend_from_slice(self.text.as_bytes().get(at..range.start)?);
            edited.extend_from_slice(new.as_bytes());
            at = range.end;
        }
        edited.extend_from_slice(self.text.as_bytes().get(at..)?);
        Some(edited)
    }
}

/// What stands for a value afterwards; `None` where it stays.
fn replacement(value: &str, deed: Deed<'_>) -> Option<String> {
    // Nothing is nothing to hide, and clients ask for it.
    if value == "null" {
        return None;
    }
    let hidden = || Some(format!("\"{REDACTED}\""));
    let Deed::Lead(detour) = deed else { return hidden() };
    let Ok(url) = serde_json::from_str::<String>(value) else { return hidden() };
    match url.strip_prefix(&*detour.from) {
        Some(rest) => serde_json::to_string(&format!("{}{rest}", detour.to)).ok(),
        None => hidden(),
    }
}

/// The members of an object, those too whose name stands twice: a client may read either.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

impl Default for Reveal {
    fn default() -> Self {
        Self::Fields(Vec::new())
    }
}

impl Selects for Response {
    fn selector(&self) -> &Selector {
        &self.selector
    }
}

/// What stands in the place of a field that is hidden.
pub const REDACTED: &str = "[redacted by tollgate]";

/// Names of one field.
const STEPS_MAX: usize = 16;

/// Lists in one another. A deeper answer is not looked through.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests;
