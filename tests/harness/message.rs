//! A message of HTTP, a request or an answer, as it came.

use std::fmt;

use serde_json::Value;

use super::text_at;

/// A name in lower case and a trimmed value.
pub(crate) type Field = (String, Vec<u8>);

/// A head and a body.
#[derive(Clone, Default)]
pub(crate) struct Message {
    /// The request line or the status line, without its end.
    pub(crate) line: Vec<u8>,
    /// In the order in which they came.
    pub(crate) fields: Vec<Field>,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
}

impl Message {
    /// The value of a field that stands there once at most.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        assert!(self.count(name) < 2, "{name} more than once: {self}");
        let (_, value) = self.fields.iter().find(|(other, _)| other == name)?;
        Some(std::str::from_utf8(value).expect("text"))
    }

    /// How often a field stands there.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(other, _)| other == name).count()
    }

    /// A request's method.
    pub(crate) fn method(&self) -> &str {
        std::str::from_utf8(self.word(0)).expect("text")
    }

    /// A request's target.
    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.raw_target()).expect("text")
    }

    /// The same, which may be anything.
    pub(crate) fn raw_target(&self) -> &[u8] {
        self.word(1)
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        let digits = std::str::from_utf8(self.word(1)).ok();
        let status = digits.and_then(|digits| digits.parse().ok());
        status.unwrap_or_else(|| panic!("no status: {self}"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self}"))
    }

    /// The status and the code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status(), text_at(&self.json(), "/code"))
    }

    /// A word of the first line.
    fn word(&self, nth: usize) -> &[u8] {
        self.line.split(|byte| *byte == b' ').nth(nth).unwrap_or_default()
    }
}

/// All of it as text.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, fields, body, trailers } = self;
        writeln!(f, "{}", String::from_utf8_lossy(line))?;
        for (name, value) in fields {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value))?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(body))?;
        for (name, value) in trailers {
            write!(f, "\n{name}: {}", String::from_utf8_lossy(value))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
