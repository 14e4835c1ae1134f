//! Lists: filters, order and pages.

use config::{Key, Kind, State, Stored};
use http::Uri;
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use crate::envelope::{Failure, read};
use crate::query::Query;

/// What a list leaves out, and which part of the rest is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    name: Option<Regex>,
    label: Option<String>,
    uri: Option<Regex>,
    /// Members that hold exactly these texts.
    equal: Vec<(&'static str, String)>,
    page: Option<Page>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    /// From one.
    number: usize,
    size: usize,
}

impl Wanted {
    /// Reads the query of a list. What a kind cannot be filtered by is ignored, as in APISIX.
    pub(crate) fn read(kind: Kind, query: &Query) -> Result<Self, Failure> {
        let uri = if kind == Kind::Route { pattern(query, "uri")? } else { None };
        Ok(Self {
            name: pattern(query, "name")?,
            label: query.first("label").filter(|label| !label.is_empty()).map(str::to_owned),
            uri,
            equal: if kind == Kind::Route { equal(query)? } else { Vec::new() },
            page: Page::read(query)?,
        })
    }

    /// The list as it is shown.
    pub(crate) fn list(&self, state: &State, kind: Kind, parent: Option<&str>) -> Value {
        let mut found: Vec<(&Key, &Stored)> = state
            .list(kind)
            .filter(|(key, _)| parent.is_none_or(|parent| key.id.split('/').next() == Some(parent)))
            .filter(|(_, stored)| self.takes(&stored.value))
            .collect();
        let total = found.len();
        if let Some(Page { number, size }) = self.page {
            found.sort_by_key(|(_, stored)| stored.created);
            let before = number.saturating_sub(1).saturating_mul(size);
            found = found.into_iter().skip(before).take(size).collect();
        }
        let list: Vec<Value> = found.into_iter().map(|(key, stored)| read(key, stored)).collect();
        json!({"list": list, "total": total})
    }

    fn takes(&self, value: &Value) -> bool {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let named = self
            .name
            .as_ref()
            .is_none_or(|name| text("name").is_some_and(|found| name.is_match(found)));
        let labelled = self
            .label
            .as_ref()
            .is_none_or(|label| value.get("labels").is_some_and(|all| all.get(label).is_some()));
        let at_uri = self.uri.as_ref().is_none_or(|uri| {
            let more = value.get("uris").and_then(Value::as_array).into_iter().flatten();
            text("uri").into_iter().chain(more.filter_map(Value::as_str)).any(|it| uri.is_match(it))
        });
        let equal = self.equal.iter().all(|(name, wanted)| text(name) == Some(wanted));
        named && labelled && at_uri && equal
    }
}

impl Page {
    /// Both arguments are needed; otherwise the whole list is wanted.
    fn read(query: &Query) -> Result<Option<Self>, Failure> {
        let (Some(number), Some(size)) = (query.first("page"), query.first("page_size")) else {
            return Ok(None);
        };
        let size = size.parse().map_err(|_| Failure::PageSize)?;
        if !PAGE_SIZES.contains(&size) {
            return Err(Failure::PageSize);
        }
        let number: i64 = number
            .parse()
            .map_err(|_| Failure::bad("invalid argument page: should be a number"))?;
        Ok(Some(Self { number: usize::try_from(number).unwrap_or(1).max(1), size }))
    }
}

fn pattern(query: &Query, name: &str) -> Result<Option<Regex>, Failure> {
    let Some(text) = query.first(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    let wrong = |_| Failure::bad(format!("invalid argument {name}: not a regular expression"));
    built.map(Some).map_err(wrong)
}

/// `filter=k=v&k=v`, itself escaped as one value.
fn equal(query: &Query) -> Result<Vec<(&'static str, String)>, Failure> {
    let Some(filter) = query.first("filter") else { return Ok(Vec::new()) };
    let unreadable = || Failure::bad("invalid argument filter: should be k=v&k=v, escaped");
    let uri = Uri::builder().path_and_query(format!("/?{filter}")).build();
    let inner = Query::parse(&uri.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    let known = |name: &&str| inner.first(name).is_some();
    Ok(FILTERS
        .into_iter()
        .filter(known)
        .filter_map(|name| Some((name, inner.first(name)?.to_owned())))
        .collect())
}

const PAGE_SIZES: std::ops::RangeInclusive<usize> = 10..=500;

/// What routes may be filtered by; other names are ignored, as in APISIX.
const FILTERS: [&str; 2] = ["service_id", "upstream_id"];

/// A larger expression is refused.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::{Key, Kind, State, Stored};
    use model::Revision;
    use serde_json::{Value, json};

    use super::Wanted;
    use crate::query::Query;

    fn state() -> State {
        let rows = (0..25_u64).map(|number| {
            let value = json!({
                "name": format!("route-{number}"),
                "uris": [format!("/a/{number}")],
                "labels": if number % 2 == 0 { json!({"even": "yes"}) } else { json!({}) },
                "upstream_id": if number < 3 { json!("1") } else { json!(1) },
            });
            let created = Revision::new(100 - number);
            let stored = Stored { value: Arc::new(value), created, modified: created };
            (Key::new(Kind::Route, format!("{number:02}")), stored)
        });
        State::restore(Revision::new(100), rows)
    }

    fn check(query: &str, shown: usize, total: usize, first: Option<&str>) {
        let query = Query::parse(&query.parse().unwrap()).unwrap();
        let wanted = Wanted::read(Kind::Route, &query).unwrap();
        let list = wanted.list(&state(), Kind::Route, None);
        assert_eq!(list["list"].as_array().unwrap().len(), shown, "{query:?}");
        assert_eq!(list["total"], total, "{query:?}");
        let key = list["list"].get(0).and_then(|it| it["key"].as_str().map(str::to_owned));
        assert_eq!(key.as_deref(), first, "{query:?}");
    }

    fn check_refused(query: &str, expected: &str) {
        let query = Query::parse(&query.parse().unwrap()).unwrap();
        assert_eq!(Wanted::read(Kind::Route, &query).unwrap_err().message(), expected);
    }

    #[test]
    fn a_list_without_pages_is_whole_and_in_the_order_of_keys() {
        check("/", 25, 25, Some("/apisix/routes/00"));
        check("/?page=1", 25, 25, Some("/apisix/routes/00"));
    }

    #[test]
    fn a_page_is_in_the_order_of_creation() {
        check("/?page=1&page_size=10", 10, 25, Some("/apisix/routes/24"));
        check("/?page=3&page_size=10", 5, 25, Some("/apisix/routes/04"));
        check("/?page=-1&page_size=10", 10, 25, Some("/apisix/routes/24"));
        check("/?page=9&page_size=10", 0, 25, None);
    }

    #[test]
    fn filters_add_up() {
        check("/?name=^route-1", 11, 11, Some("/apisix/routes/01"));
        check("/?name=^route-1&label=even", 5, 5, Some("/apisix/routes/10"));
        check("/?uri=/a/2$", 1, 1, Some("/apisix/routes/02"));
        check("/?filter=upstream_id%3D1%26other%3Dx", 3, 3, Some("/apisix/routes/00"));
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        check_refused("/?page=1&page_size=9", "page_size must be between 10 and 500");
        check_refused("/?page=1&page_size=501", "page_size must be between 10 and 500");
        check_refused("/?name=(", "invalid argument name: not a regular expression");
    }

    #[test]
    fn a_list_shows_no_secret() {
        let value = json!({"username": "a", "plugins": {"key-auth": {"key": "planted"}}});
        let one = Revision::new(1);
        let stored = Stored { value: Arc::new(value), created: one, modified: one };
        let rows = [(Key::new(Kind::Consumer, "a"), stored)];
        let state = State::restore(one, rows.into_iter());
        let wanted = Wanted::read(Kind::Consumer, &Query::default()).unwrap();
        let list: Value = wanted.list(&state, Kind::Consumer, None);
        assert!(!list.to_string().contains("planted"), "{list}");
    }
}
