//! Operations: which named call of an API a request is, and what such a call does.
//!
//! A [`Catalogue`] holds an API's calls: method, path template, operation. It reads a path in the
//! normal form that routes are found by, segment by segment from the left. A literal stands before
//! a parameter, and there is no way back: what a literal took is not offered to a parameter. A
//! parameter takes what has its [`Shape`]. What is left over is [`Unknown`], and so is everything
//! that an upstream could read in another way:
//!
//! - a trailing slash, unless a tail takes it: nobody says that it means nothing;
//! - another case of a literal: paths are case-sensitive (RFC 3986 §6.2.2.1);
//! - an encoded slash, but in a tail or a [`Shape::Text`] where reading it as a slash makes no
//!   other known path.

mod explain;
mod named;
mod parse;
mod shape;
mod table;
mod word;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use crate::target::Target;

pub use explain::{Explanation, Guard, Loss, Rival};
pub use named::{Found, Named, Operations};
pub use parse::TableFault;
pub use shape::Shape;
pub use word::{Api, Cost, Danger, Dangers, Effect, Scope, Verb};

use table::Table;

/// The calls of an API.
#[derive(Debug)]
pub struct Catalogue {
    /// What every path begins with, such as `/client/v4`.
    base: &'static str,
    table: Table,
    templates: Vec<Template>,
}

/// A method and a path template, and the operation they call. An operation that works on accounts
/// and on zones has two of them.
#[derive(Clone, Debug)]
pub struct Template {
    /// The operation's name, such as `dns.records.delete`.
    pub operation: &'static str,
    /// Other names of the same call, with commas between them.
    pub aliases: &'static str,
    pub verb: Verb,
    pub scope: Scope,
    pub effect: Effect,
    pub cost: Cost,
    pub dangers: Dangers,
    /// When the call is deprecated: the date it ends, empty while none is known.
    pub deprecated: Option<&'static str>,
    /// What the sources say of it beside; mostly empty.
    pub note: &'static str,
    /// The fields of its answer that hold secrets, such as `result.value`, with commas between
    /// them. Lists on the way are passed through.
    pub secrets: &'static str,
    /// The names of the parameters in the order of the path.
    pub parameters: Arc<[&'static str]>,
    /// The place in the table where the template ends.
    place: u32,
}

/// A call that the catalogue knows. Borrows the parameters' values from the path.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c, 'p> {
    pub template: &'c Template,
    values: Values<'p>,
}

/// A call that the catalogue does not know, or that can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What the method alone says (RFC 9110 §9.2.1).
    pub effect: Effect,
    pub why: Why,
}

/// Why a call is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    #[error("the path does not begin as the API's paths do")]
    Outside,
    #[error("no template fits the path")]
    Path,
    #[error("the path is known, but not with this method")]
    Method,
    #[error("with its encoded slashes read as slashes, the path is another known one")]
    TwoReadings,
}

/// The values of a call's parameters, in the order of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values<'p> {
    texts: [&'p str; PARAMETERS_MAX],
    count: usize,
}

impl Catalogue {
    /// Cloudflare's API v4. Reads its table when first asked, which takes about a millisecond.
    #[must_use]
    pub fn cloudflare() -> &'static Self {
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
            let text = include_str!("../data/cloudflare.operations");
            Catalogue::parse(text).expect("a test reads the very same text")
        });
        &CATALOGUE
    }

    /// Which call a request is. Allocates nothing, unless an encoded slash stands in a
    /// [`Shape::Text`].
    ///
    /// # Errors
    /// [`Unknown`] when no template takes it.
    pub fn find<'c, 'p>(
        &'c self,
        method: &str,
        target: &'p Target,
    ) -> Result<Call<'c, 'p>, Unknown> {
        let call = self.find_path(method, target.normal())?;
        // A tail takes slashes of either spelling; nothing before it takes an encoded one.
        if !target.has_encoded_slash() || self.table.ends_in_tail(call.template.place) {
            return Ok(call);
        }
        let decoded = target.slashes_decoded().unwrap_or_default();
        match self.find_path(method, &decoded) {
            Err(Unknown { why: Why::Path | Why::Outside, .. }) => Ok(call),
            Ok(_) | Err(Unknown { why: Why::Method | Why::TwoReadings, .. }) => {
                Err(Unknown::new(method, Why::TwoReadings))
            }
        }
    }

    /// Every template, by path and method.
    #[must_use]
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// What every path begins with.
    #[must_use]
    pub const fn base(&self) -> &'static str {
        self.base
    }

    /// A template's path without the base, such as `/zones/{zone_id}`.
    #[must_use]
    pub fn path_of(&self, template: &Template) -> String {
        self.table.path_to(template.place, &template.parameters)
    }

    /// One reading of a path.
    fn find_path<'c, 'p>(&'c self, method: &str, path: &'p str) -> Result<Call<'c, 'p>, Unknown> {
        let unknown = |why| Unknown::new(method, why);
        let rest = path.strip_prefix(self.base).filter(|rest| rest.starts_with('/'));
        let (place, values) = self
            .table
            .walk(rest.ok_or_else(|| unknown(Why::Outside))?)
            .ok_or_else(|| unknown(Why::Path))?;
        let number = Verb::of(method).and_then(|verb| self.table.template_at(place, verb));
        match number.and_then(|number| self.templates.get(number)) {
            Some(template) => Ok(Call { template, values }),
            None if self.table.is_end(place) => Err(unknown(Why::Method)),
            None => Err(unknown(Why::Path)),
        }
    }
}

impl<'c, 'p> Call<'c, 'p> {
    /// The parameters in the order of the path: name and value, in normal form.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &'p str)> + use<'c, 'p> {
        let names = self.template.parameters.iter().copied();
        let Values { texts, count } = self.values;
        names.zip(texts.into_iter().take(count))
    }

    /// The value of a parameter; `None` when the path has none of this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'p str> {
        self.parameters().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Unknown {
    /// What records call such an operation.
    pub const NAME: &'static str = "unknown";

    fn new(method: &str, why: Why) -> Self {
        Self { effect: Effect::of_method(method), why }
    }
}

impl<'p> Values<'p> {
    /// Adds a value; `false` when there is no room.
    fn push(&mut self, text: &'p str) -> bool {
        let place = self.texts.get_mut(self.count);
        self.count += usize::from(place.is_some());
        place.is_some_and(|place| {
            *place = text;
            true
        })
    }
}

/// Parameters of one path. A table with more is refused.
const PARAMETERS_MAX: usize = 6;
