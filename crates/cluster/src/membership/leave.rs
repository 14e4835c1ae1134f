//! Members go for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::vote::{VOTERS, even};
use super::{No, ids, voters};
use crate::ca::NODE_LIFE;
use crate::fact::{Departure, Fact, FactChange, FactCommand, FactExpect, FactKind};
use crate::handle::Node;
use crate::types::{ChangeMembers, Membership};

/// Who goes, by name.
pub(super) type Going = BTreeMap<String, BTreeSet<u64>>;

impl Node {
    pub(super) async fn leave_here(
        self: &Arc<Self>,
        names: &BTreeSet<String>,
        force: bool,
    ) -> Result<(), No> {
        let membership = self.settled().await?;
        let mut going = Going::new();
        for name in names {
            let found: BTreeSet<u64> = ids(&membership, name).into_iter().collect();
            let is_gone = self.board.fact(FactKind::Departure, name).is_some();
            match (found.is_empty(), is_gone) {
                (true, true) => {}
                (true, false) => {
                    return Err(No::Refused(format!("there is no member called {name}")));
                }
                (false, _) => drop(going.insert(name.clone(), found)),
            }
        }
        let before = voters(&membership);
        let after = &before - &numbers(&going);
        if after.is_empty() {
            return Err(No::Refused("the last voter cannot go".to_owned()));
        }
        if after != before && !VOTERS.contains(&after.len()) && !force {
            return Err(No::Refused(even(after.len())));
        }
        self.check_quorum(&membership, &after).await?;
        self.say_goodbye(&going).await?;
        self.wait_until_told(&numbers(&going)).await;
        self.remove(&membership, &numbers(&going)).await
    }

    /// Takes nodes out of the members. Whoever votes goes last: a leader that goes leads no more
    /// when that is agreed on.
    pub(super) async fn remove(
        &self,
        membership: &Membership,
        going: &BTreeSet<u64>,
    ) -> Result<(), No> {
        let before = voters(membership);
        let (voting, silent): (BTreeSet<u64>, BTreeSet<u64>) =
            going.iter().partition(|id| before.contains(id));
        if !silent.is_empty() {
            self.reshape(ChangeMembers::RemoveNodes(silent), false).await?;
        }
        if !voting.is_empty() {
            self.reshape(ChangeMembers::RemoveVoters(voting), false).await?;
        }
        Ok(())
    }

    /// From here on each node knows that these have left, they themselves too; and the tokens by
    /// which they came are worth nothing.
    pub(super) async fn say_goodbye(&self, going: &Going) -> Result<(), No> {
        if going.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut changes = Vec::new();
        for (name, ids) in going {
            let before = self.board.fact(FactKind::Departure, name);
            let mut all = match &before {
                Some(Fact::Departure(before)) => before.ids.clone(),
                Some(_) | None => Vec::new(),
            };
            let expect = before.map_or(FactExpect::Absent, |fact| FactExpect::Is(Box::new(fact)));
            all.extend(ids.iter().filter(|id| !all.contains(id)).copied().collect::<Vec<_>>());
            let kept = all.len().saturating_sub(IDS_MAX);
            let fact = Departure { ids: all.split_off(kept), forget: now.plus(NODE_LIFE) };
            let fact = Fact::Departure(fact);
            changes.push(FactChange::Set { id: name.clone(), fact, expect });
        }
        let gone = numbers(going);
        for (id, fact) in self.board.view().facts.list(FactKind::JoinToken) {
            if let Fact::JoinToken(token) = fact
                && gone.contains(&token.id)
            {
                let spent = crate::fact::JoinToken { key: String::new(), ..token.clone() };
                let expect = FactExpect::Is(Box::new(fact.clone()));
                let fact = Fact::JoinToken(spent);
                changes.push(FactChange::Set { id: id.to_owned(), fact, expect });
            }
        }
        self.set_facts(FactCommand { at: now, changes }).await
    }

    /// Whoever goes is told if it can be: afterwards nobody speaks to it any more.
    async fn wait_until_told(&self, going: &BTreeSet<u64>) {
        let last = self.board.view().applied;
        let told = async {
            while !going.iter().all(|id| self.lead.has_reached(*id, last)) {
                self.lead.moment().await;
            }
        };
        if tokio::time::timeout(TELL_WAIT, told).await.is_err() {
            tracing::debug!("a node goes that cannot be told");
        }
    }

    /// Ends departures that were broken off after the goodbye.
    pub(super) async fn end_departures(self: &Arc<Self>) -> Result<(), No> {
        let left = |node: &Self| -> BTreeSet<u64> {
            let membership = node.membership();
            let members = membership.nodes();
            let gone = members.filter(|(id, peer)| node.has_departed(&peer.name, **id));
            // Whoever takes the place of another gets its vote in the same step.
            let replaced: BTreeSet<u64> =
                node.replacements().into_iter().flat_map(|(_, _, others)| others).collect();
            gone.map(|(id, _)| *id).filter(|id| !replaced.contains(id)).collect()
        };
        if left(self).is_empty() {
            return Ok(());
        }
        let membership = self.settled().await?;
        let going = left(self);
        let after = &voters(&membership) - &going;
        if after.is_empty() {
            return Err(No::Refused("the last voter cannot go".to_owned()));
        }
        self.check_quorum(&membership, &after).await?;
        self.remove(&membership, &going).await
    }
}

fn numbers(going: &Going) -> BTreeSet<u64> {
    going.values().flatten().copied().collect()
}

/// For those who go to hear of it.
const TELL_WAIT: Duration = Duration::from_secs(1);

/// Numbers of one name that are remembered; the oldest are forgotten first, long after their
/// certificates are worth nothing.
const IDS_MAX: usize = 64;
