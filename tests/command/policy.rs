//! `tollgate policy`: the example document, judged without a node.

use super::run;
use crate::harness::root;

fn document() -> String {
    root().join("deploy/documents/policies.yaml").display().to_string()
}

#[test]
fn the_example_decides_what_its_test_file_says() {
    let cases = root().join("deploy/tests/policies.yaml").display().to_string();
    let told = run(&["policy", "test", &cases, "-f", &document()]).well();
    assert_eq!(told, "12 cases, 0 failed\n");
}

#[test]
fn a_document_is_checked_and_a_call_explained() {
    let document = document();
    let told = run(&["policy", "check", "-f", &document]).well();
    assert!(told.contains("6 policies, no fault; what none permits is refused"), "{told}");
    let zone = "/zones/023e105f4ecef8ad9ca31a8372d0c353";
    let explain = |agent: &str, method: &str| {
        run(&["policy", "explain", method, zone, "--agent", agent, "-f", &document]).well()
    };
    let told = explain("alice", "DELETE");
    assert_eq!(told, "zones.delete refuse by everybody/no-zone-goes: zones are deleted by hand\n");
    assert_eq!(explain("bob", "GET"), "zones.get permit by everybody/read\n");
    run(&["policy", "explain", "GET", zone, "--agent", "eve", "-f", &document])
        .failed(64, &["no agent `eve`"]);
}

#[test]
fn who_may_do_what_is_listed() {
    let document = document();
    let who = |operation: &str| {
        run(&["policy", "who", operation, "-f", &document, "--output", "json"]).json()
    };
    assert_eq!(who("zones.delete")["total"], 0);
    let edit = who("dns.records.edit");
    assert_eq!([&edit["list"][0]["agent"], &edit["list"][0]["may"]], ["alice", "depends"]);
    assert_eq!(edit["total"], 1);
    assert_eq!(who("registrar.registrations.create")["list"][0]["may"], "asks");
    let what = run(&["policy", "what", "bob", "-f", &document]).well();
    assert!(what.contains("zones.list") && !what.contains("zones.delete"), "{what}");
}
