//! The end of a request that may be repeated: what its repeats are told.

use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use ledger::repeat::Ending;
use model::{Code, Refusal};
use tokio_util::sync::CancellationToken;

use super::answer::{ANSWER_BYTES_MAX, is_void, may_be_kept};
use super::{Flight, Reply, Whole};
use crate::forward::strip_hop_by_hop;
use crate::held::{Bounds, Fault, Held, Read, Weight};
use crate::settle::SETTLE_WAIT_MAX;
use crate::trip::Trip;

/// Tells how the request ended, and keeps its answer.
pub(crate) async fn land(
    trip: &mut Trip,
    flight: Flight,
    answered: Result<Reply, Refusal>,
    client: &CancellationToken,
) -> Result<Reply, Refusal> {
    let answer = match answered {
        Ok(Reply::Passing(answer)) => answer,
        Ok(Reply::Whole(edited)) => {
            // One that was kept has no flight of its own.
            tell(trip, flight, ending_of(&edited.0));
            return Ok(Reply::Whole(edited));
        }
        Err(refusal) => {
            let void = !flight.flight.has_departed() || had_no_effect(trip, &refusal);
            let ending = match status_behind(trip, &refusal) {
                Some(status) => Ending::Answered(status, None),
                None if void => Ending::Void,
                None => Ending::Unknown,
            };
            tell(trip, flight, ending);
            return Err(refusal);
        }
    };
    let (status, headers) = (answer.response.status(), answer.response.headers());
    if is_void(status, headers) {
        tell(trip, flight, Ending::Void);
        return Ok(Reply::Passing(answer));
    }
    if !may_be_kept(status, headers) {
        tell(trip, flight, Ending::Answered(status.as_u16(), None));
        return Ok(Reply::Passing(answer));
    }
    let (answer, body) = answer.without_body();
    let mut held = Held::new(&trip.core.shared.metrics.guarded);
    match keep(&mut held, body, answer.pause_max, client).await {
        Ok(Read::Whole) => {
            let mut headers = answer.response.headers().clone();
            strip_hop_by_hop(&mut headers);
            if let Some(bill) = &mut trip.bill {
                bill.hear(held.as_slice());
                bill.heard_all();
            }
            let whole = Whole { status, headers, body: held.into_bytes() };
            let ending = Ending::Answered(status.as_u16(), Some(whole.written()));
            tell(trip, flight, ending);
            Ok(Reply::Whole(Box::new((whole, Some(answer)))))
        }
        Ok(Read::Part(rest)) => {
            tell(trip, flight, Ending::Answered(status.as_u16(), None));
            Ok(Reply::Passing(answer.with_body(held.into_bytes(), rest)))
        }
        Err(fault) => {
            tell(trip, flight, Ending::Answered(status.as_u16(), None));
            let detail = format!("the answer ({status}): {fault}");
            Err(Refusal::new(Code::UpstreamBroken, detail).sealed())
        }
    }
}

/// How a request ended whose answer is there whole.
fn ending_of(whole: &Whole) -> Ending {
    let Whole { status, headers, body } = whole;
    if is_void(*status, headers) {
        return Ending::Void;
    }
    let is_kept = may_be_kept(*status, headers) && body.len() <= ANSWER_BYTES_MAX;
    Ending::Answered(status.as_u16(), is_kept.then(|| whole.written()))
}

/// The status of an answer that was not given on.
fn status_behind(trip: &Trip, refusal: &Refusal) -> Option<u16> {
    let kept_back = matches!(refusal.code, Code::ResponseRefused | Code::ResponseUnreadable);
    let attempt = trip.outcome().attempt.as_ref().filter(|_| kept_back);
    attempt.and_then(|attempt| attempt.status)
}

/// Reads an answer to keep it: for a while as long as the client waits for it, and longer when it
/// has gone.
async fn keep(
    held: &mut Held,
    body: Incoming,
    pause: Duration,
    client: &CancellationToken,
) -> Result<Read, Fault> {
    if body.is_end_stream() {
        return Ok(Read::Whole);
    }
    let until = Some(tokio::time::Instant::now() + KEEP_WAIT_MAX);
    let bounds = Bounds { bytes: ANSWER_BYTES_MAX, pause, until, passes: true };
    match held.read(body, bounds).await? {
        Read::Part(rest) if client.is_cancelled() => {
            let until = until.map(|until| until + SETTLE_WAIT_MAX);
            held.read(rest, Bounds { until, ..bounds }).await
        }
        read => Ok(read),
    }
}

/// Tells how a flight ended, while its client gets its answer.
fn tell(trip: &Trip, flight: Flight, ending: Ending) {
    let mut weight = Weight::new(&trip.core.shared.metrics.guarded);
    let ending = match ending {
        Ending::Answered(status, Some(whole)) => {
            Ending::Answered(status, weight.add(whole.len()).is_ok().then_some(whole))
        }
        ending => ending,
    };
    trip.core.tasks.spawn(async move {
        let _weight = weight;
        let Flight { flight, pulse, _under_way } = flight;
        flight.land(ending).await;
        drop(pulse);
    });
}

/// Whether a refusal of the forwarding stage means that nothing was sent.
fn had_no_effect(trip: &Trip, refusal: &Refusal) -> bool {
    match refusal.code {
        Code::UpstreamTimeout => {
            let attempt = trip.outcome().attempt.as_ref();
            attempt.is_none_or(|attempt| attempt.address.is_none())
        }
        code => SAYS_UNSENT.contains(&code),
    }
}

/// What is refused with before anything is sent, and never after; but for a quota that is blocked:
/// that may be the upstream's own 429, which proves as much.
const SAYS_UNSENT: [Code; 12] = [
    Code::QuotaExceeded,
    Code::QuotaBlocked,
    Code::QueueFull,
    Code::LedgerUnavailable,
    Code::UpstreamUnreachable,
    Code::UpstreamUntrusted,
    Code::UpstreamAbsent,
    Code::SecretUnresolved,
    Code::UpgradeRefused,
    Code::HeaderInvalid,
    Code::TargetInvalid,
    Code::TargetAmbiguous,
];

/// How long an answer may take to be kept. A slower one is passed on as it comes.
const KEEP_WAIT_MAX: Duration = Duration::from_secs(5);
