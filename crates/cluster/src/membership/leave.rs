//! Members go for good.

use std::collections::BTreeSet;
use std::time::Duration;

use super::admit::without;
use super::vote::{VOTERS, even};
use super::{No, ids, voters};
use crate::ca::NODE_LIFE;
use crate::fact::{Departure, Fact, FactChange, FactCommand, FactExpect};
use crate::handle::Node;
use crate::types::ChangeMembers;

impl Node {
    pub(super) async fn leave_here(&self, names: &BTreeSet<String>, force: bool) -> Result<(), No> {
        self.lead.confirm().await.map_err(|_| No::NotHere)?;
        let membership = self.membership();
        let mut going = BTreeSet::new();
        for name in names {
            let found = ids(&membership, name);
            if found.is_empty() && !self.has_departed(name) {
                return Err(No::Refused(format!("there is no member called {name}")));
            }
            going.extend(found);
        }
        let before = voters(&membership);
        let after = without(&before, &going);
        if after.is_empty() {
            return Err(No::Refused("the last voter cannot go".to_owned()));
        }
        if after != before && !VOTERS.contains(&after.len()) && !force {
            return Err(No::Refused(even(after.len())));
        }
        self.say_goodbye(names).await?;
        self.wait_until_told(&going).await;
        let (voting, silent): (BTreeSet<u64>, BTreeSet<u64>) =
            going.into_iter().partition(|id| before.contains(id));
        if !silent.is_empty() {
            self.reshape(ChangeMembers::RemoveNodes(silent), false).await?;
        }
        // Last: a leader that goes leads no more when this is agreed on.
        if !voting.is_empty() {
            self.reshape(ChangeMembers::RemoveVoters(voting), false).await?;
        }
        Ok(())
    }

    /// From here on each node knows that these have left, they themselves too.
    async fn say_goodbye(&self, names: &BTreeSet<String>) -> Result<(), No> {
        let now = self.clock.now();
        let fact = Fact::Departure(Departure { forget: now.plus(NODE_LIFE) });
        let gone = |name: &String| FactChange::Set {
            id: name.clone(),
            fact: fact.clone(),
            expect: FactExpect::Any,
        };
        let changes = names.iter().map(gone).collect();
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
}

/// For those who go to hear of it.
const TELL_WAIT: Duration = Duration::from_secs(1);
