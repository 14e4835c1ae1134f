//! The desk: what happens to one request between its head and its answer.
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::api::Api;
use crate::control;
use crate::envelope::{Answer, Body, Cut, Refusal, full};
use crate::fault::{Effect, Faults, Point};
use crate::id::Ids;
use crate::log::Log;
use crate::options::Options;
use crate::probe;
use crate::quota::Left;
use crate::tap::Tap;
use crate::torn;
use crate::wire::Line;

/// Everything a request can touch.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) api: Api,
    pub(crate) log: Log,
    pub(crate) faults: Faults,
    rays: Mutex<Ids>,
}

impl Desk {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            api: Api::new(options),
            log: Log::new(options.log_entries),
            faults: Faults::new(options.seed),
            rays: Mutex::new(Ids::new(!options.seed)),
        }
    }

    /// Back to the start: content, counts, faults and log.
    pub(crate) fn reset(&self) {
        self.api.reset();
        self.faults.clear();
        self.log.clear();
    }

    /// Answers a request, or tells hyper to give it up.
    pub(crate) async fn serve(
        &self,
        request: Request<Incoming>,
        line: Line,
    ) -> Result<Response<Body>, Cut> {
        let (head, incoming) = request.into_parts();
        if control::is_about(head.uri.path()) {
            return Ok(control::answer(self, &head, incoming).await.into_response());
        }
        let seat = self.log.arrive(self.api.now(), (line.peer, line.number), &head);
        let tap = Tap::new(incoming, seat.clone());
        let effect = self.faults.strike(&head.method, head.uri.path());
        let served = self.work(&head, tap, effect.as_ref(), &line).await?;
        let answer = self.dressed(served);
        seat.answered(answer.status.as_u16());
        Ok(bent(answer, effect.as_ref(), &line).into_response())
    }

    async fn work(
        &self,
        head: &Parts,
        tap: Tap,
        effect: Option<&Effect>,
        line: &Line,
    ) -> Result<Served, Cut> {
        if let Some(answer) = strike(effect, Point::Head, line).await? {
            return Ok(answer.into());
        }
        if let Some(rest) = probe::path(head.uri.path()) {
            let answer = probe::answer(head, rest, tap).await;
            let struck = match strike(effect, Point::Body, line).await? {
                Some(answer) => Some(answer),
                None => strike(effect, Point::Done, line).await?,
            };
            return Ok(struck.unwrap_or(answer).into());
        }
        let body = match tap.whole().await {
            Ok(body) => body,
            Err(refusal) => return Ok(Answer::from(refusal).into()),
        };
        if let Some(answer) = strike(effect, Point::Body, line).await? {
            return Ok(answer.into());
        }
        let served = self.api.call(head, body);
        let struck = strike(effect, Point::Done, line).await?;
        Ok(struck.map_or(served, Served::from))
    }

    /// Adds what every answer carries.
    fn dressed(&self, served: Served) -> Answer {
        let Served { answer, left } = served;
        let ray = self.rays.lock().number();
        let left = left.unwrap_or_else(|| self.api.untouched());
        answer
            .with_header("server", "cloudflare")
            .with_header("cf-ray", &format!("{ray:016x}-SIM"))
            .with_header(
                "ratelimit",
                &format!("\"default\";r={};t={}", left.calls, left.resets_in_s),
            )
            .with_header("ratelimit-policy", &self.api.policy())
    }
}

/// An answer, and what its token has left.
pub(crate) struct Served {
    pub(crate) answer: Answer,
    pub(crate) left: Option<Left>,
}

impl From<Answer> for Served {
    fn from(answer: Answer) -> Self {
        Self { answer, left: None }
    }
}

/// Lets `effect` happen if this is its point: goes on, gives an answer, gives up, or never returns.
async fn strike(effect: Option<&Effect>, at: Point, line: &Line) -> Result<Option<Answer>, Cut> {
    let Some(effect) = effect.filter(|effect| effect.point() == Some(at)) else { return Ok(None) };
    match effect {
        Effect::Answer { status, headers, body, at: _ } => {
            Ok(Some(told(*status, headers, body.as_deref())))
        }
        Effect::Delay { millis, at: _ } => {
            sleep(Duration::from_millis(*millis)).await;
            Ok(None)
        }
        Effect::Hang { at: _ } => pending().await,
        Effect::Close { at: _ } => {
            line.close();
            pending().await
        }
        Effect::Reset { at: _ } => Err(Cut),
        Effect::Garbage { text } => {
            line.garble(Bytes::from(text.clone()));
            Ok(Some(Answer::raw("text/plain", Bytes::new())))
        }
        Effect::Drip { .. } | Effect::CloseMidBody { .. } => Ok(None),
    }
}

/// The answer a fault was told to give.
fn told(status: u16, headers: &[(String, String)], body: Option<&str>) -> Answer {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = Answer::from(Refusal::new(code, status.into(), "Injected fault"));
    if let Some(body) = body {
        answer.body = full(body.to_owned());
    }
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers.append(name, value);
        }
    }
    answer
}

/// The answer with its bytes bent, if the fault is about them.
fn bent(mut answer: Answer, effect: Option<&Effect>, line: &Line) -> Answer {
    match effect {
        Some(Effect::Drip { bytes, millis }) => {
            answer.body = torn::drip(answer.body, *bytes, Duration::from_millis(*millis));
        }
        Some(Effect::CloseMidBody { after_bytes }) => {
            if let Some(length) = torn::exact(&answer.body) {
                answer.headers.insert(CONTENT_LENGTH, length.into());
            }
            answer.body = torn::cut(answer.body, *after_bytes, line.clone());
        }
        _ => {}
    }
    answer
}
