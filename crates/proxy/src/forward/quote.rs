//! Quotes: what a call will cost, asked of its upstream before the call leaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request};
use model::{Code, Refusal, Retry};
use rules::price::QuoteCall;
use tokio::time::Instant;

use super::credential::{Standing, Way, protocols};
use super::exchange::Exchange;
use super::{absent, unreachable, upstream_of};
use crate::balance;
use crate::body::{Content, RequestBody, Upload};
use crate::describe::Described;
use crate::head::Head;
use crate::held::{Bounds, Held, Read, Weight};
use crate::quota::place;
use crate::trip::Trip;

/// Asks the upstream of a call something about it, with the same credential and nothing of the
/// agent's. Takes a turn where the upstream has a quota. `None` for an answer that says no, is too
/// long, or does not come in time.
pub(crate) async fn ask(
    trip: &mut Trip,
    head: &Head,
    described: &Described,
    call: QuoteCall,
) -> Result<Option<(Vec<u8>, Weight)>, Refusal> {
    let asking = Box::pin(answer(trip, head, described, call));
    tokio::time::timeout(QUOTE_MAX, asking).await.unwrap_or_else(|_| {
        let detail = format!("no quote within {} s", QUOTE_MAX.as_secs());
        Err(Refusal::new(Code::UpstreamTimeout, detail).retry(Retry::Soon))
    })
}

async fn answer(
    trip: &mut Trip,
    head: &Head,
    described: &Described,
    call: QuoteCall,
) -> Result<Option<(Vec<u8>, Weight)>, Refusal> {
    let route = Arc::clone(described.identified().route());
    let upstream = upstream_of(&route)?;
    let Ok(target) = PathAndQuery::try_from(call.path.as_str()) else { return Ok(None) };
    let timeouts = route.timeouts.unwrap_or(upstream.timeouts);
    let mut exchange = Exchange {
        upstream,
        timeouts,
        upload: Upload::new(0),
        target,
        host: HeaderValue::from_static(""),
        request: None,
        place: place(trip, head, described).await?,
    };
    let content = Content::begun(call.body.map_or_else(Bytes::new, Bytes::from), None);
    let mut request = Request::new(RequestBody::new(content, Arc::clone(&exchange.upload)));
    *request.method_mut() = call.method;
    request.headers_mut().insert(ACCEPT, JSON);
    request.headers_mut().insert(CONTENT_TYPE, JSON);
    let rewritten = described.rewrite().and_then(|(rewrite, _)| rewrite.host.clone());
    let first = exchange.place.as_ref().map(|place| place.first_node());
    let first = first.unwrap_or_else(|| trip.core.turns.lock().first(upstream));
    let node = balance::order(upstream, first).next().ok_or_else(absent)?;
    let way = Way::to(node, upstream, rewritten.as_ref(), head, protocols(upstream, false));
    exchange.request = Some(request);
    let is_proven = described.identified().is_proven();
    let shown = way.credential(&trip.snapshot, upstream, is_proven)?;
    exchange.show(shown, &mut Standing::default());
    let Way { endpoint, host, .. } = way;
    exchange.host = host;
    let now = trip.core.shared.clock.uptime();
    let lent = trip.core.pool.lend(&endpoint, upstream.keepalive, timeouts.connect, now).await;
    let lease = lent.map_err(|error| unreachable(&error))?;
    let (response, lease) = exchange.run(trip, &endpoint, lease).await?;
    exchange.rest(trip, &response)?;
    let is_good = response.status().is_success();
    let until = Some(Instant::now() + QUOTE_MAX);
    let bounds = Bounds { bytes: ANSWER_MAX, pause: timeouts.read, until, passes: false };
    let mut held = Held::new(&trip.core.shared.metrics.guarded);
    let Ok(Read::Whole) = held.read(response.into_body(), bounds).await else { return Ok(None) };
    if exchange.upload.is_done() {
        trip.core.pool.give_back(lease, trip.core.shared.clock.uptime());
    }
    Ok(is_good.then(|| held.into_parts()))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// For a quote in all; the client waits as long.
const QUOTE_MAX: Duration = Duration::from_secs(10);

/// Bytes of a quote's answer. Of a longer one nothing is known.
const ANSWER_MAX: usize = 256 << 10;
