//! The whole document: applied, compared and exported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use cluster::ProposeError;
use config::bundle::{Bundle, PlacedFault};
use config::{Applied, Command, Difference, Effect, EffectKind, Rejected};
use http::{HeaderValue, StatusCode, header};
use model::Revision;
use serde_json::{Map, Value, json};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer, revised, tag};

impl Desk {
    /// Makes the document hold what the body holds: all of it or nothing.
    pub(crate) async fn apply(&self, call: &Call, body: Body) -> Result<Response, Failure> {
        let prune = call.query.switch("prune")?;
        let base = base(call)?;
        let _seat = self.seat().await?;
        let bundle = Arc::new(read_bundle(body).await?);
        for _ in 0..TRIES_MAX {
            let state = self.newest(call).await?;
            let at = state.revision();
            let wanted = Arc::clone(&bundle);
            let changes = aside(move || wanted.changes(&state, prune)).await?;
            let command = Command {
                at: self.clock.now(),
                // Changes are worked out against a state, so they hold for that state only.
                base: Some(base.unwrap_or(at)),
                force: call.force,
                changes,
            };
            match self.try_make(call, command).await {
                Err(ProposeError::Rejected(Rejected::Base { .. })) if base.is_none() => {}
                made => return Ok(applied_answer(call, &made?)),
            }
        }
        Err(Failure::Unavailable("the configuration changes too fast; give a base".to_owned()))
    }

    /// What [`Desk::apply`] would change.
    pub(crate) async fn diff(&self, call: &Call, body: Body) -> Result<Response, Failure> {
        let prune = call.query.switch("prune")?;
        let _seat = self.seat().await?;
        let bundle = read_bundle(body).await?;
        let state = self.newest(call).await?;
        let revision = state.revision().number();
        let found = aside(move || config::diff(&state, &bundle, prune)).await?;
        let shown: Vec<Value> = found
            .into_iter()
            .map(|Difference { key, kind, before, after }| {
                json!({"key": key.path(), "kind": kind, "before": before, "after": after})
            })
            .collect();
        Ok(answer(StatusCode::OK, &json!({"revision": revision, "differences": shown})))
    }

    /// The document as it can be applied again, secrets masked.
    pub(crate) async fn export(&self, call: &Call) -> Result<Response, Failure> {
        let as_yaml = match call.query.first("format") {
            None | Some("json") => false,
            Some("yaml") => true,
            Some(_) => return Err(Failure::bad("invalid argument format: should be json or yaml")),
        };
        let _seat = self.seat().await?;
        let state = self.newest(call).await?;
        let revision = state.revision();
        let response = aside(move || {
            let bundle = Bundle::from_state(&state);
            if !as_yaml {
                return answer(StatusCode::OK, &by_kind(bundle));
            }
            let media = HeaderValue::from_static("application/yaml");
            ([(header::CONTENT_TYPE, media)], bundle.to_yaml()).into_response()
        });
        Ok(tag(response.await?, revision))
    }

    /// Waits for the right to hold a whole document in memory.
    pub(crate) async fn seat(&self) -> Result<SemaphorePermit<'_>, Failure> {
        match timeout(SEAT_WAIT, self.documents.acquire()).await {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) | Err(_) => {
                Err(Failure::Unavailable("too many whole documents at once".to_owned()))
            }
        }
    }
}

/// Reads a document in JSON or YAML.
async fn read_bundle(body: Body) -> Result<Bundle, Failure> {
    let bytes = body::collect(body, body::DOCUMENT_BYTES_MAX).await?;
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::bad("missing configurations"));
    }
    aside(move || {
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Failure::bad("invalid request body: it is not UTF-8"))?;
        Bundle::parse(text).map_err(|faults| bundle_faults(&faults))
    })
    .await?
}

/// Runs what takes long for a large document where it holds no request up.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Failure::Unavailable("working on this document met a defect of the program".to_owned())
    })
}

/// Every fault with its place in the text and in the resource.
pub(crate) fn bundle_faults(faults: &[PlacedFault]) -> Failure {
    let errors: Vec<Value> = faults
        .iter()
        .map(|PlacedFault { place, key, fault }| {
            json!({
                "resource": key.as_ref().map(config::Key::path),
                "path": fault.path,
                "message": fault.message,
                "line": place.line,
                "column": place.column,
            })
        })
        .collect();
    Failure::Bad { message: "Configuration validation failed".to_owned(), errors }
}

fn base(call: &Call) -> Result<Option<Revision>, Failure> {
    let Some(text) = call.query.first("base") else { return Ok(None) };
    let number =
        text.parse().map_err(|_| Failure::bad("invalid argument base: should be a revision"))?;
    Ok(Some(Revision::new(number)))
}

fn applied_answer(call: &Call, applied: &Applied) -> Response {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in ["created", "updated", "unchanged", "deleted"] {
        counts.insert(kind, 0);
    }
    let mut changes = Vec::new();
    for Effect { key, kind, .. } in &applied.effects {
        let name = effect_name(*kind);
        *counts.entry(name).or_default() += 1;
        if *kind != EffectKind::Unchanged {
            changes.push(json!({"key": key.path(), "kind": name}));
        }
    }
    let body = json!({
        "revision": applied.revision.number(),
        "dry_run": call.dry_run,
        "counts": counts,
        "changes": changes,
    });
    revised(call, applied, answer(StatusCode::OK, &body))
}

const fn effect_name(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::Created => "created",
        EffectKind::Updated => "updated",
        EffectKind::Unchanged => "unchanged",
        EffectKind::Deleted => "deleted",
    }
}

/// `{"routes": {"1": {…}}}`
fn by_kind(bundle: Bundle) -> Value {
    let mut kinds: Map<String, Value> = Map::new();
    for entry in bundle.entries {
        let kind = kinds.entry(entry.key.kind.plural());
        if let Value::Object(members) = kind.or_insert_with(|| Value::Object(Map::new())) {
            members.insert(entry.key.id, entry.value);
        }
    }
    Value::Object(kinds)
}

/// How often an apply without a base is tried against faster writers, before it is 503.
const TRIES_MAX: usize = 8;

/// Whole documents worked on at a time; a further one waits for [`SEAT_WAIT`], then is refused.
pub(crate) const DOCUMENTS_MAX: usize = 4;

const SEAT_WAIT: Duration = Duration::from_secs(5);
