//! Who is suspended, and operators who suspend and resume.

use axum::body::Body;
use axum::response::Response;
use cluster::{Reach, Suspension, SuspensionError};
use config::{Key, Kind};
use http::{Method, StatusCode};
use model::Timestamp;
use rules::budget::moment_text;
use rules::suspension::Whom;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Told to the suspended.
    reason: String,
    /// After so many seconds it is over by itself; never, where it is not given.
    seconds: Option<u64>,
}

impl Desk {
    /// Everybody who is suspended, as this node acts by it.
    pub(crate) fn suspensions(&self) -> Response {
        let all = self.cluster.list_suspensions();
        let shown = all.iter().map(|(whom, suspension, reach)| shown(whom, suspension, *reach));
        answer(StatusCode::OK, &json!({ "suspensions": shown.collect::<Vec<_>>() }))
    }

    /// One suspension: shown, made or ended.
    pub(crate) async fn suspension(
        &self,
        call: &Call,
        whom: &Whom,
        body: Body,
    ) -> Result<Response, Failure> {
        match call.method {
            Method::PUT => self.suspend(call, whom, body).await,
            Method::DELETE => self.resume(call, whom).await,
            Method::GET | Method::HEAD => {
                let all = self.cluster.list_suspensions();
                let found = all.iter().find(|(other, ..)| other == whom);
                let (_, suspension, reach) = found.ok_or(Failure::KeyNotFound)?;
                Ok(answer(StatusCode::OK, &shown(whom, suspension, *reach)))
            }
            _ => {
                let method = call.method.clone();
                Err(Failure::MethodOff { method, kind: "suspension" })
            }
        }
    }

    async fn suspend(&self, call: &Call, whom: &Whom, body: Body) -> Result<Response, Failure> {
        let asked = serde_json::from_value(body::required(body).await?);
        let Asked { reason, seconds } =
            asked.map_err(|cause| Failure::bad(format!("invalid request body: {cause}")))?;
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(Failure::bad(format!("invalid reason: 1 to {REASON_BYTES_MAX} bytes")));
        }
        if seconds == Some(0) {
            return Err(Failure::bad("invalid seconds: it would be over at once"));
        }
        self.check_name(call, whom)?;
        let since = self.clock.now();
        let until = seconds.map(|seconds| after(since, seconds));
        let suspension = Suspension { reason, by: call.holder.clone(), since, until };
        if call.dry_run {
            return Ok(answer(StatusCode::OK, &shown(whom, &suspension, Reach::Node)));
        }
        let made = self.cluster.suspend(whom, suspension.clone()).await;
        let holder = &call.holder;
        match made {
            Ok(reach) => {
                tracing::warn!(holder, %whom, reason = suspension.reason, ?reach, "suspended");
                Ok(answer(StatusCode::OK, &shown(whom, &suspension, reach)))
            }
            Err(error) => {
                tracing::error!(holder, %whom, %error, "a suspension was not made as asked");
                Err(failure(&error))
            }
        }
    }

    async fn resume(&self, call: &Call, whom: &Whom) -> Result<Response, Failure> {
        if call.dry_run {
            return Err(Failure::bad("nobody can be resumed as a dry run"));
        }
        let ended = self.cluster.resume(whom).await;
        let holder = &call.holder;
        match ended {
            Ok(reach) => {
                tracing::warn!(holder, %whom, ?reach, "resumed");
                let shown = json!({ "whom": whom.to_string(), "resumed": true, "reach": reach_text(reach) });
                Ok(answer(StatusCode::OK, &shown))
            }
            Err(error) => {
                tracing::info!(holder, %whom, %error, "a suspension was not ended");
                Err(failure(&error))
            }
        }
    }

    /// Refuses a name that nobody has: whoever misspells it in a hurry must not believe that
    /// somebody was stopped. `force=true` suspends who is not there yet.
    fn check_name(&self, call: &Call, whom: &Whom) -> Result<(), Failure> {
        let key = match whom {
            Whom::All => return Ok(()),
            Whom::Team(team) => Key::new(Kind::ConsumerGroup, team.as_str()),
            Whom::Agent(agent) => Key::new(Kind::Consumer, agent.as_str()),
        };
        if call.force || self.cluster.state().get(&key).is_some() {
            return Ok(());
        }
        Err(Failure::NotFound(format!("there is no {whom}; `force=true` suspends it all the same")))
    }
}

fn after(since: Timestamp, seconds: u64) -> Timestamp {
    Timestamp::from_micros(since.as_micros().saturating_add(seconds.saturating_mul(1_000_000)))
}

fn shown(whom: &Whom, suspension: &Suspension, reach: Reach) -> Value {
    let Suspension { reason, by, since, until } = suspension;
    json!({
        "whom": whom.to_string(),
        "reason": reason,
        "by": by,
        "since": moment_text(*since),
        "until": until.map(moment_text),
        "reach": reach_text(reach),
    })
}

const fn reach_text(reach: Reach) -> &'static str {
    match reach {
        Reach::Cluster => "cluster",
        Reach::Node => "node",
    }
}

fn failure(error: &SuspensionError) -> Failure {
    match error {
        SuspensionError::NotSuspended { .. } => Failure::NotFound(error.to_string()),
        SuspensionError::Rejected(_) => Failure::Conflict(error.to_string()),
        SuspensionError::Unavailable { .. } | SuspensionError::Disk(_) => {
            Failure::Unavailable(error.to_string())
        }
    }
}

/// A longer reason is refused.
const REASON_BYTES_MAX: usize = 1_024;
