//! What writers and readers of a fleet's Admin API did and were told, and whether one copy of the
//! document could have told it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Clock as _, SystemClock, Uptime};
use serde_json::{Value, json};

use super::call::{Call, get_call};
use super::history::{Answer, Deed, History};
use super::node::Node;
use super::traffic::{Stop, lock};
use super::{Fleet, Message, at, wait_for};

/// The history of some writers, and what they made besides.
pub(crate) struct Journal {
    /// What its resources and values begin with.
    mark: String,
    history: Mutex<History>,
    /// Names of upstreams that were made with an id of the fleet's choice, and whether somebody
    /// was told so.
    created: Mutex<Vec<(String, bool)>>,
    clock: SystemClock,
    /// When changes were acknowledged.
    acknowledged: Mutex<Vec<Uptime>>,
    /// Deeds so far.
    deeds: AtomicUsize,
    stop: AtomicBool,
}

impl Fleet {
    /// Does something while so many writers change small resources at these nodes in turn; then
    /// everything must be whole again, and explain what the writers were told.
    pub(crate) fn under_writes(
        &self,
        writers: usize,
        names: &[&str],
        deed: impl FnOnce(&Journal),
    ) -> Journal {
        let journal = Journal {
            mark: format!("j{}", self.journals.fetch_add(1, Ordering::Relaxed)),
            history: Mutex::default(),
            created: Mutex::default(),
            clock: SystemClock::start(),
            acknowledged: Mutex::default(),
            deeds: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        let nodes: Vec<_> = names.iter().map(|name| self.node(name)).collect();
        std::thread::scope(|scope| {
            let _stop = Stop(&journal.stop);
            for writer in 0..writers {
                let (journal, nodes) = (&journal, &nodes);
                scope.spawn(move || journal.write(writer, nodes));
            }
            journal.flows();
            deed(&journal);
            journal.flows();
        });
        journal
    }
}

impl Journal {
    /// Waits until some more changes were acknowledged.
    pub(crate) fn flows(&self) {
        let enough = lock(&self.acknowledged).len() + FLOW;
        wait_for("changes", || (lock(&self.acknowledged).len() >= enough).then_some(()));
    }

    /// The longest time in which nobody was told of a change.
    pub(crate) fn longest_gap(&self) -> Duration {
        let times = lock(&self.acknowledged);
        let gaps = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.since(*one));
        gaps.max().unwrap_or_default()
    }

    /// One client, which goes on at the next node after each deed, whatever came of it. One that
    /// did not answer it leaves alone for some turns.
    fn write(&self, writer: usize, nodes: &[Arc<Node>]) {
        let mut shunned = vec![0_usize; nodes.len()];
        for own in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let turn = (own + writer) % nodes.len();
            let (Some(node), Some(shunned)) = (nodes.get(turn), shunned.get_mut(turn)) else {
                return;
            };
            if *shunned > 0 {
                *shunned -= 1;
                // Where all are shunned, time passes too.
                std::thread::park_timeout(Duration::from_millis(5));
            } else if !self.act(node) {
                *shunned = TURNS_SHUNNED;
            }
        }
    }

    /// The next deed; returns whether it was answered.
    fn act(&self, node: &Node) -> bool {
        let nth = self.deeds.fetch_add(1, Ordering::Relaxed);
        let key = self.key(nth / DEEDS_A_KEY);
        let value = format!("{}-v{nth}", self.mark);
        match nth % 8 {
            0 | 3 => self.put(node, &key, &value),
            1 | 6 => self.swap(node, &key, &value),
            2 | 5 => self.read(node, &key),
            4 => self.create(node, &value),
            _ => self.delete(node, &key),
        }
    }

    /// Writes whatever is there.
    fn put(&self, node: &Node, key: &str, value: &str) -> bool {
        let call = lock(&self.history).call(key, Deed::Write(value.to_owned()));
        let answer = changed(put(node, key, value, &[]));
        self.note(call, answer)
    }

    /// Reads, and writes if nobody else has.
    fn swap(&self, node: &Node, key: &str, value: &str) -> bool {
        let reading = lock(&self.history).call(key, Deed::Read);
        let (found, tag) = read(node, key);
        let old = match &found {
            Answer::Saw { value, .. } => value.clone(),
            _ => return self.note(reading, found),
        };
        self.note(reading, found);
        let deed = Deed::Swap { old, new: value.to_owned() };
        let call = lock(&self.history).call(key, deed);
        let condition = match tag {
            Some(tag) => format!("if-match: {tag}"),
            None => "if-none-match: *".to_owned(),
        };
        let answer = changed(put(node, key, value, &[&condition]));
        self.note(call, answer)
    }

    fn delete(&self, node: &Node, key: &str) -> bool {
        let call = lock(&self.history).call(key, Deed::Delete);
        let path = path(key);
        let call_out = Call { method: "DELETE", patience: PATIENCE, ..get_call(&path, &[]) };
        let answer = match changed(node.ask(call_out)) {
            // Its answer names no revision of its own.
            Answer::Done { .. } => Answer::Done { revision: None },
            answer => answer,
        };
        self.note(call, answer)
    }

    fn read(&self, node: &Node, key: &str) -> bool {
        let call = lock(&self.history).call(key, Deed::Read);
        let (answer, _) = read(node, key);
        self.note(call, answer)
    }

    /// A POST: were it made twice, there would be two.
    fn create(&self, node: &Node, name: &str) -> bool {
        let (path, body) = ("/admin/upstreams", upstream(name).to_string());
        let call = Call { method: "POST", path, fields: &[], body: &body, patience: PATIENCE };
        let answer = changed(node.ask(call));
        let done = matches!(answer, Answer::Done { .. });
        if done {
            lock(&self.acknowledged).push(self.clock.uptime());
        }
        let is_known = !matches!(answer, Answer::Unknown);
        if answer != Answer::Failed {
            lock(&self.created).push((name.to_owned(), done));
        } else {
            lock(&self.created).push((format!("!{name}"), false));
        }
        is_known
    }

    fn note(&self, call: super::history::Call, answer: Answer) -> bool {
        if matches!(answer, Answer::Done { .. }) {
            lock(&self.acknowledged).push(self.clock.uptime());
        }
        let answered = !matches!(answer, Answer::Unknown | Answer::Failed);
        lock(&self.history).answer(call, answer);
        answered
    }

    /// Reads everything at every node, and judges all that was told. Returns how many changes were
    /// acknowledged.
    pub(crate) fn judge(self, fleet: &Fleet) -> usize {
        let keys = self.deeds.load(Ordering::Relaxed).div_ceil(DEEDS_A_KEY);
        let nodes = fleet.running();
        for key in 0..keys {
            for node in &nodes {
                wait_for("a read", || self.read(node, &self.key(key)).then_some(()));
            }
        }
        for node in &nodes {
            self.check_created(node);
        }
        let history = self.history.into_inner().expect("nobody panicked");
        if let Err(violation) = history.check() {
            panic!("no single copy of the document could have told this: {violation:#?}");
        }
        self.acknowledged.into_inner().expect("nobody panicked").len()
    }

    fn key(&self, nth: usize) -> String {
        format!("{}-r{nth}", self.mark)
    }

    fn check_created(&self, node: &Node) {
        let list = node.get("/admin/upstreams").json();
        let list = at(&list, "/list").as_array().cloned().unwrap_or_default();
        let names = list.iter().map(|one| at(one, "/value/desc").as_str().unwrap_or_default());
        let names: Vec<&str> = names.collect();
        for (name, is_acknowledged) in &*lock(&self.created) {
            let (name, is_possible) = match name.strip_prefix('!') {
                Some(name) => (name, false),
                None => (name.as_str(), true),
            };
            let count = names.iter().filter(|other| **other == name).count();
            let most = usize::from(is_possible);
            let least = usize::from(*is_acknowledged);
            assert!((least..=most).contains(&count), "{name} is there {count} times");
        }
    }
}

fn path(key: &str) -> String {
    format!("/admin/upstreams/{key}")
}

fn upstream(value: &str) -> Value {
    json!({ "nodes": { "127.0.0.1:9": 1 }, "desc": value })
}

fn put(node: &Node, key: &str, value: &str, fields: &[&str]) -> std::io::Result<Message> {
    let (path, body) = (path(key), upstream(value).to_string());
    let call = Call { method: "PUT", path: &path, fields, body: &body, patience: PATIENCE };
    node.ask(call)
}

/// What a writer was told.
fn changed(asked: std::io::Result<Message>) -> Answer {
    let answer = match asked {
        Ok(answer) => answer,
        // Nothing was sent.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Answer::Failed;
        }
        Err(_) => return Answer::Unknown,
    };
    match answer.status() {
        200 | 201 => Answer::Done { revision: answer.field("etag").map(tagged) },
        404 | 412 => Answer::Refused,
        503 if answer.text().contains("nobody knows") => Answer::Unknown,
        503 => Answer::Failed,
        _ => panic!("a writer was told: {answer}"),
    }
}

/// What a reader was told, and the tag of what it saw.
fn read(node: &Node, key: &str) -> (Answer, Option<String>) {
    let path = path(key);
    let call = Call { patience: PATIENCE, ..get_call(&path, &[]) };
    let Ok(answer) = node.ask(call) else { return (Answer::Unknown, None) };
    let revision = answer.field("x-tollgate-revision").and_then(|it| it.parse().ok());
    match answer.status() {
        200 => {
            let value = Some(super::text_at(&answer.json(), "/value/desc"));
            (Answer::Saw { value, revision }, answer.field("etag").map(str::to_owned))
        }
        404 => (Answer::Saw { value: None, revision }, None),
        503 => (Answer::Unknown, None),
        _ => panic!("a reader was told: {answer}"),
    }
}

/// The revision in an entity tag.
fn tagged(tag: &str) -> u64 {
    tag.trim_matches('"').parse().unwrap_or_else(|_| panic!("no tag of ours: {tag}"))
}

/// How long a client waits for an answer; of what takes longer it knows nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a client passes over a node that did not answer.
const TURNS_SHUNNED: usize = 20;

/// Changes that show that writers come through.
const FLOW: usize = 15;

/// Deeds on one resource before the next has its turn; as many as a check of its history bears,
/// with the reads at the end.
const DEEDS_A_KEY: usize = 40;
