//! What a writer believes to be there: `If-Match` and `If-None-Match` (RFC 9110 §13.1).

use config::{Expect, Stored};
use http::{HeaderMap, HeaderName, header};
use model::Revision;

use crate::envelope::Failure;

/// The conditions of a request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Precondition {
    matches: Option<Tags>,
    matches_none: Option<Tags>,
}

/// Entity tags as they stand in a header.
#[derive(Debug, PartialEq)]
enum Tags {
    /// `*`: whatever is there.
    Any,
    /// Tags, and whether each is strong.
    Listed(Vec<(String, bool)>),
}

impl Precondition {
    /// Reads both headers. One that cannot be read is refused, not skipped: whoever sends it does
    /// not want the write made without it.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        Ok(Self {
            matches: tags(headers, &header::IF_MATCH)?,
            matches_none: tags(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// What a write must find, given what is there now; the write itself checks it again.
    pub(crate) fn expect(&self, found: Option<&Stored>) -> Result<Expect, Failure> {
        let modified = found.map(|stored| stored.modified);
        if let Some(tags) = &self.matches {
            let met = modified.filter(|modified| tags.hold(*modified, true));
            let Some(modified) = met else { return Err(unmet("If-Match", modified)) };
            return Ok(Expect::Modified(modified));
        }
        match (&self.matches_none, modified) {
            (None, _) => Ok(Expect::Any),
            (Some(_), None) => Ok(Expect::Absent),
            (Some(tags), Some(modified)) if tags.hold(modified, false) => {
                Err(unmet("If-None-Match", Some(modified)))
            }
            (Some(_), Some(modified)) => Ok(Expect::Modified(modified)),
        }
    }

    /// Whether a reader has this already (304).
    pub(crate) fn is_known(&self, modified: Revision) -> bool {
        self.matches_none.as_ref().is_some_and(|tags| tags.hold(modified, false))
    }

    /// Refuses a reader who wants another revision than there is.
    pub(crate) fn check_read(&self, modified: Revision) -> Result<(), Failure> {
        match &self.matches {
            Some(tags) if !tags.hold(modified, true) => Err(unmet("If-Match", Some(modified))),
            _ => Ok(()),
        }
    }

    /// Whether the request names no condition.
    pub(crate) const fn is_empty(&self) -> bool {
        self.matches.is_none() && self.matches_none.is_none()
    }
}

impl Tags {
    fn hold(&self, modified: Revision, strong_only: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => {
                let own = modified.to_string();
                tags.iter().any(|(tag, strong)| *tag == own && (*strong || !strong_only))
            }
        }
    }
}

fn unmet(header: &str, found: Option<Revision>) -> Failure {
    let found = found.map_or_else(|| "is not there".to_owned(), |at| format!("is at \"{at}\""));
    Failure::Precondition(format!("{header} is not met: the resource {found}"))
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Failure> {
    let mut listed = Vec::new();
    let mut any = false;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| malformed(name))?;
        for tag in text.split(',').map(str::trim) {
            if tag == "*" {
                any = true;
                continue;
            }
            let (strong, quoted) = match tag.strip_prefix("W/") {
                Some(rest) => (false, rest),
                None => (true, tag),
            };
            let bare = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            listed.push((bare.ok_or_else(|| malformed(name))?.to_owned(), strong));
        }
    }
    match (any, listed.is_empty()) {
        (false, true) => Ok(None),
        (true, true) => Ok(Some(Tags::Any)),
        (false, false) => Ok(Some(Tags::Listed(listed))),
        (true, false) => Err(malformed(name)),
    }
}

fn malformed(name: &HeaderName) -> Failure {
    Failure::bad(format!("invalid header {name}: expected * or quoted entity tags"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::{Expect, Stored};
    use http::HeaderMap;
    use model::Revision;
    use serde_json::json;

    use super::Precondition;

    /// `found` is the revision of what is there; `expected` is `None` for a refusal.
    fn check(header: &'static str, value: &str, found: Option<u64>, expected: Option<Expect>) {
        let mut headers = HeaderMap::new();
        headers.insert(header, value.parse().unwrap());
        let found = found.map(|modified| Stored {
            value: Arc::new(json!({})),
            created: Revision::new(1),
            modified: Revision::new(modified),
        });
        let read = Precondition::read(&headers).and_then(|it| it.expect(found.as_ref()));
        assert_eq!(read.ok(), expected, "{header}: {value}, {found:?}");
    }

    const SEVEN: Option<Expect> = Some(Expect::Modified(Revision::new(7)));

    #[test]
    fn if_match_wants_what_is_there() {
        check("if-match", "\"7\"", Some(7), SEVEN);
        check("if-match", "\"6\", \"7\"", Some(7), SEVEN);
        check("if-match", "*", Some(7), SEVEN);
        check("if-match", "\"6\"", Some(7), None);
        check("if-match", "W/\"7\"", Some(7), None);
        check("if-match", "*", None, None);
        check("if-match", "\"7\"", None, None);
    }

    #[test]
    fn if_none_match_wants_something_else() {
        check("if-none-match", "*", None, Some(Expect::Absent));
        check("if-none-match", "*", Some(7), None);
        check("if-none-match", "W/\"7\"", Some(7), None);
        check("if-none-match", "\"6\"", Some(7), SEVEN);
        check("if-none-match", "\"6\"", None, Some(Expect::Absent));
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_refused() {
        check("if-match", "7", Some(7), None);
        check("if-match", "*, \"7\"", Some(7), None);
        check("if-match", "", Some(7), None);
    }
}
