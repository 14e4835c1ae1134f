//! A body as policies read it: in one way, or not at all.
//!
//! Only what is read is looked at, and there everything that another parser could take otherwise is
//! refused: a member that stands twice, one whose name differs only in its case (many parsers take
//! either), a value of another type than the policy's.

use cedar_policy::RestrictedExpression;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::kind::{Kind, Members, decimal};

/// Why a body cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the body is not JSON")]
    NotJson,
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("the body names `{0}` more than once")]
    Twice(String),
    #[error("the body has a member `{found}`, which may be taken for `{wanted}`")]
    Alike { found: String, wanted: String },
    #[error("`{path}` in the body is not a {wanted}")]
    Kind { path: String, wanted: String },
    #[error("the header `{0}` stands more than once, or is not text")]
    Header(String),
    #[error("the query names `{0}` more than once, or not in text")]
    Query(String),
    #[error("the price in {0} is beyond what can be compared")]
    Price(String),
    #[error("what is asked cannot be put to the policies")]
    Question,
}

/// Reads the members of a body. Nothing at all has no members.
pub(crate) fn read(body: &[u8], members: &Members) -> Result<RestrictedExpression, Unreadable> {
    if body.is_empty() {
        return build(Vec::new());
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(|_| Unreadable::NotJson)?;
    record(whole, members, "").map_err(|fault| match fault {
        Unreadable::Kind { path, .. } if path.is_empty() => Unreadable::NotAnObject,
        other => other,
    })
}

fn build(pairs: Vec<(String, RestrictedExpression)>) -> Result<RestrictedExpression, Unreadable> {
    RestrictedExpression::new_record(pairs).map_err(|_| Unreadable::Question)
}

fn record(raw: &RawValue, members: &Members, at: &str) -> Result<RestrictedExpression, Unreadable> {
    let wrong = || Unreadable::Kind { path: at.to_owned(), wanted: "record".to_owned() };
    let object: Object<'_> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let mut pairs = Vec::with_capacity(members.len());
    for (wanted, kind) in members {
        let path = if at.is_empty() { wanted.clone() } else { format!("{at}.{wanted}") };
        let folded = fold(wanted);
        let mut value = None;
        for (name, raw) in &object.0 {
            if name == wanted {
                if value.replace(*raw).is_some() {
                    return Err(Unreadable::Twice(path));
                }
            } else if fold(name) == folded {
                return Err(Unreadable::Alike { found: name.clone(), wanted: path });
            }
        }
        if let Some(raw) = value {
            pairs.push((wanted.clone(), read_kind(raw, kind, &path)?));
        }
    }
    build(pairs)
}

fn read_kind(raw: &RawValue, kind: &Kind, at: &str) -> Result<RestrictedExpression, Unreadable> {
    let text = raw.get();
    let string = || serde_json::from_str::<String>(text).ok();
    let made = match kind {
        Kind::Presence => Some(RestrictedExpression::new_bool(true)),
        Kind::Bool => text.parse().ok().map(RestrictedExpression::new_bool),
        Kind::Long => text.parse().ok().map(RestrictedExpression::new_long),
        Kind::Decimal => {
            let written = string();
            let number = decimal(written.as_deref().unwrap_or(text));
            number.map(RestrictedExpression::new_decimal)
        }
        Kind::Text | Kind::Ip | Kind::Datetime => string().and_then(|text| kind.of_text(&text)),
        Kind::Set(of) => {
            let of = if **of == Kind::Presence { &Kind::Text } else { &**of };
            match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(items) => {
                    let items = items.into_iter().map(|item| read_kind(item, of, at));
                    Some(RestrictedExpression::new_set(items.collect::<Result<Vec<_>, _>>()?))
                }
                Err(_) => None,
            }
        }
        Kind::Record(members) => return record(raw, members, at),
        Kind::Duration | Kind::Entity => None,
    };
    made.ok_or_else(|| Unreadable::Kind { path: at.to_owned(), wanted: kind.to_string() })
}

/// A name without its case, as parsers that do not mind it compare names: Go's take `ſ` for `s` and
/// the sign of kelvin for `k`, too.
fn fold(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// The members of an object as they stand, each time they stand there.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Members, read};

    /// Whether a body can be read where a text `type`, a number `ttl`, a decimal `cost`, texts
    /// `tags` and an address `data.ip` are.
    #[track_caller]
    fn check(body: &str, expected: Result<(), &str>) {
        let data = Members::from([("ip".to_owned(), Kind::Ip)]);
        let members = Members::from([
            ("type".to_owned(), Kind::Text),
            ("ttl".to_owned(), Kind::Long),
            ("cost".to_owned(), Kind::Decimal),
            ("tags".to_owned(), Kind::Set(Box::new(Kind::Text))),
            ("data".to_owned(), Kind::Record(data)),
        ]);
        let found = read(body.as_bytes(), &members).map(|_| ()).map_err(|why| why.to_string());
        assert_eq!(
            found.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|it| *it),
            "{body}"
        );
    }

    #[test]
    fn what_is_of_its_kind_is_read_and_the_rest_is_not_looked_at() {
        check("", Ok(()));
        check("{}", Ok(()));
        check(r#" {"type":"A","ttl":-1,"cost":15.00,"tags":["a"],"data":{"ip":"::1"}} "#, Ok(()));
        check(r#"{"cost":"9.77","other":{"a":1,"a":2},"other":null}"#, Ok(()));
    }

    #[test]
    fn what_is_of_another_kind_is_refused() {
        for (body, why) in [
            ("[]", "the body is not a JSON object"),
            ("{", "the body is not JSON"),
            ("{}{}", "the body is not JSON"),
            (r#"{"type":null}"#, "`type` in the body is not a text"),
            (r#"{"ttl":1.0}"#, "`ttl` in the body is not a number"),
            (r#"{"ttl":1e2}"#, "`ttl` in the body is not a number"),
            (r#"{"ttl":9223372036854775808}"#, "`ttl` in the body is not a number"),
            (r#"{"cost":0.00001}"#, "`cost` in the body is not a decimal"),
            (r#"{"tags":["a",1]}"#, "`tags` in the body is not a text"),
            (r#"{"data":[]}"#, "`data` in the body is not a record"),
            (r#"{"data":{"ip":"10.0.0.1/33"}}"#, "`data.ip` in the body is not a address"),
        ] {
            check(body, Err(why));
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        check(r#"{"type":"A","type":"MX"}"#, Err("the body names `type` more than once"));
        check(r#"{"type":"A","t\u0079pe":"MX"}"#, Err("the body names `type` more than once"));
        check(
            r#"{"type":"A","TYPE":"MX"}"#,
            Err("the body has a member `TYPE`, which may be taken for `type`"),
        );
        check(
            r#"{"tagſ":["a"]}"#,
            Err("the body has a member `tagſ`, which may be taken for `tags`"),
        );
    }
}
