//! What load balancers and monitoring ask: alive, ready, metrics. No key is needed.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::envelope::answer;

/// What the probes ask of the node, whenever they are asked themselves.
#[derive(Clone)]
pub struct Probes {
    /// Why traffic should go elsewhere, without secrets; empty when the node is ready.
    pub why_not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// All metrics as text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The media type of that text.
    pub metrics_type: &'static str,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").field("metrics_type", &self.metrics_type).finish_non_exhaustive()
    }
}

/// `/health`, `/ready` and `/metrics`, and APISIX's names for them.
pub fn probes(probes: Probes) -> Router {
    Router::new()
        .route("/health", get(alive))
        .route("/status", get(alive))
        .route("/ready", get(ready))
        .route("/status/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/apisix/prometheus/metrics", get(metrics))
        .with_state(probes)
}

async fn alive() -> Response {
    answer(StatusCode::OK, &json!({"status": "ok"}))
}

async fn ready(State(probes): State<Probes>) -> Response {
    let reasons = (probes.why_not_ready)();
    if reasons.is_empty() {
        return answer(StatusCode::OK, &json!({"status": "ok"}));
    }
    let body = json!({"status": "error", "error": reasons.join("; "), "reasons": reasons});
    answer(StatusCode::SERVICE_UNAVAILABLE, &body)
}

async fn metrics(State(probes): State<Probes>) -> Response {
    let media = HeaderValue::from_static(probes.metrics_type);
    ([(header::CONTENT_TYPE, media)], (probes.metrics)()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::{Probes, probes};

    async fn check(reasons: &'static [&str], path: &str, status: u16, body: &str) {
        let router = probes(Probes {
            why_not_ready: Arc::new(|| reasons.iter().map(|it| (*it).to_owned()).collect()),
            metrics: Arc::new(|| "tollgate_x 1\n# EOF\n".to_owned()),
            metrics_type: "text/plain",
        });
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&bytes), body, "{path}");
    }

    const OK: &str = "{\"status\":\"ok\"}\n";

    #[tokio::test]
    async fn a_node_that_is_not_ready_is_still_alive() {
        check(&["no document"], "/health", 200, OK).await;
        check(&["no document"], "/status", 200, OK).await;
    }

    #[tokio::test]
    async fn readiness_names_its_reasons() {
        check(&[], "/ready", 200, OK).await;
        check(&[], "/status/ready", 200, OK).await;
        let why = "{\"status\":\"error\",\"error\":\"a; b\",\"reasons\":[\"a\",\"b\"]}\n";
        check(&["a", "b"], "/ready", 503, why).await;
        check(&["a", "b"], "/status/ready", 503, why).await;
    }

    #[tokio::test]
    async fn metrics_have_two_names() {
        check(&[], "/metrics", 200, "tollgate_x 1\n# EOF\n").await;
        check(&[], "/apisix/prometheus/metrics", 200, "tollgate_x 1\n# EOF\n").await;
    }
}
