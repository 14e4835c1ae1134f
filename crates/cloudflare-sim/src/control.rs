//! The strings behind the scene: `/__sim/…` outside the API, for tests in other processes.
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::clock::stamp;
use crate::desk::Desk;
use crate::envelope::{Answer, Refusal, Reply};
use crate::fault::Fault;
use crate::log::Arrival;
use crate::path::Query;

pub(crate) fn is_about(path: &str) -> bool {
    path.starts_with("/__sim/")
}

/// Answers a control call. They are not in the log, and no fault strikes them.
pub(crate) async fn answer(desk: &Desk, head: &Parts, incoming: Incoming) -> Answer {
    let query = Query::new(head.uri.query());
    let reply = match (&head.method, head.uri.path()) {
        (&Method::GET, "/__sim/log") => Ok(log(desk, &query)),
        (&Method::DELETE, "/__sim/log") => {
            desk.log.clear();
            Ok(done())
        }
        (&Method::GET, "/__sim/faults") => Ok(faults(desk)),
        (&Method::POST, "/__sim/faults") => inject(desk, incoming).await,
        (&Method::DELETE, "/__sim/faults") => {
            desk.faults.clear();
            Ok(done())
        }
        (&Method::GET, "/__sim/charges") => Ok(charges(desk)),
        (&Method::POST, "/__sim/reset") => {
            desk.reset();
            Ok(done())
        }
        (&Method::GET, "/__sim/ready") => Ok(done()),
        (_, path) => Err(Refusal::no_route(path)),
    };
    reply.unwrap_or_else(Answer::from)
}

/// `?after=` a sequence, at most `?limit=`: arrivals, oldest first.
fn log(desk: &Desk, query: &Query) -> Answer {
    let after = query.text("after").and_then(|text| text.parse().ok()).unwrap_or(0);
    let limit = query.number("limit").unwrap_or(ARRIVALS_SHOWN).min(ARRIVALS_SHOWN);
    let arrivals = desk.log.after(after, limit);
    let last = arrivals.last().map_or(after, |arrival| arrival.sequence);
    let shown = json!({
        "arrivals": arrivals.iter().map(shown).collect::<Vec<_>>(),
        "last": last,
        "forgotten": desk.log.forgotten(),
    });
    Answer::json(StatusCode::OK, &shown)
}

fn shown(arrival: &Arrival) -> Value {
    let kept = &arrival.body.kept;
    let text = std::str::from_utf8(kept).ok();
    json!({
        "sequence": arrival.sequence,
        "at": stamp(arrival.at),
        "peer": arrival.peer.to_string(),
        "connection": arrival.connection,
        "version": arrival.version,
        "method": arrival.method,
        "path": arrival.path,
        "query": arrival.query,
        "headers": arrival.headers,
        "body": {
            "length": arrival.body.length,
            "sha256": arrival.body.sha256,
            "complete": arrival.body.complete,
            "text": text,
            "base64": text.is_none().then(|| STANDARD.encode(kept)),
        },
        "status": arrival.status,
    })
}

fn faults(desk: &Desk) -> Answer {
    let armed = desk.faults.armed();
    let shown = armed.iter().map(|(fault, struck)| json!({ "fault": fault, "struck": struck }));
    Answer::json(StatusCode::OK, &Value::Array(shown.collect()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Fault),
    More(Vec<Fault>),
}

async fn inject(desk: &Desk, incoming: Incoming) -> Reply {
    let body = timeout(ORDER_WAIT, Limited::new(incoming, ORDER_MAX).collect()).await;
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, 408, "The order took too long");
    let body = body.map_err(late)?;
    let body = body.map_err(|_| Refusal::bad(6008, "The order is too long or broken"))?.to_bytes();
    let faults = match serde_json::from_slice(&body) {
        Ok(OneOrMore::One(fault)) => vec![fault],
        Ok(OneOrMore::More(faults)) => faults,
        Err(error) => return Err(Refusal::bad(6007, format!("No fault can be read: {error}"))),
    };
    for fault in faults {
        desk.faults.inject(fault).map_err(|full| Refusal::bad(429, full.to_string()))?;
    }
    Ok(done())
}

fn charges(desk: &Desk) -> Answer {
    let charges = desk.api.charges();
    Answer::json(StatusCode::OK, &json!({ "charges": charges }))
}

fn done() -> Answer {
    Answer::json(StatusCode::OK, &json!({ "ok": true }))
}

/// Arrivals in one answer; ask again after the last.
const ARRIVALS_SHOWN: usize = 1_000;

/// Bytes of one order of faults.
const ORDER_MAX: usize = 1024 * 1024;

/// How long an order may take to arrive.
const ORDER_WAIT: Duration = Duration::from_secs(10);
