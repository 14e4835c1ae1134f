//! What nodes tell a store that has forgotten: each piece counts once, whoever tells it, however
//! often and in whatever order, and money opens when everybody has told or is excused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use rules::budget::{Account, Fired};

use super::machine::{Holds, Machine};
use super::{Arc, Store, histories, key_of, parts};
use crate::fleet::money::{Caller, Heard, Report, Share, Telling, excuse, tell};

/// What a node knows: of each row what it has spent and added and which thresholds it has fired,
/// what it holds, and how many ids of it have ended.
#[derive(Clone, Debug)]
struct Knows {
    shares: Vec<(i64, i64, u8)>,
    open: Vec<Holds>,
    over: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// A node tells a piece: the next, or one that is so much before or behind it. It has the names
    /// of so many nodes on its disk.
    Tell(usize, i64, usize),
    Ask(usize, usize),
    Excuse(usize),
    /// The store forgets.
    Forget,
}

fn knows() -> impl Strategy<Value = Knows> {
    let shares = prop::collection::vec((0_i64..9, -3_i64..4, any::<u8>()), 3);
    let holds = prop::collection::vec((0_usize..3, 0_i64..5), 1..3);
    let over = prop_oneof![3 => 0_usize..3, 1 => Just(300)];
    (shares, prop::collection::vec(holds, 0..3), over).prop_map(|(shares, open, over)| Knows {
        shares,
        open,
        over,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let (node, names) = (|| 0_usize..3, || 0_usize..4);
    let place = prop_oneof![8 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    prop_oneof![
        12 => (node(), place, names()).prop_map(|(node, by, names)| Step::Tell(node, by, names)),
        4 => (node(), names()).prop_map(|(node, names)| Step::Ask(node, names)),
        1 => node().prop_map(Step::Excuse),
        1 => Just(Step::Forget),
    ]
}

/// How far a node has told: in which epoch, how many pieces, whether all, and the names it has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Told {
    epoch: u64,
    pieces: u64,
    is_whole: bool,
    is_excused: bool,
    names: usize,
}

/// What the store should know.
#[derive(Debug, Default)]
struct Model {
    rows: Vec<Account>,
    nodes: BTreeMap<String, Told>,
    seen: [u64; 3],
    is_open: bool,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Model {
    fn heard(&self, node: usize, epoch: u64) -> Heard {
        let is_of = |told: &Told| told.epoch == epoch;
        let telling = |told: &Told| match told {
            Told { is_excused: true, .. } => Telling::Excused,
            told if !is_of(told) || !told.is_whole => Telling::Awaited,
            told if told.names == self.nodes.len() => Telling::Introduced,
            _ => Telling::Told,
        };
        let mine = self.nodes.get(NAMES[node]).copied().filter(is_of).unwrap_or_default();
        Heard {
            is_open: self.is_open,
            told: mine.pieces,
            is_whole: mine.is_whole,
            seen: self.seen[node],
            nodes: self.nodes.iter().map(|(name, told)| (name.clone(), telling(told))).collect(),
        }
    }

    /// A node tells a piece of so many, or only asks: whether the piece counts.
    fn hears(&mut self, node: usize, epoch: u64, of: (u64, u64), names: usize) -> bool {
        let mine = self.nodes.get(NAMES[node]).copied().unwrap_or_default();
        // One that is excused keeps its place, and is excused no more once it speaks of it.
        let mut mine = match mine.epoch == epoch {
            true => Told { is_excused: false, ..mine },
            false => Told { epoch, ..Told::default() },
        };
        let (piece, pieces) = of;
        let counts = piece > 0 && piece == mine.pieces + 1 && !mine.is_whole;
        if counts {
            (mine.pieces, mine.is_whole) = (piece, piece == pieces);
            self.seen[node] += 1;
        }
        for name in &NAMES[..names] {
            self.nodes.entry((*name).to_owned()).or_default();
        }
        if mine.pieces > 0 {
            self.nodes.insert(NAMES[node].to_owned(), Told { names, ..mine });
        }
        let has_told = |told: &Told| told.is_excused || told.epoch == epoch && told.is_whole;
        self.is_open |= mine.is_whole && self.nodes.values().all(has_told);
        counts
    }
}

struct Played<'a> {
    machine: Machine,
    knows: &'a [Knows],
    model: Model,
    /// Which pieces of each node's count.
    counted: [u64; 3],
}

impl Played<'_> {
    fn report(&self, node: usize) -> Report {
        let Knows { shares, open, over } = &self.knows[node];
        let share = |(place, (posted, adjusted, fired)): (usize, &(i64, i64, u8))| {
            let row = self.machine.piece(place);
            let (posted, adjusted) = (parts(*posted), parts(*adjusted));
            let fired = percents(*fired);
            (row.key, Share { posted, adjusted, fired, expires: row.expires, is: row.is })
        };
        let shares: Vec<(Arc<[u8]>, Share)> = shares.iter().enumerate().map(share).collect();
        let open: Vec<_> = open.iter().enumerate().collect();
        let open: Vec<_> =
            open.iter().map(|(id, holds)| self.machine.wanted(node * 10 + id, holds)).collect();
        let over = (0..*over).map(|id| {
            let state = if id % 2 == 0 { SETTLED } else { VOIDED };
            (self.machine.id(node * 1_000 + 100 + id), [7; 8], state)
        });
        let shares = shares.iter().map(|(key, share)| (key, share));
        let of = (&self.machine.organisation, self.machine.epoch);
        Report::new(of, shares, open.iter().map(|held| (&**held, 5)), over)
    }

    async fn tell(
        &mut self,
        node: usize,
        by: Option<i64>,
        names: usize,
    ) -> Result<(), TestCaseError> {
        let report = self.report(node);
        let epoch = self.machine.epoch;
        let piece = by.map(|by| {
            let told = self.model.heard(node, epoch).told;
            told.saturating_add(1).saturating_add_signed(by)
        });
        let known: Vec<String> = NAMES[..names].iter().map(|name| (*name).to_owned()).collect();
        let organisation = self.machine.organisation.clone();
        let caller = Caller { node: NAMES[node], ..self.machine.caller(&organisation) };
        let told = piece.map(|piece| (&report, piece));
        let heard = tell(&mut self.machine.connection, caller, &known, told).await.unwrap();
        let place = (piece.unwrap_or(0), report.pieces());
        if self.model.hears(node, epoch, place, names) {
            self.counted[node] = piece.unwrap_or(0);
            if piece == Some(1) {
                self.count(node);
            }
        }
        prop_assert_eq!(heard, Some(self.model.heard(node, epoch)));
        Ok(())
    }

    /// All shares and holds of a node are in its first piece.
    fn count(&mut self, node: usize) {
        let Knows { shares, open, .. } = &self.knows[node];
        for (row, (posted, adjusted, fired)) in self.model.rows.iter_mut().zip(shares) {
            row.posted = row.posted.plus(parts(*posted)).unwrap();
            row.adjusted = row.adjusted.plus(parts(*adjusted)).unwrap();
            row.fired = row.fired.and(percents(*fired));
        }
        for (place, amount) in open.iter().flatten() {
            let row = &mut self.model.rows[*place];
            row.pending = row.pending.plus(parts(*amount)).unwrap();
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Tell(node, by, names) => self.tell(*node, Some(*by), *names).await,
            Step::Ask(node, names) => self.tell(*node, None, *names).await,
            Step::Excuse(node) => {
                let (organisation, epoch) = (self.machine.organisation.clone(), self.machine.epoch);
                let of = (NAMES[*node], epoch);
                let done = excuse(&mut self.machine.connection, &organisation, of).await.unwrap();
                let mine = self.model.nodes.get(NAMES[*node]).copied().unwrap_or_default();
                let is_of = mine.epoch == epoch;
                prop_assert_eq!(done, Some(!(is_of && mine.is_whole)));
                if done == Some(true) {
                    let mine = if is_of { mine } else { Told::default() };
                    let excused = Told { is_excused: true, names: 0, ..mine };
                    self.model.nodes.insert(NAMES[*node].to_owned(), excused);
                }
                Ok(())
            }
            Step::Forget => {
                let past = self.machine.epoch;
                self.forget().await;
                let now = std::mem::replace(&mut self.machine.epoch, past);
                let report = self.report(0);
                let organisation = self.machine.organisation.clone();
                let caller = self.machine.caller(&organisation);
                let told = Some((&report, 1));
                let heard = tell(&mut self.machine.connection, caller, &[], told).await.unwrap();
                self.machine.epoch = now;
                prop_assert_eq!(heard, None, "of an epoch that is over");
                Ok(())
            }
        }
    }

    /// The nodes are known to it still, as from a snapshot.
    async fn forget(&mut self) {
        self.machine.begin().await;
        self.machine.close(true).await;
        let nodes = std::mem::take(&mut self.model.nodes);
        let rows = vec![Account::default(); 3];
        self.model = Model { nodes, rows, ..Model::default() };
        self.counted = [0; 3];
    }

    fn is_same(&self, store: &Store) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.machine.rows(store), self.model.rows.clone());
        for (place, row) in self.model.rows.iter().enumerate() {
            let [kept, _] = self.machine.kept_for(store, place, 0);
            let is_right = *row == Account::default() || (kept == -1) == (place != 1);
            prop_assert!(is_right, "the row {} is kept for {} ms", place, kept);
        }
        for (node, knows) in self.knows.iter().enumerate() {
            // Until it tells, what it held in an epoch before stays listed.
            if self.counted[node] == 0 {
                continue;
            }
            let open = knows.open.len();
            let is_all = self.model.heard(node, self.machine.epoch).is_whole;
            for id in 0..open {
                prop_assert_eq!(self.state(store, node * 10 + id), Some((RESERVED, -1)));
            }
            for id in (0..knows.over).filter(|id| is_all && (*id < 2 || id + 1 == knows.over)) {
                let (state, kept) = self.state(store, node * 1_000 + 100 + id).unwrap();
                prop_assert_eq!(state, if id % 2 == 0 { SETTLED } else { VOIDED });
                prop_assert!((86_000_000..=86_400_000).contains(&kept), "{} ms", kept);
            }
            let name = key_of(&format!("open:{}", NAMES[node]));
            let listed: Vec<String> = store.ask(&["ZRANGE", &name, "0", "-1"]);
            let expected: Vec<String> =
                (0..open).map(|id| format!("{:032x}", self.machine.id(node * 10 + id))).collect();
            prop_assert_eq!(listed, expected);
        }
        Ok(())
    }

    /// How an id stands in this epoch, and the milliseconds for which that is kept.
    fn state(&self, store: &Store, id: usize) -> Option<(u8, i64)> {
        let key = self.machine.organisation.hold(self.machine.id(id));
        let key = String::from_utf8(key).unwrap();
        let value: Option<Vec<u8>> = store.ask(&["GET", &key]);
        let value = value.filter(|value| value[..8] == self.machine.epoch.to_le_bytes())?;
        Some((value[8], store.ask(&["PTTL", &key])))
    }
}

#[test]
pub(super) fn each_piece_counts_once_and_money_opens_when_all_have_told() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cases = AtomicU64::new(1);
    let (knows, steps) = (prop::collection::vec(knows(), 3), prop::collection::vec(step(), 1..30));
    proptest!(histories(200), |(knows in knows, steps in steps)| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        store.ask::<u64>(&["DEL", &key_of("nodes"), &key_of("open:b"), &key_of("open:c")]);
        runtime.block_on(async {
            let machine = Machine::new(&store, case).await;
            let model = Model::default();
            let mut played = Played { machine, knows: &knows, model, counted: [0; 3] };
            played.forget().await;
            for step in &steps {
                played.step(step).await?;
            }
            played.is_same(&store)
        })?;
    });
}

/// A percent for each bit.
fn percents(bits: u8) -> Fired {
    (0..8).filter(|bit| bits >> bit & 1 == 1).map(|bit| bit * 12 + 1).collect()
}

/// As the scripts name the states.
const RESERVED: u8 = 1;
const SETTLED: u8 = 2;
const VOIDED: u8 = 3;
