//! Who leads the cluster, as this node knows it.

use std::time::Duration;

use tokio::sync::watch;

use crate::news;
use crate::transport::Peer;
use crate::types::{Fatal, Membership, Metrics, Raft, ServerState, State};

/// The node's view of its Raft. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lead {
    pub(crate) raft: Raft,
    metrics: watch::Receiver<Metrics>,
    me: u64,
}

/// Who takes changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    Me,
    Peer(Peer),
    /// Nobody, or nobody that this node knows how to reach.
    Nobody,
}

/// Nobody could say that this node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no majority of the nodes says that this one leads")]
pub(crate) struct NotConfirmed;

impl Lead {
    pub(crate) fn new(raft: Raft, me: u64) -> Self {
        let metrics = raft.metrics();
        Self { raft, metrics, me }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.borrow().clone()
    }

    /// Who takes changes now.
    pub(crate) fn leader(&self) -> Leader {
        let metrics = self.metrics.borrow();
        match metrics.current_leader {
            Some(id) if id == self.me && metrics.state == ServerState::Leader => Leader::Me,
            // One that leads no more is told by nobody.
            Some(id) if id == self.me => Leader::Nobody,
            Some(id) => metrics
                .membership_config
                .membership()
                .get_node(&id)
                .map_or(Leader::Nobody, |peer| Leader::Peer(peer.clone())),
            None => Leader::Nobody,
        }
    }

    /// Who leads, as others may call it.
    pub(crate) fn leader_peer(&self) -> Option<Peer> {
        let metrics = self.metrics.borrow();
        let leader = metrics.current_leader?;
        metrics.membership_config.membership().get_node(&leader).cloned()
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn term(&self) -> Option<u64> {
        let metrics = self.metrics.borrow();
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        leads.then_some(metrics.current_term)
    }

    /// This node as a member, and whether it votes.
    pub(crate) fn myself(&self) -> Option<(Peer, bool)> {
        let metrics = self.metrics.borrow();
        let membership = metrics.membership_config.membership();
        let votes = membership.voter_ids().any(|voter| voter == self.me);
        Some((membership.get_node(&self.me)?.clone(), votes))
    }

    /// The one member of this name.
    pub(crate) fn known_as(&self, name: &str) -> Option<Peer> {
        let metrics = self.metrics.borrow();
        let membership = metrics.membership_config.membership();
        let mut named = membership.nodes().filter(|(_, peer)| peer.name == name);
        match (named.next(), named.next()) {
            (Some((_, peer)), None) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Whether this node knows the member with this name and this number.
    pub(crate) fn has(&self, name: &str, id: u64) -> bool {
        let metrics = self.metrics.borrow();
        let found = metrics.membership_config.membership().get_node(&id);
        found.is_some_and(|peer| peer.name == name)
    }

    /// Whether a node of this name belongs to the cluster.
    pub(crate) fn has_member(&self, name: &str) -> bool {
        let metrics = self.metrics.borrow();
        metrics.membership_config.membership().nodes().any(|(_, peer)| peer.name == name)
    }

    /// This node's number.
    pub(crate) const fn me(&self) -> u64 {
        self.me
    }

    /// Whether a member is known to have an entry; only who leads can know.
    pub(crate) fn has_reached(&self, id: u64, index: u64) -> bool {
        let metrics = self.metrics.borrow();
        if id == self.me {
            return metrics.last_log_index >= Some(index);
        }
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&id).copied());
        matched.flatten().is_some_and(|at| at.index >= index)
    }

    /// Whether what this node has applied says that it belongs to the cluster; `None` while what it
    /// has applied does not reach the newest word about that.
    pub(crate) fn belongs(&self, applied: u64) -> Option<bool> {
        let metrics = self.metrics.borrow();
        let membership = &metrics.membership_config;
        let is_applied = membership.log_id().as_ref().is_some_and(|at| at.index <= applied);
        is_applied.then(|| membership.membership().get_node(&self.me).is_some())
    }

    /// How long ago a majority has last answered this node, where it leads others.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let metrics = self.metrics.borrow();
        let is_alone = metrics.membership_config.membership().voter_ids().eq([self.me]);
        let leads = metrics.current_leader == Some(self.me) && !is_alone;
        metrics.millis_since_quorum_ack.filter(|_| leads).map(Duration::from_millis)
    }

    /// The members, and whether that is agreed on.
    pub(crate) async fn members(&self) -> Result<(Membership, bool), Fatal> {
        let look = |state: &State| {
            let (effective, committed) =
                (state.membership_state.effective(), state.membership_state.committed());
            (effective.membership().clone(), effective.log_id() == committed.log_id())
        };
        self.raft.with_raft_state(look).await
    }

    /// How many members there are, and how many of them vote.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let metrics = self.metrics.borrow();
        let membership = metrics.membership_config.membership();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (count(membership.nodes().count()), count(membership.voter_ids().count()))
    }

    /// Whether this node is the only voter, so that nobody else has a say.
    pub(crate) fn is_sole_voter(&self) -> bool {
        let metrics = self.metrics.borrow();
        metrics.membership_config.membership().voter_ids().eq([self.me])
    }

    /// The same, before the first news of Raft are out.
    pub(crate) async fn starts_as_sole_voter(&self) -> Result<bool, Fatal> {
        let me = self.me;
        let sole = move |state: &State| {
            state.membership_state.effective().membership().voter_ids().eq([me])
        };
        self.raft.with_raft_state(sole).await
    }

    /// Returns when a majority has said that this node leads, and it has applied what was agreed
    /// on before.
    pub(crate) async fn confirm(&self) -> Result<u64, NotConfirmed> {
        let confirmed = news::in_turn(self.raft.ensure_linearizable());
        match tokio::time::timeout(CONFIRM_WAIT, confirmed).await {
            Ok(Ok(read)) => Ok(read.map_or(0, |at| at.index)),
            Ok(Err(_)) | Err(_) => Err(NotConfirmed),
        }
    }

    /// Waits until something about the cluster changes, or for a moment.
    pub(crate) async fn moment(&self) {
        let mut metrics = self.metrics.clone();
        metrics.mark_unchanged();
        drop(tokio::time::timeout(MOMENT, news::change(&mut metrics)).await);
    }

    /// Returns when this node hears that another leads than this one, or nobody.
    pub(crate) async fn leads_no_more(&self, id: u64) {
        let mut metrics = self.metrics.clone();
        drop(news::until(&mut metrics, |metrics| metrics.current_leader != Some(id)).await);
    }

    /// Returns when Raft has ended, and why.
    pub(crate) async fn ended(&mut self) -> Fatal {
        let ended = |metrics: &Metrics| metrics.running_state.is_err();
        match news::until(&mut self.metrics, ended).await {
            Ok(()) => self.metrics().running_state.err().unwrap_or(Fatal::Stopped),
            Err(_) => Fatal::Stopped,
        }
    }
}

/// How long a majority may take to say who leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(1);

/// How long to wait before looking again who leads.
const MOMENT: Duration = Duration::from_millis(50);
