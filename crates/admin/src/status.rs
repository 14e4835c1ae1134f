//! What the node says of itself to operators.

use ::cluster::Status;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster;
use crate::desk::{Call, Desk, Freshness};
use crate::envelope::answer;

impl Desk {
    pub(crate) async fn status(&self, call: &Call) -> Response {
        let members = match call.freshness {
            Freshness::Newest => self.cluster.members().await,
            Freshness::Own => self.cluster.own_member().into_iter().collect(),
        };
        let members = cluster::shown(&members);
        let mut body = shown(&self.cluster.status());
        if let Some(body) = body.as_object_mut() {
            body.insert("members".to_owned(), Value::Array(members));
        }
        answer(StatusCode::OK, &body)
    }

    /// The plugins that a document may name.
    pub(crate) fn plugin_names() -> Response {
        answer(StatusCode::OK, &json!(PLUGINS))
    }
}

fn shown(status: &Status) -> Value {
    let Status { node, cluster, role, revision, live, why_not_ready, why_not_writable, unresolved } =
        status;
    let unresolved: Vec<Value> = unresolved
        .iter()
        .map(|it| json!({"place": it.place, "reference": it.reference, "why": it.why}))
        .collect();
    json!({
        "node": node.as_str(),
        "cluster": cluster.to_string(),
        "role": role.as_str(),
        "revision": revision.number(),
        "live": live.number(),
        "ready": status.ready(),
        "why_not_ready": why_not_ready,
        "why_not_writable": why_not_writable,
        "unresolved": unresolved,
    })
}

/// In the order in which they work, as APISIX lists them.
const PLUGINS: [&str; 7] =
    ["request-id", "jwt-auth", "key-auth", "proxy-rewrite", "limit-req", "syslog", "file-logger"];

#[cfg(test)]
mod tests {
    use config::Kind;
    use serde_json::json;

    use super::PLUGINS;

    fn is_known(plugin: &str) -> bool {
        let route = json!({"uri": "/", "plugins": {plugin: {}}});
        let faults = config::check(Kind::Route, None, &route);
        !faults.iter().any(|it| it.message.contains("unknown") || it.message.contains("not served"))
    }

    #[test]
    fn each_plugin_that_is_served_is_listed() {
        let mut served: Vec<_> = config::plugin_names().collect();
        let mut listed = PLUGINS;
        served.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed.as_slice(), served);
    }

    #[test]
    fn each_plugin_that_is_listed_is_served() {
        for plugin in PLUGINS {
            assert!(is_known(plugin), "{plugin}");
        }
        assert!(!is_known("limit-count") && !is_known("nonsense"));
    }
}
