//! From policies in a document to whether a request is judged by them.

use super::{Snapshot, Value, compiled, json, state};

/// The ids of the policies of these texts; `None` where nothing is judged.
fn ids(policies: &[(&str, Value)]) -> Option<Vec<String>> {
    let snapshot: Snapshot = compiled(&state(policies));
    let policies = &snapshot.policies;
    (!policies.is_none()).then(|| policies.all().iter().map(|it| it.id.to_string()).collect())
}

#[test]
fn a_document_is_judged_by_policy_as_soon_as_it_has_one_be_it_disabled() {
    let all = "permit (principal, action, resource);";
    let one = || ("policies/a", json!({"text": all}));
    let off = || ("policies/b", json!({"text": all, "disabled": true}));
    assert_eq!(ids(&[("zones/a.b", json!({"zone_id": "0".repeat(32)}))]), None);
    assert_eq!(ids(&[off()]), Some(vec![]));
    assert_eq!(ids(&[one(), off()]), Some(vec!["a/0".to_owned()]));
}
