//! The upstream's quota: a call waits for its turn among all that share the credential.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use ledger::{NoTurn, QuotaKey, Reservation, Turn};
use model::{Code, LimitId, Refusal, Retry, Timestamp};
use rules::fact::Facts;
use rules::limit::OnOutage;
use rules::plan::Plan;
use rules::quota::{Join, Per, Quota, Rule, Said, said};
use rules::upstream::{Credential, Upstream};

use crate::admit::Admitted;
use crate::core::Shared;
use crate::describe::Described;
use crate::head::Head;
use crate::trip::Trip;

/// Proof that the upstream's quota has room. Only [`wait_turn`] makes one.
#[derive(Debug)]
pub(crate) struct Granted {
    admitted: Admitted,
    place: Option<Box<Place>>,
}

impl Granted {
    pub(crate) const fn described(&self) -> &Described {
        self.admitted.described()
    }

    /// The request's place at the upstream, for whoever sends it.
    pub(crate) const fn place(&mut self) -> Option<Box<Place>> {
        self.place.take()
    }

    /// What the limits have left, for the answer's `RateLimit` fields.
    pub(crate) fn into_limits(self) -> (Plan, Reservation) {
        self.admitted.into_limits()
    }
}

/// A call's place at an upstream that has a quota: each time it is sent takes a turn.
#[derive(Debug)]
pub(crate) struct Place {
    quota: Arc<Quota>,
    key: Arc<QuotaKey>,
    join: Join,
    /// A turn that was given and not used yet.
    turn: Option<Turn>,
    /// The turn by which the call was sent.
    sent: Option<Turn>,
    /// It could not be counted and passes all the same.
    is_free: bool,
}

/// What is left of an upstream's quota, for the answer's `RateLimit` fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) rule: Rule,
    pub(crate) left: u64,
    /// Until there is more.
    pub(crate) more: Duration,
}

/// Waits for a turn where the upstream has a quota.
pub(crate) async fn wait_turn(
    trip: &mut Trip,
    head: &Head,
    admitted: Admitted,
) -> Result<Granted, Refusal> {
    let place = place(trip, head, admitted.described()).await?;
    Ok(Granted { admitted, place })
}

/// A place at the upstream whose turn has come; `None` where the upstream has no quota.
pub(crate) async fn place(
    trip: &mut Trip,
    head: &Head,
    described: &Described,
) -> Result<Option<Box<Place>>, Refusal> {
    let mut place = None;
    if !trip.snapshot.quotas.is_empty() {
        place = find(trip, head, described).map(Box::new);
    }
    if let Some(place) = &mut place {
        Box::pin(place.take(trip)).await?;
    }
    Ok(place)
}

/// The place of a request whose upstream has a quota.
fn find(trip: &Trip, head: &Head, described: &Described) -> Option<Place> {
    let identified = described.identified();
    let upstream = identified.route().upstream.as_ref()?;
    let quota = trip.snapshot.quotas.of(upstream)?;
    let key = match (quota.per, credential(trip, upstream, identified.is_proven())) {
        (Per::Credential, Some(Credential::Ready { header, value })) => {
            QuotaKey::of_credential(&quota.id, header.as_str(), value.as_bytes())
        }
        _ => QuotaKey::of_upstream(&quota.id, upstream.id.as_str()),
    };
    let join = quota.join(&Facts { call: described.call(head), ..trip.facts(head) });
    Some(Place {
        quota: Arc::clone(quota),
        key: Arc::new(key),
        join,
        turn: None,
        sent: None,
        is_free: false,
    })
}

/// The credential that the request will carry: the upstream's own, or what the node keeps for its
/// first host.
fn credential<'a>(
    trip: &'a Trip,
    upstream: &'a Upstream,
    is_proven: bool,
) -> Option<&'a Credential> {
    if !matches!(upstream.credential, Credential::None) {
        return Some(&upstream.credential);
    }
    let node = upstream.nodes.first().filter(|_| is_proven)?;
    trip.snapshot.credential_of(&node.host, node.port).map(|kept| &kept.credential)
}

impl Place {
    /// Takes a turn, unless there is one that still holds.
    async fn take(&mut self, trip: &mut Trip) -> Result<(), Refusal> {
        let shared = Arc::clone(&trip.core.shared);
        let began = shared.clock.uptime();
        self.turn = self.turn.take().filter(|turn| !turn.is_stale(began));
        if self.turn.is_some() || self.is_free {
            return Ok(());
        }
        let waited = shared.quotas.turn(&self.key, self.quota.rule, self.join.clone()).await;
        let took = shared.clock.uptime().since(began);
        trip.learnt().timing.queued += took;
        shared.quotas.waited(took);
        match waited {
            Ok(turn) => self.turn = Some(turn),
            Err(no_turn) => {
                self.refuse(&shared, no_turn)?;
                self.is_free = true;
            }
        }
        Ok(())
    }

    /// Uses a turn: call it right before the request is sent, each time it is.
    pub(crate) async fn spend(&mut self, trip: &mut Trip) -> Result<(), Refusal> {
        self.take(trip).await?;
        self.sent = self.turn.take();
        Ok(())
    }

    /// Nothing was sent: the turn may be used again.
    pub(crate) fn give_back(&mut self) {
        self.turn = self.sent.take();
    }

    /// Tells everybody what the upstream's answer said; a 429 stops all of them, and becomes a
    /// refusal.
    pub(crate) fn answered(
        &mut self,
        response: &Response<Incoming>,
        now: Timestamp,
    ) -> Result<Option<Box<Rest>>, Refusal> {
        let rule = self.quota.rule;
        let said = said(&rule, response.status(), response.headers(), now);
        let Some(turn) = self.sent.take() else { return Ok(None) };
        let rest = rest(&turn, said);
        turn.answered(said);
        match said.blocked {
            None => Ok(Some(Box::new(rest))),
            Some(wait) => {
                let wait = if wait == 0 { rule.block } else { wait };
                Err(blocked(Duration::from_millis(wait)))
            }
        }
    }

    /// What becomes of a call without a turn.
    fn refuse(&self, shared: &Shared, no_turn: NoTurn) -> Result<(), Refusal> {
        match no_turn {
            NoTurn::Late(wait) => {
                let detail = "the upstream's quota is used up for longer than a call may wait";
                let wait = wait.max(Duration::from_millis(1));
                Err(Refusal::new(Code::QuotaExceeded, detail).retry(Retry::After(wait)).upstream())
            }
            NoTurn::Blocked(wait) => Err(blocked(wait)),
            NoTurn::Full => {
                let detail = "too many requests of this node wait for the upstream's quota";
                Err(Refusal::new(Code::QueueFull, detail).retry(Retry::Soon).upstream())
            }
            NoTurn::Away => {
                let passes = matches!(self.quota.on_outage, OnOutage::Allow);
                shared.quotas.note_uncounted(&self.key, passes);
                if passes {
                    return Ok(());
                }
                let detail = "the upstream's quota cannot be counted now";
                Err(Refusal::new(Code::LedgerUnavailable, detail).retry(Retry::Soon).upstream())
            }
        }
    }
}

fn blocked(wait: Duration) -> Refusal {
    let detail = "the upstream has refused everybody for now";
    Refusal::new(Code::QuotaBlocked, detail).retry(Retry::After(wait)).upstream()
}

/// The smaller of our own view and the upstream's.
fn rest(turn: &Turn, said: Said) -> Rest {
    let (left, rule) = turn.left();
    let pace = Duration::from_millis(rule.window.div_ceil(rule.quota));
    match said.left {
        Some((theirs, until)) if theirs < left => {
            Rest { rule, left: theirs, more: Duration::from_millis(until) }
        }
        _ => Rest { rule, left, more: pace },
    }
}

trait OfUpstream {
    /// The refusal, by the policy that clients know as the upstream's.
    fn upstream(self) -> Self;
}

impl OfUpstream for Refusal {
    fn upstream(mut self) -> Self {
        self.limit = Some(LimitId::new(POLICY));
        self
    }
}

/// The name of an upstream's quota in `RateLimit` fields and refusals.
pub(crate) const POLICY: &str = "upstream";
