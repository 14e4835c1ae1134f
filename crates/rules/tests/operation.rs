//! Cloudflare's catalogue against the sources it was made from.
#![expect(clippy::indexing_slicing, reason = "a test that meets what is not there fails")]

#[path = "../examples/operations/compile.rs"]
mod compile;
#[path = "operation/source.rs"]
mod source;
#[path = "../examples/operations/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use http::uri::PathAndQuery;
use proptest::prelude::{Strategy, prop, prop_assert_eq, proptest};
use rules::operation::{Catalogue, Effect, Shape, Why};
use rules::target::Target;

use source::{Fill, Row, Source};

fn target(path: &str) -> Target {
    let target = PathAndQuery::try_from(format!("/client/v4{path}")).expect("a path");
    Target::from_path_and_query(target).expect("a target")
}

/// What a call is: the operation and its parameters, or why it is unknown.
fn found(method: &str, path: &str) -> Result<(String, Vec<(String, String)>), Why> {
    let target = target(path);
    let call = Catalogue::cloudflare().find(method, &target).map_err(|unknown| unknown.why)?;
    let parameters = call.parameters().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok((call.template.operation.to_owned(), parameters.collect()))
}

fn operation(method: &str, path: &str) -> Option<String> {
    found(method, path).ok().map(|(operation, _)| operation)
}

#[test]
fn the_table_is_what_its_sources_make() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let sources = compile::Sources::read(&data.join("cloudflare")).unwrap();
    let made = compile::compile(&sources).unwrap();
    let shipped = std::fs::read_to_string(data.join("cloudflare.operations")).unwrap();
    assert!(made == shipped, "run `cargo run -p rules --example operations`");
}

#[test]
fn every_row_of_the_sources_is_found_with_its_parameters() {
    let source = Source::read();
    let calls: std::collections::BTreeSet<_> =
        source.rows.iter().map(|row| (&row.method, &row.path)).collect();
    assert_eq!((source.sdk_rows, calls.len()), (2_861, 2_880), "of the SDK and beside it");
    for fill in [Fill::Hex, Fill::Uuid] {
        for row in &source.rows {
            let (path, values) = source.instance(row, fill);
            let (operation, parameters) = found(&row.method, &path)
                .unwrap_or_else(|why| panic!("{} {path} is unknown: {why:?}", row.method));
            assert_eq!(operation, source.first_name(row), "{} {path}", row.method);
            assert_eq!(parameters, values, "{} {path}", row.method);
        }
    }
}

#[test]
fn every_row_has_what_the_sources_say_of_it() {
    let source = Source::read();
    let mut tagged = BTreeMap::new();
    for row in &source.rows {
        let (path, _) = source.instance(row, Fill::Hex);
        let target = target(&path);
        let template = Catalogue::cloudflare().find(&row.method, &target).unwrap().template;
        let tags = source.tags(row);
        let effect = tags.iter().find_map(|tag| tag.strip_prefix("effect:"));
        let expected = match effect {
            Some("read") => Effect::Read,
            Some("write") => Effect::Write,
            Some(_) => Effect::Body,
            None => Effect::of_method(&row.method),
        };
        assert_eq!(template.effect, expected, "{} {path}", row.method);
        if let Some(scope) = &row.scope {
            assert_eq!(template.scope.as_str(), scope, "{} {path}", row.method);
        }
        let cost = tags.iter().find_map(|tag| tag.strip_prefix("cost:"));
        assert_eq!(template.cost.as_str(), cost.unwrap_or("none"), "{} {path}", row.method);
        let mut dangers: Vec<_> =
            tags.iter().filter_map(|tag| tag.strip_prefix("danger:")).collect();
        dangers.sort_unstable();
        let known: Vec<_> = template.dangers.iter().map(|danger| danger.as_str()).collect();
        assert_eq!(known, dangers, "{} {path}", row.method);
        let is_alias = template.aliases.split(',').any(|alias| alias == row.operation);
        assert!(is_alias || template.operation == row.operation, "{} {path}", row.method);
        for tag in tags {
            tagged.entry(tag).or_insert_with(Vec::new).push((row.method.clone(), path.clone()));
        }
    }
    let count = |tag: &str| {
        let mut calls = tagged.get(tag).cloned().unwrap_or_default();
        calls.dedup();
        calls.len()
    };
    // As the reference counts them, and the two that our names tag beside.
    assert_eq!(["cost:purchase", "cost:recurring", "cost:usage"].map(count), [5, 16, 26]);
    assert_eq!(["danger:irreversible", "danger:outage"].map(count), [23, 25]);
    assert_eq!(["danger:identity", "danger:exfiltration"].map(count), [19 + 1, 16 + 1]);
    assert_eq!(["danger:payment", "danger:audit", "effect:read"].map(count), [9, 5, 16]);
}

#[test]
fn a_value_of_another_shape_is_no_parameter() {
    let source = Source::read();
    let mut tried = 0;
    for row in &source.rows {
        for (place, misfit) in source.misfits(row) {
            let (path, _) = source.instance_with(row, place, misfit);
            let name = source.first_name(row);
            let found = found(&row.method, &path);
            let took_it = found.as_ref().is_ok_and(|(operation, values)| {
                *operation == name && values.iter().any(|(_, value)| value == misfit)
            });
            assert!(!took_it, "{} {path}: {found:?}", row.method);
            tried += 1;
        }
    }
    assert!(tried > 20_000, "{tried}");
}

/// Two templates of one method that a path may fit, as the sources write them.
fn competitors(source: &Source) -> Vec<(&Row, &Row)> {
    let mut found = Vec::new();
    let rows: BTreeMap<_, _> = source
        .rows
        .iter()
        .filter(|row| row.is_of_sdk)
        .rev()
        .map(|row| ((row.method.as_str(), row.path.as_str()), row))
        .collect();
    let rows: Vec<&Row> = rows.into_values().collect();
    for (number, one) in rows.iter().enumerate() {
        for other in rows.iter().take(number) {
            if one.method == other.method && one.may_meet(other) {
                found.push((*one, *other));
            }
        }
    }
    found
}

#[test]
fn of_two_that_compete_the_one_with_the_first_literal_takes_the_call() {
    let source = Source::read();
    let pairs = competitors(&source);
    assert_eq!(pairs.len(), 278);
    let mut taken = 0;
    for (one, other) in pairs {
        let (winner, loser) = if one.is_before(other) { (one, other) } else { (other, one) };
        let (path, fits) = source.meeting(winner, loser);
        let found = operation(&one.method, &path);
        let expected = fits.then(|| source.first_name(winner));
        assert_eq!(found, expected, "{} {path}: {winner:?} {loser:?}", one.method);
        taken += usize::from(fits);
    }
    // In the others each parameter would have to take a literal of the other template.
    assert!(taken >= 237, "{taken}");
}

proptest! {
    #[test]
    fn a_slow_and_obvious_matcher_agrees(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get"]),
        path in some_path(),
    ) {
        let source = Source::shared();
        let as_get = if method == "HEAD" { "GET" } else { method };
        prop_assert_eq!(operation(method, &path), source.slow(as_get, &path), "{} {}", method, path);
    }
}

/// A path near the templates: one of them, with some segments exchanged, cut off or added.
fn some_path() -> impl Strategy<Value = String> {
    let rows = 0..Source::shared().rows.len();
    let change = (0..12_usize, 0..14_usize, 0..10_000_usize);
    (rows, prop::collection::vec(change, 0..4)).prop_map(|(row, changes)| {
        let source = Source::shared();
        let (path, _) = source.instance(&source.rows[row], Fill::Hex);
        let mut segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        for (place, kind, pick) in changes {
            let place = place % segments.len().max(1);
            let word = match kind {
                0..=4 => source.literals[pick % source.literals.len()].clone(),
                5 => "0123456789abcdef0123456789abcdef".to_owned(),
                6 => "0123456789ABCDEF0123456789ABCDEF".to_owned(),
                7 => "some-name".to_owned(),
                8 => "a;b".to_owned(),
                9 => "12.34".to_owned(),
                10 => "x.png".to_owned(),
                11 => {
                    segments.pop();
                    continue;
                }
                12 => {
                    segments.push(source.literals[pick % source.literals.len()].clone());
                    continue;
                }
                _ => "1".to_owned(),
            };
            if let Some(segment) = segments.get_mut(place) {
                *segment = word;
            }
        }
        segments.iter().map(|segment| format!("/{segment}")).collect()
    })
}

#[test]
fn no_literal_of_the_api_looks_like_an_identifier() {
    let source = Source::read();
    let found: Vec<_> = source.literals.iter().filter(|literal| Shape::Id.takes(literal)).collect();
    // It stands beside a parameter that takes any name.
    assert_eq!(found, ["transformations_c2pa"]);
    assert!(!source.literals.iter().any(|literal| Shape::Hex32.takes(literal)));
}
