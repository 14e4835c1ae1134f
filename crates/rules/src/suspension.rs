//! Who may do nothing for now.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use model::{AgentId, TeamId, Timestamp};

use crate::identity::Agent;

/// Who is suspended. As text: `all`, `team/NAME`, `agent/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whom {
    /// Every request, also of those whose routes ask for no identity.
    All,
    /// The agents of a team, those too that join it later.
    Team(TeamId),
    Agent(AgentId),
}

/// Text that names nobody who could be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("should be `all`, `team/NAME` or `agent/NAME`")]
pub struct WhomError;

/// Somebody may do nothing until it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// For people; told to the suspended.
    pub reason: Arc<str>,
    /// The first moment at which it is over; `None` until somebody ends it.
    pub until: Option<Timestamp>,
}

/// Everybody who is suspended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Suspensions {
    all: Option<Arc<Suspension>>,
    teams: HashMap<TeamId, Arc<Suspension>>,
    agents: HashMap<AgentId, Arc<Suspension>>,
}

impl Suspensions {
    /// Why an agent may do nothing at this moment; `None` when it may. A request that nobody
    /// answers for is stopped only when everybody is.
    #[must_use]
    pub fn of(&self, agent: Option<&Agent>, now: Timestamp) -> Option<&Arc<Suspension>> {
        let Self { all, teams, agents } = self;
        let team = agent.and_then(|agent| agent.team.as_ref()).and_then(|team| teams.get(team));
        let agent = agent.and_then(|agent| agents.get(&agent.id));
        [all.as_ref(), team, agent].into_iter().flatten().find(|suspension| suspension.lasts(now))
    }

    /// How many suspensions there are, those too whose time is over.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.all.is_some()) + self.teams.len() + self.agents.len()
    }

    /// Whether nobody is suspended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<(Whom, Suspension)> for Suspensions {
    /// Of two for the same, the one that lasts longer counts.
    fn from_iter<I: IntoIterator<Item = (Whom, Suspension)>>(suspensions: I) -> Self {
        let mut made = Self::default();
        for (whom, suspension) in suspensions {
            let suspension = Arc::new(suspension);
            let longer = |other: &mut Arc<Suspension>| {
                if other.end() < suspension.end() {
                    *other = Arc::clone(&suspension);
                }
            };
            match whom {
                Whom::All => {
                    made.all.iter_mut().for_each(longer);
                    made.all.get_or_insert(suspension);
                }
                Whom::Team(team) => {
                    made.teams.entry(team).and_modify(longer).or_insert(suspension);
                }
                Whom::Agent(agent) => {
                    made.agents.entry(agent).and_modify(longer).or_insert(suspension);
                }
            }
        }
        made
    }
}

impl Suspension {
    fn lasts(&self, now: Timestamp) -> bool {
        now < self.end()
    }

    fn end(&self) -> Timestamp {
        self.until.unwrap_or(Timestamp::from_micros(u64::MAX))
    }
}

impl FromStr for Whom {
    type Err = WhomError;

    fn from_str(text: &str) -> Result<Self, WhomError> {
        match text.split_once('/') {
            None if text == "all" => Ok(Self::All),
            Some(("team", name)) if !name.is_empty() => Ok(Self::Team(TeamId::new(name))),
            Some(("agent", name)) if !name.is_empty() => Ok(Self::Agent(AgentId::new(name))),
            _ => Err(WhomError),
        }
    }
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Team(team) => write!(f, "team/{team}"),
            Self::Agent(agent) => write!(f, "agent/{agent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{AgentId, OrganisationId, TeamId, Timestamp};

    use super::{Suspension, Suspensions, Whom};
    use crate::identity::Agent;
    use crate::plugin::Layer;

    fn agent(name: &str, team: Option<&str>) -> Agent {
        Agent {
            id: AgentId::new(name),
            team: team.map(TeamId::new),
            organisation: OrganisationId::new("acme"),
            plugins: Layer::default(),
            custom_id: None,
        }
    }

    fn until(secs: Option<u64>) -> Suspension {
        Suspension { reason: Arc::from("why"), until: secs.map(Timestamp::from_secs) }
    }

    /// Which of alice (of red), bob (of blue) and nobody are stopped at second 10.
    fn check(suspensions: &[(&str, Option<u64>)], stopped: [bool; 3]) {
        let of = suspensions.iter().map(|(whom, secs)| (whom.parse().unwrap(), until(*secs)));
        let made: Suspensions = of.collect();
        let now = Timestamp::from_secs(10);
        let (alice, bob) = (agent("alice", Some("red")), agent("bob", Some("blue")));
        let found = [Some(&alice), Some(&bob), None].map(|agent| made.of(agent, now).is_some());
        assert_eq!(found, stopped, "{suspensions:?}");
    }

    #[test]
    fn each_suspension_stops_whom_it_names_until_it_is_over() {
        check(&[], [false, false, false]);
        check(&[("agent/alice", None)], [true, false, false]);
        check(&[("team/red", None)], [true, false, false]);
        check(&[("team/blue", Some(11))], [false, true, false]);
        check(&[("all", None)], [true, true, true]);
        check(&[("agent/alice", Some(10))], [false, false, false]);
        check(&[("agent/red", None), ("team/alice", None)], [false, false, false]);
    }

    #[test]
    fn of_two_suspensions_of_the_same_the_longer_one_counts() {
        check(&[("agent/alice", Some(5)), ("agent/alice", None)], [true, false, false]);
        check(&[("agent/alice", None), ("agent/alice", Some(5))], [true, false, false]);
        check(&[("all", Some(5)), ("all", Some(20))], [true, true, true]);
    }

    #[test]
    fn one_that_is_over_hides_no_other() {
        check(&[("all", Some(5)), ("team/red", None)], [true, false, false]);
    }

    #[test]
    fn whom_reads_what_it_writes() {
        for text in ["all", "team/red", "agent/a/b"] {
            assert_eq!(text.parse::<Whom>().unwrap().to_string(), text);
        }
        for text in ["", "team", "team/", "agent/", "everybody", "run/7"] {
            assert!(text.parse::<Whom>().is_err(), "{text}");
        }
    }
}
