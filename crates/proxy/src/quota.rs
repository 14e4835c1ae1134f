//! The upstream's quota: a call waits for its turn among all that share the credential.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use ledger::{NoTurn, QuotaKey, Reservation, Turn};
use model::{Code, LimitId, Refusal, Retry, Timestamp, UpstreamId};
use rules::fact::Facts;
use rules::limit::OnOutage;
use rules::plan::Plan;
use rules::quota::{Edition, Join, Per, Quota, Rule, Said, said};

use crate::admit::Admitted;
use crate::balance;
use crate::core::Shared;
use crate::describe::Described;
use crate::forward::{Shown, Way, protocols};
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
    /// Of the document that the quota was read from.
    revision: u64,
    upstream: UpstreamId,
    /// The node to which the call goes first, by its index.
    first_node: usize,
    /// What counts it: the credential that the node is shown.
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
        place = find(trip, head, described)?.map(Box::new);
    }
    if let Some(place) = &mut place {
        Box::pin(place.take(trip)).await?;
    }
    Ok(place)
}

/// The place of a request whose upstream has a quota. Which node it goes to is settled here, since
/// the credential may depend on it.
fn find(trip: &Trip, head: &Head, described: &Described) -> Result<Option<Place>, Refusal> {
    let identified = described.identified();
    let Some(upstream) = identified.route().upstream.as_ref() else { return Ok(None) };
    let Some(quota) = trip.snapshot.quotas.of(upstream) else { return Ok(None) };
    let first_node = trip.core.turns.lock().first(upstream);
    let Some(node) = balance::order(upstream, first_node).next() else { return Ok(None) };
    let rewritten = described.rewrite().and_then(|(rewrite, _)| rewrite.host.as_ref());
    let way = Way::to(node, upstream, rewritten, head, protocols(upstream, false));
    let shown = way.credential(&trip.snapshot, upstream, identified.is_proven())?;
    let join = quota.join(&Facts { call: described.call(head), ..trip.facts(head) });
    Ok(Some(Place {
        quota: Arc::clone(quota),
        revision: trip.snapshot.revision.number(),
        upstream: upstream.id.clone(),
        first_node,
        key: Arc::new(key(quota, &upstream.id, shown)),
        join,
        turn: None,
        sent: None,
        is_free: false,
    }))
}

/// What counts a call that shows its upstream this credential.
fn key(quota: &Quota, upstream: &UpstreamId, shown: Option<Shown<'_>>) -> QuotaKey {
    match (quota.per, shown) {
        (Per::Credential, Some((header, value))) => {
            QuotaKey::of_credential(&quota.id, header.as_str(), value.as_bytes())
        }
        (Per::Credential, None) | (Per::Upstream, _) => {
            QuotaKey::of_upstream(&quota.id, upstream.as_str())
        }
    }
}

impl Place {
    /// The node to which the call goes first, by its index.
    pub(crate) const fn first_node(&self) -> usize {
        self.first_node
    }

    /// Counts by what the next node is shown. A turn of another credential is of no use there; it
    /// stays counted.
    pub(crate) fn show(&mut self, shown: Option<Shown<'_>>) {
        let key = key(&self.quota, &self.upstream, shown);
        if !key.counts_as(&self.key) {
            (self.key, self.turn) = (Arc::new(key), None);
        }
    }

    /// Takes a turn, unless there is one that still holds.
    async fn take(&mut self, trip: &mut Trip) -> Result<(), Refusal> {
        let shared = Arc::clone(&trip.core.shared);
        let began = shared.clock.uptime();
        self.turn = self.turn.take().filter(|turn| !turn.is_stale(began));
        if self.turn.is_some() || self.is_free {
            return Ok(());
        }
        let edition = Edition { revision: self.revision, rule: self.quota.rule };
        let waited = shared.quotas.turn(&self.key, edition, self.join.clone()).await;
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
            Some(wait) => Err(blocked(Duration::from_millis(wait.millis(&rule)))),
        }
    }

    /// What becomes of a call without a turn.
    fn refuse(&self, shared: &Shared, no_turn: NoTurn) -> Result<(), Refusal> {
        match no_turn {
            NoTurn::Late(wait) => {
                let detail = "the upstream's quota is used up: the call's turn would come too \
                              late, or too many of its agent or class wait";
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
    let wait = wait.max(Duration::from_millis(1));
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
