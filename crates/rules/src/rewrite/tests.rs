//! The laws of rewriting a request.

use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, proptest};

use super::{Arc, Captured, HeaderMap, HeaderText, HeaderValue, Regexp, Rewrite, RewriteFault};
use crate::fact::sample::Sample;
use crate::regexp::Case;
use crate::target::{Target, TargetFault};
use crate::variable::Template;

/// What a request for `target` becomes; `None` when it stays as it is.
fn check(rewrite: &Rewrite, target: &str, expected: Option<&str>) {
    let rewritten = apply(rewrite, target).unwrap();
    assert_eq!(rewritten.as_ref().map(PathAndQuery::as_str), expected, "{target}");
}

fn check_fault(rewrite: &Rewrite, target: &str, expected: RewriteFault) {
    assert_eq!(apply(rewrite, target), Err(expected), "{target}");
}

fn apply(rewrite: &Rewrite, target: &str) -> Result<Option<PathAndQuery>, RewriteFault> {
    let sample = Sample::new(target).header("x-team", b"a/b?c=%2e&\xc3\xa9");
    let rewritten = rewrite.target(&sample.facts())?;
    Ok(rewritten.target.map(|target| target.path_and_query().clone()))
}

fn uri(text: &str) -> Rewrite {
    Rewrite { uri: Some(Template::parse(text).unwrap()), ..Rewrite::default() }
}

fn regex(pairs: &[(&str, &str)]) -> Rewrite {
    let pair = |(pattern, text): &(&str, &str)| {
        let pattern = Regexp::parse(pattern, Case::Minded, 64).unwrap();
        (pattern, Template::parse_with_captures(text).unwrap())
    };
    Rewrite { regex_uri: pairs.iter().map(pair).collect(), ..Rewrite::default() }
}

fn headers(
    rewrite: &Rewrite,
    target: &str,
    before: &[(&'static str, &'static str)],
) -> Result<Vec<String>, RewriteFault> {
    let sample = Sample::new(target).header("x-team", b"dns");
    let captures = rewrite.target(&sample.facts())?.captures;
    let mut headers = HeaderMap::new();
    for (name, value) in before {
        headers.append(*name, HeaderValue::from_static(value));
    }
    rewrite.headers(&mut headers, &sample.facts(), &captures)?;
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    let mut fields: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    fields.sort();
    Ok(fields)
}

fn template(text: &str) -> HeaderText {
    HeaderText::Template(Arc::new(Template::parse_with_captures(text).unwrap()))
}

#[test]
fn nothing_to_rewrite_leaves_the_target() {
    check(&Rewrite::default(), "/a?b", None);
    check(&regex(&[("^/x", "/y")]), "/a?b", None);
    check(&regex(&[("^/x", "/y")]), "/%61?b", None);
}

#[test]
fn a_new_uri_takes_the_client_s_query_behind_its_own() {
    check(&uri("/x"), "/a", Some("/x"));
    check(&uri("/x"), "/a?b=%41", Some("/x?b=%41"));
    check(&uri("/x?y=1"), "/a?b", Some("/x?y=1&b"));
    check(&uri("/x?y=1"), "/a?", Some("/x?y=1"));
    check(&uri("/x?"), "/a?b", Some("/x?b"));
    check(&uri("/x?y&"), "/a?b", Some("/x?y&b"));
}

#[test]
fn a_query_that_a_variable_placed_is_not_placed_twice() {
    check(&uri("/x?$args"), "/a?b=%41", Some("/x?b=%41"));
    check(&uri("/x?y&$args"), "/a?b", Some("/x?y&b"));
    check(&uri("/p$request_uri"), "/%61?b", Some("/p/%61?b"));
    check(&uri("/p$request_uri"), "/a", Some("/p/a"));
    check(&uri("/x?from=$request_uri"), "/a?b&c", Some("/x?from=/a%3Fb%26c&b&c"));
}

#[test]
fn the_uri_variable_is_escaped_again() {
    check(&uri("/p$uri"), "/%61%3F%20%2f%c3%a9", Some("/p/a%3F%20%2F%C3%A9"));
    check(&uri("/p?u=$uri"), "/a&b%3dc%2F", Some("/p?u=/a%26b%3Dc%2F"));
}

#[test]
fn a_variable_fills_one_place_of_the_path() {
    check(&uri("/x/$http_x_team/y"), "/", Some("/x/a%2Fb%3Fc%3D%252e%26%C3%A9/y"));
    check(&uri("/x/$arg_a"), "/?a=b/c%2fd?", Some("/x/b%2Fc%2fd%3F?a=b/c%2fd?"));
    check(&uri("/x?t=$http_x_team"), "/", Some("/x?t=a%2Fb%3Fc%3D%252e%26%C3%A9"));
    check_fault(
        &uri("/x/$arg_a"),
        "/?a=..",
        RewriteFault::Target(TargetFault::DotSegment { offset: 3 }),
    );
    check_fault(
        &uri("/x/$arg_a/y"),
        "/",
        RewriteFault::Target(TargetFault::EmptySegment { offset: 3 }),
    );
    check_fault(
        &uri("/x/$arg_a"),
        "/?a=b%2F..",
        RewriteFault::Target(TargetFault::DotSegment { offset: 7 }),
    );
}

#[test]
fn the_first_pair_that_matches_is_applied_once() {
    let rewrite = regex(&[("^/none", "/no"), ("/a", "/b"), ("/a", "/c")]);
    check(&rewrite, "/x/a/a?q", Some("/x/b/a?q"));
    check(&regex(&[("^/client/v4(/.*)?$", "$1")]), "/client/v4/zones", Some("/zones"));
    check(&regex(&[("^/([^/]+)/(.*)$", "/$2/${1}0")]), "/a/b/c", Some("/b/c/a0"));
}

#[test]
fn an_empty_path_becomes_the_root() {
    check(&regex(&[("^/client/v4(/.*)?$", "$1")]), "/client/v4?a", Some("/?a"));
    check(&regex(&[("^/.*$", "?b")]), "/x?a", Some("/?b&a"));
}

#[test]
fn what_the_client_escaped_survives() {
    let rewrite = regex(&[("^/kv/(.*)$", "/values/$1")]);
    check(&rewrite, "/kv/a%2fb%3F%20c", Some("/values/a%2fb%3F%20c"));
    check(&rewrite, "/kv/a[1]|{x}", Some("/values/a[1]|{x}"));
}

#[test]
fn a_path_that_matches_only_in_normal_form_is_escaped_again() {
    let rewrite = regex(&[("^/kv/(.*)$", "/values/$1")]);
    check(&rewrite, "/%6bv/a%2fb%3F%20c%23%25%ff", Some("/values/a%2Fb%3F%20c%23%25%FF"));
}

#[test]
fn a_path_that_rewrites_two_ways_is_ambiguous() {
    let rewrite = regex(&[("^/admin/", "/x/"), ("^/(.*)$", "/public/$1")]);
    check_fault(&rewrite, "/%61dmin/a", RewriteFault::Ambiguous);
    check(&rewrite, "/admin/%61", Some("/x/%61"));
    check_fault(&regex(&[("^/%61", "/x?y=1"), ("^/a", "/x?y=2")]), "/%61", RewriteFault::Ambiguous);
    check(&regex(&[("^/%61", "/x?y=b"), ("^/a", "/x?y=%62")]), "/%61", Some("/x?y=b"));
    check_fault(&regex(&[("%61", "b")]), "/%61", RewriteFault::Ambiguous);
    check_fault(&regex(&[("^/(.)", "/")]), "/%61b", RewriteFault::Ambiguous);
}

#[test]
fn the_real_request_uri_is_read_one_way() {
    let rewrite =
        Rewrite { use_real_request_uri: true, ..regex(&[("^/kv/", "/values/"), ("%61", "b")]) };
    check(&rewrite, "/x/%61", Some("/x/b"));
    check(&rewrite, "/%6bv/a", None);
}

#[test]
fn a_question_mark_of_the_replacement_starts_a_query() {
    let rewrite = regex(&[("^/find/(.*)$", "/search?q=$1")]);
    check(&rewrite, "/find/a", Some("/search?q=a"));
    check(&rewrite, "/find/a&admin=1+2;b?c=d", Some("/search?q=a%26admin%3D1%2B2%3Bb&c=d"));
    check(&rewrite, "/find/a%3fb%26c/%64", Some("/search?q=a%3fb%26c/%64"));
    check(&rewrite, "/%66ind/a%3fb%26c/%64", Some("/search?q=a%3Fb%26c/d"));
    check(&regex(&[("/find", "/s?x=1")]), "/find/rest", Some("/s?x=1/rest"));
}

#[test]
fn what_the_author_wrote_is_escaped_where_it_must_be() {
    check(&uri("/a b/é#%41%zz?c d#\"e"), "/", Some("/a%20b/%C3%A9%23%41%25zz?c%20d%23%22e"));
}

#[test]
fn a_result_that_is_no_target_is_a_fault() {
    let fault = |fault| RewriteFault::Target(fault);
    check_fault(&regex(&[("^/", "")]), "/a", fault(TargetFault::NotAbsolutePath));
    check_fault(&regex(&[("x", "..")]), "/a/x", fault(TargetFault::DotSegment { offset: 3 }));
    check_fault(&regex(&[("x", ".")]), "/a/x.", fault(TargetFault::DotSegment { offset: 3 }));
    check_fault(&regex(&[("x", "")]), "/a/x/b", fault(TargetFault::EmptySegment { offset: 3 }));
    check_fault(&regex(&[("x", "")]), "/a/.x%2e", fault(TargetFault::DotSegment { offset: 3 }));
}

#[test]
fn a_result_has_a_bound() {
    let twice = uri("$uri$uri");
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    check(&twice, &path(32_767), Some(&path(32_767).repeat(2)));
    check_fault(&twice, &path(32_768), RewriteFault::TargetTooLong);
}

#[test]
fn headers_are_added_then_set_then_removed() {
    let rewrite = Rewrite {
        add: vec![
            ("x-a".parse().unwrap(), template("new")),
            ("x-s".parse().unwrap(), template("x")),
        ],
        set: vec![
            ("x-s".parse().unwrap(), template("set")),
            ("x-r".parse().unwrap(), template("y")),
        ],
        remove: vec!["x-r".parse().unwrap(), "x-gone".parse().unwrap()],
        ..Rewrite::default()
    };
    let fields =
        headers(&rewrite, "/", &[("x-a", "old"), ("x-s", "1"), ("x-s", "2"), ("x-r", "z")]);
    assert_eq!(fields.unwrap(), ["x-a: new", "x-a: old", "x-s: set"]);
}

#[test]
fn headers_are_filled_from_the_request_and_from_the_captures() {
    let rewrite = Rewrite {
        set: vec![(HOST, template("$http_x_team-$1-$2-$run"))],
        ..regex(&[("^/zones/([^/]*)/", "/z/")])
    };
    assert_eq!(
        headers(&rewrite, "/zones/%41é/".replace('é', "%c3%a9").as_str(), &[]).unwrap(),
        ["host: dns-Aé--"]
    );
    assert_eq!(headers(&rewrite, "/other", &[]).unwrap(), ["host: dns---"]);
}

#[test]
fn a_fixed_value_stays_sensitive() {
    let mut secret = HeaderValue::from_static("Bearer x");
    secret.set_sensitive(true);
    let rewrite =
        Rewrite { set: vec![(AUTHORIZATION, HeaderText::Fixed(secret))], ..Rewrite::default() };
    let mut headers = HeaderMap::new();
    rewrite.headers(&mut headers, &Sample::new("/").facts(), &Captured::default()).unwrap();
    assert!(headers.get(AUTHORIZATION).unwrap().is_sensitive());
}

#[test]
fn a_value_that_is_no_header_value_is_a_fault() {
    let line = Rewrite {
        set: vec![(HOST, HeaderText::Template(Arc::new(Template::constant("a\nb"))))],
        ..Rewrite::default()
    };
    assert_eq!(headers(&line, "/", &[]), Err(RewriteFault::Header { name: HOST }));
    let long = Rewrite { set: vec![(HOST, template("$uri"))], ..Rewrite::default() };
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    assert!(headers(&long, &path(16_384), &[]).is_ok());
    assert_eq!(headers(&long, &path(16_385), &[]), Err(RewriteFault::Header { name: HOST }));
}

fn some_target() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", ".", "/", "%2f", "%2e", "%61", "%25", "%3F", "%26", "&", "+", ";", "?", "=",
        "%C3%A9", "%ff", "[",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn some_rewrite() -> impl Strategy<Value = Rewrite> {
    let pattern =
        prop::sample::select(vec!["^/a", "^/(.*)/(.*)$", "(b)", "%", "([^/]*)$", "^/(.)", "a|é"]);
    let text = prop::sample::select(vec![
        "/$1",
        "$1",
        "/x/$2?y=$1",
        "$uri",
        "/$arg_a",
        ".$1",
        "/p$request_uri",
        "?$args",
    ]);
    prop::collection::vec((pattern, text), 1..4).prop_map(|pairs| regex(&pairs))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rewritten_target_is_a_target(rewrite in some_rewrite(), target in some_target()) {
        if Target::parse(&target.parse().unwrap()).is_ok()
            && let Ok(Some(rewritten)) = apply(&rewrite, &target)
        {
            prop_assert!(Target::from_path_and_query(rewritten.clone()).is_ok(), "{}", rewritten);
        }
    }

    #[test]
    fn two_spellings_of_a_path_never_become_two_resources(rewrite in some_rewrite(), target in some_target()) {
        let Ok(sent) = Target::parse(&target.parse().unwrap()) else { return Ok(()) };
        // The spelling that is the normal form, with what may not stand raw escaped.
        let plain = apply(&uri("$uri"), &target).unwrap().unwrap();
        let mark = if sent.query() == Some("") { "?" } else { "" };
        let plain = Target::parse(&format!("{plain}{mark}").parse().unwrap()).unwrap();
        prop_assert!(plain.normal() == sent.normal());
        if let (Ok(Some(one)), Ok(Some(other))) = (apply(&rewrite, &target), apply(&rewrite, plain.raw())) {
            let (one, other) = (Target::from_path_and_query(one).unwrap(), Target::from_path_and_query(other).unwrap());
            prop_assert!(super::mean_the_same(&one, &other), "{} and {}", one.raw(), other.raw());
        }
    }
}
