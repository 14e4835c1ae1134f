//! How the nodes reach the store of their counts, as who leads hears it, and what they agree on
//! then (`rules::outage`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rules::limit::OnOutage;
use rules::outage::{Epoch, Report, Sight, decide};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Handle;
use crate::entry::Change;
use crate::fact::{Fact, FactChange, FactCommand, FactExpect, FactKind};
use crate::handle::Node;
use crate::lead::Leader;
use crate::news;
use crate::transport::{MessageKind, PeerName};

/// What who leads said to a node that told how it reaches the store.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// What is agreed on; nothing newer was when who leads was asked.
    pub epoch: Option<Epoch>,
    /// An era, and for how long who leads has known it by its own clock.
    pub era: u64,
    pub age: Duration,
}

/// The same on its way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// The last entry that was agreed on before.
    index: u64,
    era: u64,
    age_ms: u64,
}

/// What a node hears while it leads, and since when it knows the era.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    /// The newest of each member, and when it came.
    reports: BTreeMap<u64, (Instant, Report)>,
    /// Who has been heard lately, and since when nobody else.
    steady: Option<(BTreeSet<u64>, Instant)>,
    era: Option<(u64, Instant)>,
}

impl Ears {
    /// For how long an era has been known.
    fn age(&mut self, era: u64) -> Duration {
        match self.era {
            Some((known, since)) if known == era => since.elapsed(),
            Some(_) | None => {
                self.era = Some((era, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Those that are heard, and whether that has been so for some time.
    fn look(&mut self) -> (BTreeMap<u64, Report>, bool) {
        self.reports.retain(|_, (at, _)| at.elapsed() < HEARD_MAX);
        let reports: BTreeMap<u64, Report> =
            self.reports.iter().map(|(node, (_, report))| (*node, report.clone())).collect();
        let heard: BTreeSet<u64> = reports.keys().copied().collect();
        let since = match &self.steady {
            Some((known, since)) if *known == heard => *since,
            Some(_) | None => Instant::now(),
        };
        self.steady = Some((heard, since));
        (reports, since.elapsed() >= STEADY_MIN)
    }
}

impl Handle {
    /// The node's number in its cluster.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.lead.me()
    }

    /// What the cluster has agreed on about the store of its counts, as this node knows it.
    #[must_use]
    pub fn ledger(&self) -> Option<Epoch> {
        self.0.ledger()
    }

    /// Returns when the node knows something else about it than this.
    pub async fn ledger_after(&self, known: Option<&Epoch>) {
        let mut views = self.0.board.views();
        let is_news = |view: &crate::board::View| found(view.facts.get(KIND, ID)) != known;
        // The board lives as long as the handle.
        drop(news::until(&mut views, is_news).await);
    }

    /// Tells who leads how this node reaches the store. `None` when nobody who leads was heard in
    /// time.
    pub async fn tell_ledger(&self, report: &Report) -> Option<Confirmed> {
        let node = &self.0;
        let told = async {
            match node.lead.leader() {
                Leader::Me => node.hear_ledger_of(node.lead.me(), report.clone()).await,
                Leader::Peer(peer) => {
                    let asked = node.call(&peer, MessageKind::Ledger, report, TELL_MAX).await;
                    asked.unwrap_or_default()
                }
                Leader::Nobody => None,
            }
        };
        let Heard { index, era, age_ms } = tokio::time::timeout(TELL_MAX, told).await.ok()??;
        let mut views = node.board.views();
        let reached = news::until(&mut views, |view| view.applied >= index);
        tokio::time::timeout(TELL_MAX, reached).await.ok()?.ok()?;
        let age = Duration::from_millis(age_ms);
        Some(Confirmed { epoch: node.ledger(), era, age })
    }
}

impl Node {
    fn ledger(&self) -> Option<Epoch> {
        found(self.board.view().facts.get(KIND, ID)).cloned()
    }

    /// Hears how a member reaches the store.
    pub(crate) async fn hear_ledger(&self, from: &PeerName, report: Report) -> Option<Heard> {
        let member = self.lead.known_as(from.as_str())?;
        self.hear_ledger_of(member.id, report).await
    }

    /// Notes it, and answers once a majority has said that this node leads: what it knows then is
    /// no older than the question.
    async fn hear_ledger_of(&self, node: u64, report: Report) -> Option<Heard> {
        if self.lead.leader() != Leader::Me {
            return None;
        }
        self.outage.lock().reports.insert(node, (Instant::now(), report));
        let index = self.lead.confirm().await.ok()?;
        let era = self.ledger().map_or(0, |epoch| epoch.era);
        let age = self.outage.lock().age(era);
        Some(Heard { index, era, age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) })
    }

    /// While this node leads: has the cluster agree on who counts.
    pub(crate) async fn keep_ledger(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let current = self.ledger();
            if let Some(current) = &current {
                self.outage.lock().age(current.era);
            }
            if self.lead.leader() != Leader::Me {
                let mut ears = self.outage.lock();
                ears.reports.clear();
                ears.steady = None;
                continue;
            }
            if let Some(next) = self.next_epoch(current.as_ref()) {
                self.agree_on(current, next).await;
            }
        }
    }

    fn next_epoch(&self, current: Option<&Epoch>) -> Option<Epoch> {
        let (reports, is_steady) = self.outage.lock().look();
        if reports.is_empty() {
            return None;
        }
        let metrics = self.lead.metrics();
        let membership = metrics.membership_config.membership();
        let nodes: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let heard: BTreeSet<u64> = reports.keys().copied().collect();
        let limits = self.snapshots.borrow().limits.clone();
        let is_wanted = limits.all().iter().any(|limit| limit.on_outage == OnOutage::Share);
        let steady = is_steady.then_some(&heard);
        let (nodes, voters, reports) = (&nodes, &voters, &reports);
        decide(current, &Sight { nodes, voters, reports, steady, is_wanted })
    }

    async fn agree_on(&self, current: Option<Epoch>, next: Epoch) {
        let expect = match current {
            None => FactExpect::Absent,
            Some(current) => FactExpect::Is(Box::new(Fact::LedgerEpoch(current))),
        };
        let Epoch { number, era, life, mode, members } = &next;
        tracing::info!(number, era, life, ?mode, members = members.len(), "who counts limits");
        let change = FactChange::Set { id: ID.to_owned(), fact: Fact::LedgerEpoch(next), expect };
        let command = FactCommand { at: self.clock.now(), changes: vec![change] };
        if let Err(cause) = self.ask(Change::Facts(command)).await {
            let cause = crate::FactError::from(cause);
            tracing::warn!(cause = %cause, "the nodes do not agree on who counts limits");
        }
    }
}

fn found(fact: Option<&Fact>) -> Option<&Epoch> {
    match fact {
        Some(Fact::LedgerEpoch(epoch)) => Some(epoch),
        Some(_) | None => None,
    }
}

/// There is one store.
const KIND: FactKind = FactKind::LedgerEpoch;
const ID: &str = "redis";

/// How often who leads looks whether something is to be agreed on.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Who has not been heard for so long is not there.
const HEARD_MAX: Duration = Duration::from_millis(1_500);

/// For so long the same nodes are heard before shares are cut anew, or a part of them decides.
const STEADY_MIN: Duration = Duration::from_secs(5);

/// How long who leads may take to hear, and what was agreed on to arrive.
const TELL_MAX: Duration = Duration::from_secs(1);
