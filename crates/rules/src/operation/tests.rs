//! Laws of reading a call.

use http::uri::PathAndQuery;

use super::{Api, Catalogue, Effect, Loss, Scope, TableFault, Unknown, Verb, Why};
use crate::target::Target;

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const RECORD: &str = "372e67954025e0ba6aaa6d586b9e0b59";

fn target(path: &str) -> Target {
    let path = path.replace("ZONE", ZONE).replace("RECORD", RECORD);
    Target::from_path_and_query(PathAndQuery::try_from(path).unwrap()).unwrap()
}

/// The operation of a call, or why it is unknown. `ZONE` and `RECORD` stand for identifiers.
#[track_caller]
fn check(method: &str, path: &str, expected: Result<&str, Why>) {
    let target = target(path);
    let found = Catalogue::cloudflare().find(method, &target);
    let found = found.map(|call| call.template.operation).map_err(|unknown| unknown.why);
    assert_eq!(found, expected, "{method} {path}");
}

#[test]
fn a_call_is_named_by_its_method_and_path() {
    check("DELETE", "/client/v4/zones/ZONE/dns_records/RECORD", Ok("dns.records.delete"));
    check("GET", "/client/v4/zones/ZONE/dns_records/RECORD?x=/export", Ok("dns.records.get"));
    check("GET", "/client/v4/zones/ZONE/dns_records/export", Ok("dns.records.export"));
    check("POST", "/client/v4/graphql", Ok("graphql.query"));
    check("POST", "/client/v4/accounts", Ok("accounts.create"));
}

#[test]
fn its_parameters_are_those_of_the_path() {
    let target = target("/client/v4/zones/ZONE/dns_records/RECORD");
    let call = Catalogue::cloudflare().find("PATCH", &target).unwrap();
    let parameters: Vec<_> = call.parameters().collect();
    assert_eq!(parameters, [("zone_id", ZONE), ("dns_record_id", RECORD)]);
    assert_eq!((call.parameter("zone_id"), call.parameter("account_id")), (Some(ZONE), None));
    assert_eq!((call.template.scope, call.template.effect), (Scope::Zone, Effect::Write));
}

#[test]
fn head_is_a_get_and_other_methods_are_unknown() {
    check("HEAD", "/client/v4/zones/ZONE", Ok("zones.get"));
    for method in ["OPTIONS", "PURGE", "get", "Get", ""] {
        check(method, "/client/v4/zones/ZONE", Err(Why::Method));
    }
    check("PATCH", "/client/v4/zones", Err(Why::Method));
}

#[test]
fn what_is_unknown_has_the_effect_of_its_method() {
    let none = target("/client/v4/nothing");
    for (method, effect) in [
        ("GET", Effect::Read),
        ("HEAD", Effect::Read),
        ("OPTIONS", Effect::Read),
        ("DELETE", Effect::Write),
        ("get", Effect::Write),
        ("PROPFIND", Effect::Write),
    ] {
        let unknown = Catalogue::cloudflare().find(method, &none).unwrap_err();
        assert_eq!(unknown, Unknown { effect, why: Why::Path }, "{method}");
    }
}

#[test]
fn a_path_outside_the_base_is_unknown() {
    for path in [
        "/",
        "/zones",
        "/client/v4",
        "/client/v4zones",
        "/client/v5/zones",
        "/CLIENT/V4/zones",
        "/x/client/v4/zones",
    ] {
        check("GET", path, Err(Why::Outside));
    }
    check("GET", "/client/v4/", Err(Why::Path));
}

#[test]
fn another_spelling_of_the_same_path_is_the_same_call() {
    let path = format!("/%63lient/v4/zones/{ZONE}/dns%5Frecords/{RECORD}");
    check("DELETE", &path, Ok("dns.records.delete"));
    check("GET", "/client/v4/zones/ZONE/dns_records/%65xport", Ok("dns.records.export"));
}

#[test]
fn what_an_upstream_may_read_otherwise_is_unknown() {
    for path in [
        "/client/v4/zones/",
        "/client/v4/zones/ZONE/",
        "/client/v4/zones/ZONE/dns_records/RECORD/",
        "/client/v4/Zones/ZONE",
        "/client/v4/zones/ZONE;x=1",
        "/client/v4/zones/ZONE/dns_records/export;x",
        "/client/v4/zones/ZONE/dns_records/RECORD.json",
        "/client/v4/zones/ZONE%2Fdns_records/RECORD",
        "/client/v4/zones/ZONE/dns_records%2FRECORD",
        "/client/v4/zones/ZONE/dns_records%5CRECORD",
        "/client/v4/zones/ZONE/dns_records/RECORD%252F",
        "/client/v4/zones/ZONE/dns_records/RECORD%3Fx",
        "/client/v4/zones/ZONE/dns_records/RECORD%20",
        "/client/v4/zones/ZONE/dns_records/*",
        "/client/v4/zones/*/dns_records/RECORD",
        "/client/v4/zones/example.com",
        "/client/v4/zones/ZONE/dns_records/a-new-word",
    ] {
        check("GET", path, Err(Why::Path));
        check("DELETE", path, Err(Why::Path));
    }
}

#[test]
fn what_a_literal_took_is_not_offered_to_a_parameter() {
    let account = format!("/client/v4/accounts/{ZONE}");
    check("GET", &format!("{account}/stream/live_inputs/{RECORD}"), Ok("stream.live_inputs.get"));
    check("GET", &format!("{account}/stream/live_inputs/downloads"), Err(Why::Path));
    check("GET", &format!("{account}/stream/{RECORD}/downloads"), Ok("stream.downloads.get"));
    check("DELETE", &format!("{account}/images/v1/keys"), Err(Why::Method));
    check("DELETE", &format!("{account}/images/v1/my-image"), Ok("images.v1.delete"));
}

#[test]
fn a_tail_takes_all_that_is_left_however_its_slashes_are_written() {
    let objects = format!("/client/v4/accounts/{ZONE}/r2/buckets/b/objects");
    for key in [
        "key",
        "dir/key.txt",
        "dir%2Fkey.txt",
        "a/b%2Fc/",
        "dir/",
        "../x".trim_start_matches("../"),
    ] {
        let target = target(&format!("{objects}/{key}"));
        let call = Catalogue::cloudflare().find("PUT", &target).unwrap();
        assert_eq!(call.template.operation, "r2.buckets.objects.upload", "{key}");
        assert_eq!(call.parameter("object_key"), Some(key));
    }
    check("PUT", &format!("{objects}/"), Err(Why::Path));
    check("PUT", &objects.replace("/b/", "/b%2Fc/"), Err(Why::Path));
    let run = format!("/client/v4/accounts/{ZONE}/ai/run/");
    check("POST", &format!("{run}@cf/meta/llama-3.1-8b-instruct"), Ok("ai.run"));
    check("POST", &format!("{run}%40cf%2Fmeta%2Fllama-3.1-8b-instruct"), Ok("ai.run"));
}

#[test]
fn an_encoded_slash_in_a_text_makes_no_other_known_path() {
    let keys = format!("/client/v4/accounts/{ZONE}/storage/kv/namespaces/{RECORD}");
    check("PUT", &format!("{keys}/values/dir%2Fkey"), Ok("kv.namespaces.values.update"));
    check("PUT", &format!("{keys}/values/dir/key"), Err(Why::Path));
    let pages = format!("/client/v4/zones/{ZONE}/speed_api/pages");
    check("GET", &format!("{pages}/example.com%2Fabout/tests"), Ok("speed.pages.tests.list"));
    check("GET", &format!("{pages}/example.com%2Ftests/tests"), Err(Why::TwoReadings));
    check("PATCH", &format!("{pages}/example.com%2Ftests/tests"), Err(Why::Method));
}

#[test]
fn every_winner_is_explained_by_the_losses_of_the_others() {
    let target = target("/client/v4/zones/ZONE/dns_records/export");
    let explained = Catalogue::cloudflare().explain("GET", &target);
    assert_eq!(explained.answer.unwrap().template.operation, "dns.records.export");
    let rivals: Vec<_> = explained
        .rivals
        .iter()
        .filter(|rival| rival.template.verb == Verb::Get)
        .map(|rival| (rival.template.operation, rival.loss.clone()))
        .collect();
    let parameter = String::from("{dns_record_id}");
    let literal = String::from("export");
    assert_eq!(rivals, [("dns.records.get", Loss::Literal { parameter, literal })]);
}

#[test]
fn a_call_that_nothing_takes_is_explained_by_all_losses() {
    let word = target("/client/v4/zones/ZONE/dns_records/a-new-word");
    let explained = Catalogue::cloudflare().explain("DELETE", &word);
    assert_eq!(explained.answer.unwrap_err().why, Why::Path);
    assert_eq!(explained.rivals.len(), 4, "{explained:?}");
    for rival in &explained.rivals {
        assert!(matches!(rival.loss, Loss::Shape { .. }), "{rival:?}");
    }
    let outside = target("/zones");
    assert!(Catalogue::cloudflare().explain("GET", &outside).rivals.is_empty());
}

#[test]
fn the_api_of_a_host_is_known_by_its_name() {
    assert_eq!(Api::of_host("api.cloudflare.com"), Some(Api::Cloudflare));
    assert_eq!(Api::of_host("api.cloudflare.com.example"), None);
    assert_eq!(Api::Cloudflare.catalogue().base(), "/client/v4");
}

#[test]
fn a_text_that_is_no_catalogue_is_refused_with_its_line() {
    for (text, line) in [
        ("", 1),
        ("operations 2\nbase /\n", 1),
        ("operations 1\nbase x\n", 2),
        ("operations 1\nbase /\n\ta", 3),
        ("operations 1\nbase /\n>GET a.get nr- -", 3),
        ("operations 1\nbase /\na/b", 3),
        ("operations 1\nbase /\n{a", 3),
        ("operations 1\nbase /\n{a:no}", 3),
        ("operations 1\nbase /\n{a}\n{b}", 4),
        ("operations 1\nbase /\na\nb\na", 5),
        ("operations 1\nbase /\na\n\t>GET a.get nr-", 4),
        ("operations 1\nbase /\na\n\t>FETCH a.get nr- -", 4),
        ("operations 1\nbase /\na\n\t>GET a.get nx- -", 4),
        ("operations 1\nbase /\na\n\t>GET a.get nr- q", 4),
        ("operations 1\nbase /\na\n\t>GET a.get nr- - what", 4),
        ("operations 1\nbase /\na\n\t>GET a.get nr- - names=b", 4),
        ("operations 1\nbase /\na\n\t>GET a.get nr- -\n\t>GET b.get nr- -", 5),
    ] {
        let fault = Catalogue::parse(text).unwrap_err();
        assert!(matches!(fault, TableFault { line: at, .. } if at == line), "{text:?}: {fault}");
    }
}
