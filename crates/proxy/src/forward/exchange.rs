//! One request on its way: sent, waited for, and sent again only where that has no effect.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use model::{Code, Refusal, Retry};
use rules::suspension::Suspension;
use rules::upstream::{Timeouts, Upstream};
use tokio_util::either::Either;

use super::credential::{Shown, Standing};
use super::{broken, unreachable};
use crate::body::{RequestBody, Upload};
use crate::connect::{Channel, Endpoint};
use crate::pool::Lease;
use crate::quota::{Place, Rest};
use crate::suspension::{self, Berth, Riders};
use crate::trip::Trip;

/// One request, whichever node takes it.
pub(super) struct Exchange<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) timeouts: Timeouts,
    pub(super) upload: Arc<Upload>,
    pub(super) target: PathAndQuery,
    pub(super) host: HeaderValue,
    /// Away while it is sent; back when nothing of it was.
    pub(super) request: Option<Request<RequestBody>>,
    /// Where the upstream has a quota: each time the request is sent takes a turn.
    pub(super) place: Option<Box<Place>>,
}

/// Why an exchange failed.
enum Failure {
    /// Nothing was sent; the request is back in its place.
    Unsent,
    /// It may have had an effect.
    Lost(hyper::Error),
    /// The client keeps the rest of its body back.
    Paused,
    Late,
    /// The agent is suspended; what was sent may have had an effect.
    Suspended(Arc<Suspension>),
}

impl Exchange<'_> {
    /// Makes durable what the request costs and sends it; once more on a new connection if the old one had been closed unseen and
    /// nothing was sent, or if the request is safe (RFC 9110 §9.2.1) and has no body.
    pub(super) async fn run(
        &mut self,
        trip: &mut Trip,
        endpoint: &Endpoint,
        mut lease: Lease,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        // It may have waited long for its connection.
        trip.core.riders.check(trip.berth)?;
        if let Some(bill) = &mut trip.bill {
            Box::pin(bill.dispatch()).await?;
        }
        let spare = lease.is_reused.then(|| self.copy()).flatten();
        if let Some(place) = &mut self.place {
            Box::pin(place.spend(trip)).await?;
        }
        match self.send(trip, &mut lease).await {
            Ok(response) => return Ok((response, lease)),
            Err(Failure::Unsent) if lease.is_reused => {
                if let Some(place) = &mut self.place {
                    place.give_back();
                }
            }
            Err(Failure::Lost(cause)) => {
                self.request = Some(spare.ok_or_else(|| broken(&cause))?);
            }
            Err(failure) => return Err(failure.refusal(self.timeouts.read)),
        }
        if let Some(attempt) = trip.attempt() {
            attempt.tries += 1;
        }
        let pool = &trip.core.pool;
        let now = trip.core.shared.clock.uptime();
        let opened = pool.open(endpoint, self.upstream.keepalive, self.timeouts.connect, now);
        let mut lease = Box::pin(opened).await.map_err(|error| unreachable(&error))?;
        if let Some(place) = &mut self.place {
            Box::pin(place.spend(trip)).await?;
        }
        let answered = Box::pin(self.send(trip, &mut lease)).await;
        let response = answered.map_err(|failure| failure.refusal(self.timeouts.read))?;
        Ok((response, lease))
    }

    /// Puts the credential in that the next node is shown: it is the one that is counted.
    pub(super) fn show(&mut self, shown: Option<Shown<'_>>, standing: &mut Standing) {
        if let Some(request) = &mut self.request {
            standing.show(shown, request.headers_mut());
        }
        if let Some(place) = &mut self.place {
            place.show(shown);
        }
    }

    /// Heeds what the answer says of the upstream's quota, and says what is left of it.
    pub(super) fn rest(
        &mut self,
        trip: &Trip,
        response: &Response<Incoming>,
    ) -> Result<Option<Box<Rest>>, Refusal> {
        let Some(place) = &mut self.place else { return Ok(None) };
        place.answered(response, trip.core.shared.clock.now())
    }

    /// The request once more, if it may be repeated.
    fn copy(&self) -> Option<Request<RequestBody>> {
        let request = self.request.as_ref().filter(|request| is_repeatable(request))?;
        let mut copy = Request::new(RequestBody::empty(Arc::clone(&self.upload)));
        copy.method_mut().clone_from(request.method());
        copy.headers_mut().clone_from(request.headers());
        Some(copy)
    }

    async fn send(
        &mut self,
        trip: &mut Trip,
        lease: &mut Lease,
    ) -> Result<Response<Incoming>, Failure> {
        if let Some(attempt) = trip.attempt() {
            attempt.address = Some(lease.address);
        }
        let is_ready = match &mut lease.channel {
            Channel::H1(sender) => sender.is_ready() || is_soon(sender.ready()).await,
            Channel::H2(sender) => sender.is_ready() || is_soon(sender.ready()).await,
        };
        let Some(mut request) = self.request.take_if(|_| is_ready) else {
            return Err(Failure::Unsent);
        };
        if dress(&mut request, self, &lease.channel).is_err() {
            self.request = Some(request);
            return Err(Failure::Unsent);
        }
        let sending = match &mut lease.channel {
            Channel::H1(sender) => Either::Left(sender.try_send_request(request)),
            Channel::H2(sender) => Either::Right(sender.try_send_request(request)),
        };
        let earlier = trip.bill.as_ref().map(|bill| bill.mark_sent(true));
        let answered = self.answer(sending, (&trip.core.riders, trip.berth)).await;
        if let (Err(Failure::Unsent), Some(bill)) = (&answered, &trip.bill) {
            bill.mark_sent(earlier.unwrap_or(true));
        }
        let response = answered?;
        if let Some(bill) = &mut trip.bill {
            bill.answered(&response, &trip.core.shared.metrics.guarded);
        }
        if let Some(attempt) = trip.attempt() {
            attempt.status = Some(response.status().as_u16());
        }
        Ok(response)
    }

    /// Waits for the answer's head. The deadline starts anew while the upstream takes the body.
    async fn answer(
        &mut self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError>>,
        (riders, berth): (&Riders, Berth),
    ) -> Result<Response<Incoming>, Failure> {
        let mut sending = std::pin::pin!(sending);
        let patience = self.timeouts.read.max(self.timeouts.send);
        loop {
            let before = self.upload.bytes();
            let answered = poll_fn(|cx| match sending.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Ok(answered)),
                Poll::Pending => riders.poll_end(berth, cx).map(Err),
            });
            match tokio::time::timeout(patience, answered).await {
                Ok(Err(suspension)) => return Err(Failure::Suspended(suspension)),
                Ok(Ok(Ok(response))) => return Ok(response),
                Ok(Ok(Err(mut error))) => {
                    self.request = error.take_message();
                    if self.request.is_some() {
                        return Err(Failure::Unsent);
                    }
                    return Err(Failure::Lost(error.into_error()));
                }
                Err(_) if self.upload.bytes() != before => {}
                Err(_) if self.upload.waits_for_client() => return Err(Failure::Paused),
                Err(_) => return Err(Failure::Late),
            }
        }
    }
}

async fn is_soon(ready: impl Future<Output = Result<(), hyper::Error>>) -> bool {
    matches!(tokio::time::timeout(READY_MAX, ready).await, Ok(Ok(())))
}

type TrySendError = hyper::client::conn::TrySendError<Request<RequestBody>>;

/// Gives the request the form its connection's protocol wants.
fn dress(
    request: &mut Request<RequestBody>,
    exchange: &Exchange<'_>,
    channel: &Channel,
) -> Result<(), http::Error> {
    let Exchange { target, host, upstream, .. } = exchange;
    match channel {
        Channel::H1(_) => {
            *request.uri_mut() = Uri::from(target.clone());
            request.headers_mut().insert(HOST, host.clone());
            // Where nothing is said, hyper sends GET and HEAD without their bodies.
            if request.body().size_hint().exact().is_none() {
                let chunked = HeaderValue::from_static("chunked");
                request.headers_mut().insert(TRANSFER_ENCODING, chunked);
            }
        }
        Channel::H2(_) => {
            let scheme = if upstream.scheme.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
            *request.uri_mut() = Uri::builder()
                .scheme(scheme)
                .authority(Authority::try_from(host.as_bytes())?)
                .path_and_query(target.clone())
                .build()?;
            request.headers_mut().remove(HOST);
        }
    }
    request.headers_mut().remove(EXPECT);
    Ok(())
}

impl Failure {
    fn refusal(self, patience: Duration) -> Refusal {
        match self {
            Self::Unsent => {
                let detail = "the upstream closed the connection before the request was sent";
                Refusal::new(Code::UpstreamUnreachable, detail).retry(Retry::Soon)
            }
            Self::Lost(cause) => broken(&cause),
            Self::Paused => {
                let detail = format!("nothing more of it came within {} ms", patience.as_millis());
                Refusal::new(Code::BodyBroken, detail)
            }
            Self::Suspended(suspension) => suspension::refusal(&suspension),
            Self::Late => {
                let detail = format!("no answer within {} ms", patience.as_millis());
                Refusal::new(Code::UpstreamTimeout, detail)
            }
        }
    }
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    is_safe && request.body().is_empty()
}

/// For a lent connection to say that it is free: one that is not at once will not soon be.
const READY_MAX: Duration = Duration::from_millis(100);
