//! Nodes whose way to the store loses steps and answers, and whose clients hang up.

use model::Uptime;
use proptest::prelude::*;
use rules::quota::{News, Principal};
use tokio::sync::{mpsc, oneshot};

use super::{Arc, Duration, Edition, Join, NoTurn, QuotaId, QuotaKey, Room, Rule, Turn, join};
use crate::quota::line::Line;

type Answered = oneshot::Receiver<Result<Turn, NoTurn>>;

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    AnswerLost,
    Lost,
}

#[derive(Clone, Debug)]
enum Deed {
    Ask {
        node: usize,
        agent: &'static str,
        patience: u64,
    },
    /// One of the clients that wait, by a number.
    HangUp(usize),
    Step {
        node: usize,
        fate: Fate,
    },
    /// So many milliseconds.
    Pass(u64),
}

/// Two nodes at one credential.
struct Bench {
    principal: Principal,
    edition: Edition,
    lines: [Line; 2],
    clients: Vec<(usize, u64, Answered)>,
    /// The calls that were given a turn, in order.
    served: Vec<u64>,
    refused: Vec<(u64, NoTurn)>,
    now: u64,
    asked: u64,
    steps: u64,
    messages: mpsc::Sender<super::super::Message>,
    _inbox: mpsc::Receiver<super::super::Message>,
}

impl Bench {
    fn new(rule: Rule) -> Self {
        let key = Arc::new(QuotaKey::of_upstream(&QuotaId::new("q"), "u"));
        let edition = Edition { revision: 1, rule };
        let line = || Line::new(Arc::clone(&key), edition, Uptime::default());
        let (messages, inbox) = mpsc::channel(16);
        Self {
            principal: Principal::default(),
            edition,
            lines: [line(), line()],
            clients: Vec::new(),
            served: Vec::new(),
            refused: Vec::new(),
            now: 1_000_000,
            asked: 0,
            steps: 0,
            messages,
            _inbox: inbox,
        }
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_micros(self.now * 1_000)
    }

    fn ask(&mut self, node: usize, call: Join) -> u64 {
        self.asked += 1;
        let (answer, answered) = oneshot::channel();
        let now = self.uptime();
        self.lines[node].ask(Join { seq: self.asked, ..call }, answer, now);
        self.clients.push((node, self.asked, answered));
        self.asked
    }

    fn hang_up(&mut self, index: usize) {
        if !self.clients.is_empty() {
            let (node, seq, answered) = self.clients.remove(index % self.clients.len());
            drop(answered);
            let now = self.uptime();
            self.lines[node].leave(seq, now);
        }
    }

    /// Takes a node's step, if one is due.
    fn step(&mut self, node: usize, fate: Fate) {
        let (now, line) = (self.uptime(), &mut self.lines[node]);
        if line.due.is_none_or(|due| due > now) {
            return;
        }
        self.steps += 1;
        let news = line.news(self.steps, now);
        let of = node as u64 + 1;
        let step =
            (fate != Fate::Lost).then(|| self.principal.step(&self.edition, self.now, of, &news));
        match step.filter(|_| fate == Fate::Arrives) {
            Some(step) => line.take(&step, now, &self.messages),
            None => line.fail(news, now),
        }
        let (served, refused) = (&mut self.served, &mut self.refused);
        self.clients.retain_mut(|(_, seq, answered)| match answered.try_recv() {
            Ok(Ok(_)) => {
                served.push(*seq);
                false
            }
            Ok(Err(no_turn)) => {
                refused.push((*seq, no_turn));
                false
            }
            Err(_) => true,
        });
    }

    /// Everything arrives, for so many milliseconds.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(5) {
            self.now += 5;
            (0..2).for_each(|node| self.step(node, Fate::Arrives));
        }
    }

    /// Calls that wait, as the store sees it.
    fn waiting(&mut self) -> u64 {
        self.principal.step(&self.edition, self.now, 99, &News::default()).waiting
    }
}

/// Ten calls in ten seconds, one at once.
fn slow() -> Rule {
    Rule::new(10, Duration::from_secs(10), 1, 0, Duration::from_secs(1))
}

#[test]
fn who_hangs_up_makes_room_with_the_next_step() {
    let mut bench = Bench::new(slow());
    let call = || Join { room: Room { agent: 3, class: 9 }, ..join("a", 60_000) };
    for _ in 0..4 {
        bench.ask(0, call());
        bench.run(5);
    }
    assert_eq!((bench.served.len(), bench.waiting()), (1, 3));
    bench.ask(1, call());
    bench.run(5);
    assert!(matches!(bench.refused[..], [(5, NoTurn::Late(_))]));
    (0..3).for_each(|_| bench.hang_up(0));
    bench.step(0, Fate::Arrives);
    assert_eq!(bench.waiting(), 0, "at once, and not when it is looked at next");
    bench.ask(1, call());
    bench.run(1_200);
    assert_eq!(bench.served, [1, 6]);
}

#[test]
fn answers_that_are_lost_change_nobody_s_place() {
    let mut bench = Bench::new(slow());
    for _ in 0..3 {
        bench.ask(0, join("a", 60_000));
    }
    // The first has its turn, and hears of it from the second answer.
    bench.step(0, Fate::AnswerLost);
    for _ in 0..3 {
        bench.ask(1, join("b", 60_000));
    }
    bench.run(100);
    assert_eq!(bench.served, [1]);
    for _ in 0..4 {
        bench.now += 60;
        bench.step(0, Fate::AnswerLost);
        bench.now += 60;
        bench.step(0, Fate::Arrives);
    }
    bench.run(10_000);
    assert_eq!(bench.served, [1, 4, 2, 5, 3, 6]);
}

#[test]
fn a_turn_that_is_told_too_late_is_not_sent_by() {
    let mut bench = Bench::new(slow());
    bench.ask(0, join("a", 60_000));
    bench.step(0, Fate::AnswerLost);
    // Longer than half of the way to the upstream.
    bench.now += 130;
    bench.step(0, Fate::Arrives);
    assert!(bench.served.is_empty());
    bench.run(2_000);
    assert_eq!(bench.served, [1], "it has another turn");
}

#[test]
fn who_waited_for_its_whole_time_is_told_how_long_it_would_still_have_been() {
    let mut bench = Bench::new(slow());
    bench.ask(0, join("a", 60_000));
    bench.ask(0, join("a", 2_500));
    bench.run(5);
    // Others come, who have four times the share.
    for _ in 0..8 {
        bench.ask(1, Join { weight: 4, ..join("b", 60_000) });
    }
    bench.run(2_600);
    let [(2, NoTurn::Late(wait))] = bench.refused[..] else { panic!("{:?}", bench.refused) };
    // Two of the others and itself: it would have been the sixth.
    assert!((2_300..3_500).contains(&wait.as_millis()), "{wait:?}");
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let agent = prop::sample::select(vec!["a", "b", "c"]);
    let fate =
        prop::sample::select(vec![Fate::Arrives, Fate::Arrives, Fate::AnswerLost, Fate::Lost]);
    let deed = prop_oneof![
        3 => (0_usize..2, agent, 0_u64..9_000)
            .prop_map(|(node, agent, patience)| Deed::Ask { node, agent, patience }),
        1 => (0_usize..99).prop_map(Deed::HangUp),
        4 => (0_usize..2, fate).prop_map(|(node, fate)| Deed::Step { node, fate }),
        2 => (0_u64..400).prop_map(Deed::Pass),
    ];
    prop::collection::vec(deed, 1..120)
}

proptest! {
    /// Every client that stays is answered, nobody that is gone waits on, and no window holds more.
    #[test]
    fn whatever_is_lost_nobody_is_forgotten_and_no_ghost_waits(deeds in deeds()) {
        let mut bench = Bench::new(slow());
        let mut turns = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Ask { node, agent, patience } => {
                    bench.ask(node, join(agent, patience));
                }
                Deed::HangUp(index) => bench.hang_up(index),
                Deed::Step { node, fate } => bench.step(node, fate),
                Deed::Pass(millis) => bench.now += millis,
            }
            turns.resize(bench.served.len(), bench.now);
        }
        for _ in 0..4_000 {
            bench.run(5);
            turns.resize(bench.served.len(), bench.now);
        }
        prop_assert!(bench.clients.is_empty(), "{:?}", bench.clients);
        prop_assert_eq!(bench.waiting(), 0);
        let (span, quota) = (10_000 - 250, 10);
        prop_assert!(
            turns.windows(quota + 1).all(|window| window[quota] - window[0] >= span), "{:?}", turns
        );
    }
}
