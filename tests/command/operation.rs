//! `tollgate operations`: what is found, what is explained, and what is answered to nonsense.

use serde_json::{Value, json};

use super::run;

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";

fn explained(method: &str, path: &str) -> Value {
    run(&["operations", "explain", method, path, "--output", "json"]).json()
}

#[test]
fn operations_are_found_by_their_words() {
    let told = run(&["operations", "find", "purchase", "registrar"]).well();
    assert!(told.contains("registrar.registrations.create") && told.lines().count() == 3, "{told}");
    let found = run(&["operations", "find", "dns.records.delete", "--output", "json"]).json();
    assert_eq!(found["total"], 1);
    let path = "/client/v4/zones/{zone_id}/dns_records/{dns_record_id}";
    assert_eq!([&found["list"][0]["path"], &found["list"][0]["method"]], [path, "DELETE"]);
    run(&["operations", "find", "no-such-word"]).failed(1, &["no-such-word"]);
    let alias = run(&["operations", "find", "kv.namespaces.keys.bulk_update"]).well();
    assert!(alias.contains("kv.namespaces.bulk_update"), "{alias}");
}

#[test]
fn a_call_is_explained_by_its_guards_and_by_those_that_lost() {
    let export = explained("GET", &format!("/client/v4/zones/{ZONE}/dns_records/export"));
    assert_eq!(export["operation"], "dns.records.export");
    assert_eq!(export["parameters"], json!({ "zone_id": ZONE }));
    assert_eq!([&export["effect"], &export["dangers"][0]], ["read", "exfiltration"]);
    assert_eq!(export["guards"]["{zone_id}"], "32 lower-case hex digits");
    let lost = export["others"].as_array().and_then(|others| others.first());
    let lost = lost.and_then(|other| other["lost"].as_str()).unwrap_or_default();
    assert!(lost.contains("the literal `export`"), "{export}");
    let unknown = explained("DELETE", "/client/v4/zones/example.com");
    assert_eq!([&unknown["operation"], &unknown["effect"]], ["unknown", "write"]);
    let told = run(&["operations", "explain", "DELETE", "/client/v4/zones/example.com"]).well();
    assert!(told.contains("`example.com` is not 32 lower-case hex digits"), "{told}");
}

#[test]
fn a_call_may_be_written_as_people_have_it_at_hand() {
    for path in [
        "/client/v4/zones/{zone_id}",
        "/zones/{zone_id}",
        "zones/{zone_id}",
        "/ai-cloudflare/client/v4/zones/{id}",
        "https://api.cloudflare.com/client/v4/zones/{zone_id}?page=2#top",
    ] {
        assert_eq!(explained("GET", path)["operation"], "zones.get", "{path}");
    }
    let hints = explained("GET", "/zones")["hints"].clone();
    assert!(hints[0].as_str().is_some_and(|hint| hint.contains("/client/v4")), "{hints}");
    assert_eq!(explained("GET", "/client/v4/zones")["hints"], json!([]));
}

#[test]
fn what_cannot_be_a_call_is_refused_with_the_way_out() {
    let refused = |method: &str, path: &str, reasons: &[&str]| {
        run(&["operations", "explain", method, path]).failed(64, reasons);
    };
    refused("get", "/zones", &["GET"]);
    refused("/zones", "GET", &["the method comes first"]);
    refused("GET", "https://example.com/zones", &["example.com"]);
    refused("GET", "/zones//x", &["empty segment"]);
    refused("GET", "/zones/../x", &["dot segment"]);
    refused("GET", "/zones/%zz", &["percent-escape"]);
    run(&["operations", "find"]).failed(64, &["WORD"]);
    run(&["operations"]).failed(64, &["find", "explain"]);
}
