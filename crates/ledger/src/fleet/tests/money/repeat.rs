//! Every message sent one to three times, in any order: each id has one effect.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use rules::budget::RowKey;

use super::{Account, Arc, Store, account_at, budget, hold, parts, plan, teller};
use crate::fleet::batch::{Arguments, Ask, unpack};
use crate::fleet::key::Organisation;
use crate::fleet::money::{
    Caller, Entry, Fate, HOLD, Kind, Piece, Resolved, Verdict, Wanted, resolve,
};
use rules::plan::Subject;
use tokio::sync::oneshot;

/// What is said of one id: it is taken, and ends in one of two ways.
#[derive(Clone, Debug)]
struct Life {
    amount: i64,
    /// `None`: void.
    cost: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Take(usize),
    End(usize),
}

fn lives() -> impl Strategy<Value = (Vec<Life>, Vec<Message>)> {
    let life =
        (0_i64..5, prop::option::of(0_i64..8)).prop_map(|(amount, cost)| Life { amount, cost });
    prop::collection::vec((life, 1_usize..4, 1_usize..4), 1..10).prop_flat_map(|lives| {
        let mut messages = Vec::new();
        for (id, (_, takes, ends)) in lives.iter().enumerate() {
            messages.extend(std::iter::repeat_n(Message::Take(id), *takes));
            messages.extend(std::iter::repeat_n(Message::End(id), *ends));
        }
        let lives: Vec<Life> = lives.into_iter().map(|(life, ..)| life).collect();
        (Just(lives), Just(messages).prop_shuffle())
    })
}

/// What the rules say of an id: nothing, held with this, or ended.
enum Known {
    Held(Life),
    Over,
}

struct Case<'a> {
    connection: &'a mut MultiplexedConnection,
    organisation: Organisation,
    epoch: u64,
    number: u128,
    budget: Arc<rules::budget::Budget>,
    row: RowKey,
    model: Account,
    known: BTreeMap<usize, Known>,
}

impl Case<'_> {
    fn caller(&self) -> Caller<'_> {
        Caller { organisation: &self.organisation, node: "a", epoch: self.epoch, answered: 0 }
    }

    fn wanted(&self, id: usize, life: &Life) -> Arc<Wanted> {
        let hold = rules::budget::Hold { row: self.row.clone(), ..hold(&self.budget, life.amount) };
        let plan = plan(self.number << 32 | id as u128, vec![hold]);
        Wanted::of(&self.organisation, &plan).unwrap()
    }

    async fn take(&mut self, id: usize, life: &Life) -> Verdict {
        let (answer, _found) = oneshot::channel();
        let money = Some(self.wanted(id, life));
        let asks = [Ask { wants: Arc::new([]), money, answer }];
        let Arguments { rules, plans, money, .. } = Arguments::pack(&self.organisation, &asks);
        let (further, [head, budgets, rows]) = money.unwrap().call(self.caller(), 0);
        let mut keys = vec![self.organisation.epoch()];
        keys.extend(further);
        let epoch = self.epoch.to_string();
        let arguments: [&[u8]; 6] = [epoch.as_bytes(), &rules, &plans, &head, &budgets, &rows];
        let answer = HOLD.call(self.connection, &keys, &arguments).await.unwrap();
        let (mut found, _) = unpack(&answer, &asks, self.epoch).unwrap();
        found.remove(0).holds.unwrap().verdict
    }

    async fn end(&mut self, id: usize, life: &Life) -> Fate {
        let wanted = self.wanted(id, life);
        let Piece { row, .. } = wanted.holds[0].clone();
        let kind = if life.cost.is_some() { Kind::Settle } else { Kind::Void };
        let parts = vec![(row, parts(life.cost.unwrap_or(0)))];
        let entry = Entry { id: wanted.id, check: wanted.check, kind, parts };
        let (organisation, epoch) = (self.organisation.clone(), self.epoch);
        let caller = Caller { organisation: &organisation, node: "a", epoch, answered: 0 };
        match resolve(self.connection, caller, &[entry]).await.unwrap() {
            Resolved::All(_, fates) => fates[0].fate,
            other => panic!("{other:?}"),
        }
    }

    async fn step(&mut self, message: Message, lives: &[Life]) -> Result<(), TestCaseError> {
        match message {
            Message::Take(id) => {
                let life = &lives[id];
                let verdict = self.take(id, life).await;
                let expected = match self.known.get(&id) {
                    Some(Known::Held(_)) => Verdict::Known,
                    Some(Known::Over) if life.cost.is_some() => Verdict::Settled,
                    Some(Known::Over) => Verdict::Voided,
                    None => match self.model.reserve(&self.budget, parts(life.amount)) {
                        Ok(model) => {
                            self.model = model;
                            self.known.insert(id, Known::Held(life.clone()));
                            Verdict::New
                        }
                        Err(_) => Verdict::Short,
                    },
                };
                prop_assert_eq!(verdict, expected, "{:?}", message);
            }
            Message::End(id) => {
                let life = &lives[id];
                let fate = self.end(id, life).await;
                let expected = match self.known.get(&id) {
                    Some(Known::Over) => Fate::Known,
                    Some(Known::Held(held)) => {
                        let amount = parts(held.amount);
                        self.model = match life.cost {
                            Some(cost) => self.model.settle(amount, parts(cost)),
                            None => self.model.void(amount),
                        };
                        if life.cost.is_some() {
                            self.model = self.model.fire(&self.budget).0;
                        }
                        self.known.insert(id, Known::Over);
                        Fate::Done
                    }
                    // Nothing was held: a void stands for all time, a cost has no hold to end.
                    None if life.cost.is_some() => Fate::Unknown,
                    None => {
                        self.known.insert(id, Known::Over);
                        Fate::Done
                    }
                };
                prop_assert_eq!(fate, expected, "{:?}", message);
            }
        }
        Ok(())
    }
}

#[test]
fn each_id_has_one_effect_however_often_and_in_whatever_order_it_is_sent() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut connection, epoch) = runtime.block_on(async {
        let node = teller(&store, "a").await;
        let client = redis::Client::open(store.url()).unwrap();
        (client.get_multiplexed_async_connection().await.unwrap(), node.money().epoch)
    });
    let mut config = ProptestConfig::with_cases(200);
    config.failure_persistence = None;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let shared = std::cell::RefCell::new((0_u128, &mut connection));
    let ran = runner.run(&lives(), |(lives, messages)| {
        let mut shared = shared.borrow_mut();
        shared.0 += 1;
        let number = shared.0;
        let budget = Arc::new(budget("ten", 10));
        let subject = Subject::Text(Arc::from(format!("case {number}")));
        let row = RowKey { subject, ..hold(&budget, 0).row };
        let mut case = Case {
            connection: shared.1,
            organisation: Organisation::default(),
            epoch,
            number,
            budget,
            row,
            model: Account::default(),
            known: BTreeMap::new(),
        };
        runtime.block_on(async {
            for message in messages {
                case.step(message, &lives).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
        let key = case.organisation.row(&case.row);
        prop_assert_eq!(account_at(&store, &key), case.model);
        Ok(())
    });
    ran.unwrap();
}
