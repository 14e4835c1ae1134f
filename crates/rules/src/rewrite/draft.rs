//! A target in the making: each text is escaped for where it stands and where it comes from.

use http::uri::PathAndQuery;

use super::{RewriteFault, TARGET_BYTES_MAX};
use crate::target::{Target, TargetFault, escape, push_escaped};
use crate::variable::Variable;

/// Path and query so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    in_query: bool,
    /// A variable has put the client's whole query here.
    holds_query: bool,
}

/// Where a text comes from, and so what it may do to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// By the rule's author: its first `?` starts the query.
    Written,
    /// The client's path as sent: stays as it is. With the query its first `?` starts the query.
    Sent,
    /// The client's path in normal form: what may not stand in a path is escaped again.
    Normal,
    /// The client's query or a value of it: escaped text that fills one place of a path.
    Query,
    /// Plain text, such as a header's value: fills one place, and a `%` is itself.
    Plain,
}

impl Draft {
    /// Appends a variable's value.
    pub(super) fn push_variable(
        &mut self,
        variable: &Variable,
        value: &str,
    ) -> Result<(), RewriteFault> {
        let opens_pair = self.in_query && self.text.ends_with(['?', '&']);
        let (ink, is_query) = match variable {
            Variable::Uri => (Ink::Normal, false),
            Variable::RequestUri => (Ink::Sent, !self.in_query),
            Variable::Args => (Ink::Query, opens_pair),
            Variable::Arg(_) => (Ink::Query, false),
            // Whatever else there is or will be: plain text is the ink that can do least.
            _ => (Ink::Plain, false),
        };
        self.holds_query |= is_query;
        self.push(ink, value)
    }

    /// Appends a text.
    pub(super) fn push(&mut self, ink: Ink, text: &str) -> Result<(), RewriteFault> {
        match (ink, self.in_query) {
            (Ink::Written | Ink::Sent, false) => {
                let (path, query) =
                    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
                if ink == Ink::Sent {
                    self.text.push_str(path);
                } else {
                    self.spell(path, stays_in_path, true);
                }
                if let Some(query) = query {
                    self.text.push('?');
                    self.in_query = true;
                    self.spell(query, stays_in_query, true);
                }
            }
            (Ink::Normal, false) => self.spell(text, stays_in_path, true),
            (Ink::Query, false) => self.spell(text, stays_in_value, true),
            (Ink::Written | Ink::Query, true) => self.spell(text, stays_in_query, true),
            (Ink::Sent | Ink::Normal, true) => self.spell(text, stays_in_query_value, true),
            (Ink::Plain, _) => self.spell(text, stays_in_value, false),
        }
        if self.text.len() > TARGET_BYTES_MAX { Err(RewriteFault::TargetTooLong) } else { Ok(()) }
    }

    /// The target, with the client's query behind the draft's own. An empty path is `/`.
    pub(super) fn finish(mut self, query: Option<&str>) -> Result<Target, RewriteFault> {
        if self.text.is_empty() || self.text.starts_with('?') {
            self.text.insert(0, '/');
        }
        if !self.text.starts_with('/') {
            return Err(RewriteFault::Target(TargetFault::NotAbsolutePath));
        }
        let query = query.filter(|_| !self.holds_query).unwrap_or_default();
        if !query.is_empty() {
            if !self.in_query {
                self.text.push('?');
            } else if !self.text.ends_with(['?', '&']) {
                self.text.push('&');
            }
            self.text.push_str(query);
        }
        if self.text.len() > TARGET_BYTES_MAX {
            return Err(RewriteFault::TargetTooLong);
        }
        let target = PathAndQuery::try_from(self.text)
            .map_err(|_| RewriteFault::Target(TargetFault::NotAbsolutePath))?;
        Target::from_path_and_query(target).map_err(RewriteFault::Target)
    }

    /// Appends a text with every byte escaped that `stays` does not name; escapes that are in the
    /// text already stay when `keeps_escapes`.
    fn spell(&mut self, text: &str, stays: fn(u8) -> bool, keeps_escapes: bool) {
        for (offset, byte) in text.bytes().enumerate() {
            let is_escape = || {
                keeps_escapes
                    && byte == b'%'
                    && text.get(offset + 1..).is_some_and(|after| escape(after).is_some())
            };
            if stays(byte) || is_escape() {
                self.text.push(char::from(byte));
            } else {
                push_escaped(&mut self.text, byte);
            }
        }
    }
}

/// The characters of a path (RFC 3986 §3.3).
fn stays_in_path(byte: u8) -> bool {
    stays_in_value(byte) || b"/&=+;".contains(&byte)
}

/// What may stand raw in a query: visible ASCII but what ends it or what URI libraries refuse.
fn stays_in_query(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>%\\^`{|}".contains(&byte)
}

/// What delimits nothing in a query; a `+` would be read as a blank there.
fn stays_in_query_value(byte: u8) -> bool {
    stays_in_value(byte) || byte == b'/'
}

/// What delimits nothing, neither in a path nor in a query.
fn stays_in_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:@!$'()*,".contains(&byte)
}
