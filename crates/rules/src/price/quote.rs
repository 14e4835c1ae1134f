//! Quotes: calls that ask the upstream what another call will cost.

use std::sync::Arc;

use http::Method;
use model::Unit;

use super::pointer::{Json, Pointer};
use crate::operation::Call;

/// A call that is asked before another one leaves, with the credential of its route.
#[derive(Clone, Debug)]
pub struct Quote {
    pub method: Method,
    /// The path as the upstream gets it.
    pub path: Vec<Piece<&'static str, Arc<str>>>,
    /// A JSON text; `None` sends no body.
    pub body: Option<Vec<Piece<Pointer, Arc<str>>>>,
    /// Where the answer says its currency, which must be the price's unit.
    pub currency: Option<Pointer>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<Slot, Text> {
    Text(Text),
    /// What is put in here.
    Slot(Slot),
}

/// A quote's call, filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteCall {
    pub method: Method,
    pub path: String,
    pub body: Option<String>,
}

impl Quote {
    /// Whether its body has parts of the request's.
    #[must_use]
    pub fn reads(&self) -> bool {
        let mut pieces = self.body.iter().flatten();
        pieces.any(|piece| matches!(piece, Piece::Slot(_)))
    }

    /// Fills the call in: its path with the parameters of the priced call, its body with values of
    /// the request's body. `None` when one of them is missing, or is nothing that may stand there.
    #[must_use]
    pub fn call(&self, priced: Option<&Call<'_, '_>>, request: Option<&[u8]>) -> Option<QuoteCall> {
        let mut path = String::new();
        for piece in &self.path {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Slot(name) => path.push_str(segment(priced?.parameter(name)?)?),
            }
        }
        let body = self.body.as_ref().map(|body| {
            let mut text = String::new();
            for piece in body {
                match piece {
                    Piece::Text(part) => text.push_str(part),
                    Piece::Slot(pointer) => text.push_str(Json::parse(request?)?.text(pointer)?),
                }
            }
            Some(text)
        });
        let body = match body {
            Some(filled) => Some(filled?),
            None => None,
        };
        Some(QuoteCall { method: self.method.clone(), path, body })
    }

    /// Whether an answer is in the price's unit, as far as it says.
    pub(super) fn is_in(&self, answer: Json<'_>, unit: &Unit) -> bool {
        self.currency.as_ref().is_none_or(|pointer| {
            let named = answer.text(pointer).and_then(|text| serde_json::from_str(text).ok());
            named.is_some_and(|named: String| named == unit.as_str())
        })
    }
}

/// A parameter's value as one segment of a path; `None` for one that could be read as more.
fn segment(value: &str) -> Option<&str> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let is_dots = value == "." || value == "..";
    (!value.is_empty() && !is_dots && value.bytes().all(is_fine)).then_some(value)
}
