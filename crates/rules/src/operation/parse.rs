//! Reads the text of a catalogue: a tree of paths, one tab a level, with the calls at each place.
//!
//! ```text
//! operations 1
//! base /client/v4
//! zones
//! ⇥>GET zones.list nr- -
//! ⇥{zone_id:hex32}
//! ⇥⇥>DELETE zones.delete zw- d
//! ```
//!
//! A call is its method, the operation, the letters of scope, effect and cost, those of its
//! dangers; then `old` or `old=DATE` where it is deprecated, `names=` where its parameters have
//! other names than the places above it, `aka=` with its other names, `hides=` with the fields of
//! its answer that are secret; behind a tab, a note.

use std::sync::Arc;

use super::table::{Form, Segment, Table};
use super::{
    Catalogue, Cost, Danger, Dangers, Effect, PARAMETERS_MAX, Scope, Shape, Template, Verb,
};

/// Why a text is no catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TableFault {
    /// Counted from 1.
    pub line: usize,
    pub why: &'static str,
}

impl Catalogue {
    /// Reads a catalogue.
    ///
    /// # Errors
    /// At the first line that is none.
    pub fn parse(text: &'static str) -> Result<Self, TableFault> {
        let mut lines = (1..).zip(text.lines());
        let mut head = |wanted: &str| lines.next().and_then(|(_, line)| line.strip_prefix(wanted));
        if head("operations ") != Some("1") {
            return Err(TableFault { line: 1, why: "is not `operations 1`" });
        }
        let Some(base) = head("base ").filter(|base| base.starts_with('/')) else {
            return Err(TableFault { line: 2, why: "is not `base /…`" });
        };
        let mut reading = Reading { table: Table::new(), templates: Vec::new(), open: Vec::new() };
        let mut last = 0;
        for (line, text) in lines {
            reading.take(text).map_err(|why| TableFault { line, why })?;
            last = line;
        }
        if !reading.table.finish() {
            return Err(TableFault { line: last, why: "a literal stands twice at one place" });
        }
        let Reading { table, templates, open: _ } = reading;
        Ok(Self { base, table, templates })
    }
}

/// A catalogue, half read.
struct Reading {
    table: Table,
    templates: Vec<Template>,
    /// The places above the line at hand, each with the names of its path's parameters.
    open: Vec<(u32, Arc<[&'static str]>)>,
}

impl Reading {
    fn take(&mut self, line: &'static str) -> Result<(), &'static str> {
        let text = line.trim_start_matches('\t');
        let depth = line.len() - text.len();
        if depth > self.open.len() {
            return Err("stands deeper than what it belongs to");
        }
        self.open.truncate(depth);
        match text.strip_prefix('>') {
            Some(call) => self.take_call(call),
            None => self.take_segment(text),
        }
    }

    fn take_segment(&mut self, text: &'static str) -> Result<(), &'static str> {
        let (segment, own) = segment(text).ok_or("is no segment")?;
        let (parent, names) = match self.open.last() {
            Some((place, names)) => (*place, Arc::clone(names)),
            None => (0, Arc::from([])),
        };
        let names = if own.is_empty() {
            names
        } else {
            names.iter().copied().chain(own).collect::<Arc<[_]>>()
        };
        if names.len() > PARAMETERS_MAX {
            return Err("has too many parameters");
        }
        let place = self.table.add(parent, segment).ok_or("is a second parameter of its place")?;
        self.open.push((place, names));
        Ok(())
    }

    fn take_call(&mut self, text: &'static str) -> Result<(), &'static str> {
        let (place, names) = self.open.last().ok_or("is a call of no path")?;
        let (words, note) = text.split_once('\t').unwrap_or((text, ""));
        let mut words = words.split(' ');
        let mut next = || words.next().ok_or("has too few words");
        let method = next()?;
        let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == method);
        let (operation, letters, dangers) = (next()?, next()?, next()?);
        let (scope, effect, cost) = letters_of(letters).ok_or("has no scope, effect and cost")?;
        let mut template = Template {
            operation,
            aliases: "",
            verb: verb.ok_or("has no method")?,
            scope,
            effect,
            cost,
            dangers: dangers_of(dangers).ok_or("has no dangers")?,
            deprecated: None,
            note,
            secrets: "",
            parameters: Arc::clone(names),
            place: *place,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("old", until) => template.deprecated = Some(until),
                ("aka", aliases) => template.aliases = aliases,
                ("hides", fields) => template.secrets = fields,
                ("names", own) => template.parameters = own.split(',').collect(),
                _ => return Err("has an unknown word"),
            }
        }
        if template.parameters.len() != names.len() {
            return Err("has other parameters than its path");
        }
        let number = u32::try_from(self.templates.len()).map_err(|_| "is one too many")?;
        self.table.end(*place, template.verb, number).ok_or("is a second call of its method")?;
        self.templates.push(template);
        Ok(())
    }
}

/// A segment and the names of its parameters.
fn segment(text: &'static str) -> Option<(Segment, Vec<&'static str>)> {
    let Some(inner) = text.strip_prefix('{') else {
        let is_plain = !text.is_empty() && !text.contains(['{', '}', '/', '%']);
        return is_plain.then_some((Segment::Literal(text), Vec::new()));
    };
    let (name, rest) = inner.split_once('}')?;
    if rest.is_empty() {
        let (name, shape) = match name.split_once(':') {
            Some((name, word)) => {
                (name, Shape::ALL.into_iter().find(|shape| shape.as_str() == word)?)
            }
            None => (name, Shape::Name),
        };
        return Some((Segment::Parameter(Form::Whole(shape)), vec![name]));
    }
    match rest.split_once('{') {
        None => Some((Segment::Parameter(Form::Before(rest)), vec![name])),
        Some((between, other)) => {
            let other = other.strip_suffix('}').filter(|_| !between.is_empty())?;
            Some((Segment::Parameter(Form::Pair(between)), vec![name, other]))
        }
    }
}

fn letters_of(letters: &str) -> Option<(Scope, Effect, Cost)> {
    let mut letters = letters.chars();
    let scope = Scope::of_letter(letters.next()?)?;
    let effect = Effect::of_letter(letters.next()?)?;
    let cost = Cost::of_letter(letters.next()?)?;
    letters.next().is_none().then_some((scope, effect, cost))
}

fn dangers_of(letters: &str) -> Option<Dangers> {
    if letters == "-" {
        return Some(Dangers::default());
    }
    let mut letters = letters.chars();
    letters.try_fold(Dangers::default(), |set, letter| Some(set.with(Danger::of_letter(letter)?)))
}
