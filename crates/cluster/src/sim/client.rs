//! A client that changes and reads the document at any node, and writes down what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Applied, Change, Command, Expect, Key, Kind, Rejected, Stamp, State, Stored};
use model::{Revision, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::chance::Chance;
use super::history::{Answer, Deed, History};
use super::net::{Net, Station};
use super::turn::Ticket;
use crate::{Fact, FactChange, FactCommand, FactError, FactExpect, Kept, ProposeError, Suspension};

/// What all clients were told.
#[derive(Default)]
pub(crate) struct Record {
    /// Of the registers, which are upstreams.
    pub(crate) history: History,
    /// What became of each upstream that was created under an id of the cluster's choice, and of
    /// each fact: each has one name, and nobody changes it again.
    pub(crate) created: BTreeMap<String, Fate>,
    pub(crate) facts: BTreeMap<String, Fate>,
}

/// Whether a change was made, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Made,
    NotMade,
    Unknown,
}

/// One client: it does one thing at a time.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) net: Arc<Net>,
    pub(crate) record: Arc<Mutex<Record>>,
    pub(crate) chance: Chance,
    /// What it last saw in each register.
    pub(crate) known: BTreeMap<String, (String, Revision)>,
}

impl Client {
    /// Does so many things, with pauses between them.
    pub(crate) async fn work(mut self, deeds: u64) {
        for number in 0..deeds {
            // In bursts, and over the whole time in which something befalls the cluster.
            let longest = self.chance.one_of([20, 900, 900]);
            let pause = self.chance.millis(1..longest);
            tokio::time::sleep(pause).await;
            let Some(station) = self.chance.pick(&self.net.stations()) else { continue };
            let name = format!("{}-{number}", self.name);
            match self.chance.below(100) {
                0..30 => self.read(&station).await,
                30..40 => self.create(&station, name).await,
                40..50 => self.note_fact(&station, name).await,
                _ => self.change(&station, name).await,
            }
        }
    }

    async fn read(&mut self, station: &Station) {
        let calls: Vec<_> = {
            let history = &mut self.record.lock().history;
            REGISTERS.iter().map(|name| (*name, history.call(name, Deed::Read))).collect()
        };
        let read = alive(station, station.handle.read()).await;
        let (history, trace) = (&mut self.record.lock().history, &self.net.trace);
        let Some(Ok(state)) = read else {
            trace.tell(&format!("{} read nothing at {}", self.name, station.id));
            calls.into_iter().for_each(|(_, call)| history.answer(call, Answer::Failed));
            return;
        };
        let revision = state.revision();
        trace.tell(&format!("{} read revision {revision} at {}", self.name, station.id));
        for (name, call) in calls {
            let stored = state.get(&register(name));
            let value = stored.map(described);
            match stored.map(|stored| (described(stored), stored.modified)) {
                Some(known) => drop(self.known.insert(name.to_owned(), known)),
                None => drop(self.known.remove(name)),
            }
            history.answer(call, Answer::Saw { value, revision: Some(revision.number()) });
        }
    }

    /// Writes, swaps or deletes a register.
    async fn change(&mut self, station: &Station, new: String) {
        let name = self.chance.pick(&REGISTERS).unwrap();
        let known = self.known.get(name).cloned();
        let (deed, expect) = match (self.chance.below(100), known) {
            (0..20, _) => (Deed::Delete, Expect::Any),
            (20..55, Some((old, at))) => {
                (Deed::Swap { old: Some(old), new: new.clone() }, Expect::Modified(at))
            }
            (20..55, None) => (Deed::Swap { old: None, new: new.clone() }, Expect::Absent),
            _ => (Deed::Write(new.clone()), Expect::Any),
        };
        let change = match &deed {
            Deed::Delete => Change::Delete { key: register(name), expect },
            _ => Change::Put {
                key: register(name),
                value: upstream(&new),
                expect,
                stamp: Stamp::Now,
            },
        };
        let call = self.record.lock().history.call(name, deed.clone());
        let told = alive(station, station.handle.propose(command(change))).await;
        let answer = match &told {
            None | Some(Err(ProposeError::Unavailable { kept: Kept::Unknown, .. })) => {
                Answer::Unknown
            }
            Some(Err(ProposeError::Unavailable { kept: Kept::No, .. })) => Answer::Failed,
            Some(Err(ProposeError::Rejected(
                Rejected::Stale { .. } | Rejected::Missing { .. },
            ))) => Answer::Refused,
            Some(Err(other)) => {
                self.net.check.fail(|| format!("{deed:?} was answered {other}"));
                Answer::Failed
            }
            Some(Ok(Applied { revision, effects })) => {
                let shown = effects.first().and_then(|effect| effect.stored.as_ref());
                if let Some(shown) = shown.map(described)
                    && shown != new
                {
                    self.net.check.fail(|| format!("{deed:?} was answered with {shown}"));
                }
                if deed == Deed::Delete {
                    self.known.remove(name);
                } else {
                    self.known.insert(name.to_owned(), (new, *revision));
                }
                Answer::Done { revision: Some(revision.number()) }
            }
        };
        self.tell(station, &format!("{name} {deed:?} {answer:?}"));
        self.record.lock().history.answer(call, answer);
    }

    async fn create(&mut self, station: &Station, name: String) {
        self.record.lock().created.insert(name.clone(), Fate::Unknown);
        let change = Change::Create { kind: Kind::Upstream, value: upstream(&name) };
        let told = alive(station, station.handle.propose(command(change))).await;
        let fate = match told {
            Some(Ok(_)) => Fate::Made,
            None | Some(Err(ProposeError::Unavailable { kept: Kept::Unknown, .. })) => {
                Fate::Unknown
            }
            Some(Err(ProposeError::Unavailable { kept: Kept::No, .. })) => Fate::NotMade,
            Some(Err(other)) => {
                self.net.check.fail(|| format!("a creation was answered {other}"));
                Fate::Unknown
            }
        };
        self.tell(station, &format!("create {fate:?}"));
        self.record.lock().created.insert(name, fate);
    }

    async fn note_fact(&mut self, station: &Station, name: String) {
        self.record.lock().facts.insert(name.clone(), Fate::Unknown);
        let since = Timestamp::from_secs(1);
        let fact = Fact::Suspension(Suspension {
            reason: name.clone(),
            by: String::new(),
            since,
            until: None,
        });
        let set = FactChange::Set { id: name.clone(), fact, expect: FactExpect::Absent };
        let command = FactCommand { at: since, changes: vec![set] };
        let fate = match alive(station, station.handle.propose_facts(command)).await {
            Some(Ok(())) => Fate::Made,
            None | Some(Err(FactError::Unavailable { kept: Kept::Unknown, .. })) => Fate::Unknown,
            Some(Err(FactError::Unavailable { kept: Kept::No, .. })) => Fate::NotMade,
            Some(Err(FactError::Rejected(why))) => {
                self.net.check.fail(|| format!("a new fact was answered {why}"));
                Fate::Unknown
            }
        };
        self.tell(station, &format!("fact {fate:?}"));
        self.record.lock().facts.insert(name, fate);
    }

    fn tell(&self, station: &Station, what: &str) {
        self.net.trace.tell(&format!("{} at {}: {what}", self.name, station.id));
    }
}

/// What came of asking a node; `None` when it crashed meanwhile.
async fn alive<T>(station: &Station, asked: impl Future<Output = T>) -> Option<T> {
    let ticket = Ticket::draw();
    let told = tokio::select! {
        biased;
        () = station.life.cancelled() => None,
        told = asked => Some(told),
    };
    ticket.take().await;
    told
}

/// The names of the created upstreams in a document, with how often each is there.
pub(crate) fn created_in(state: &State) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (key, stored) in state.list(Kind::Upstream) {
        if !REGISTERS.contains(&&*key.id) {
            *found.entry(described(stored)).or_default() += 1;
        }
    }
    found
}

fn described(stored: &Stored) -> String {
    stored.value.get("desc").and_then(Value::as_str).unwrap().to_owned()
}

fn register(name: &str) -> Key {
    Key::new(Kind::Upstream, name)
}

/// An upstream whose description is the value that is written.
pub(crate) fn upstream(value: &str) -> Value {
    json!({"type": "roundrobin", "nodes": {"10.0.0.1:80": 1}, "desc": value})
}

pub(crate) fn put(name: &str, value: &str) -> Command {
    let (expect, stamp) = (Expect::Any, Stamp::Now);
    command(Change::Put { key: register(name), value: upstream(value), expect, stamp })
}

fn command(change: Change) -> Command {
    Command { at: Timestamp::from_secs(1), base: None, force: false, changes: vec![change] }
}

/// The upstreams that clients fight over.
const REGISTERS: [&str; 3] = ["a", "b", "c"];
