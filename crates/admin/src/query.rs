//! The query of a request to the operators' door.

use axum::extract;
use http::Uri;

use crate::envelope::Failure;

/// Names and values, decoded, in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a URI.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Failure> {
        let query = extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        query.map(|query| Self(query.0)).map_err(|_| Failure::bad("the query cannot be read"))
    }

    /// The first value of a name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| (found == name).then_some(&**value))
    }

    /// A switch that is off unless it says `true`.
    ///
    /// Whatever is neither true nor false is refused: who asks for a dry run with a typing error
    /// does not want the change made.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, Failure> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
        let meant = plain(name);
        if let Some((typo, _)) =
            self.0.iter().find(|(found, _)| found != name && plain(found) == meant)
        {
            return Err(Failure::bad(format!("unknown argument {typo}: write {name}")));
        }
        match self.first(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => {
                Err(Failure::bad(format!("invalid argument {name}: should be true or false")))
            }
        }
    }
}
