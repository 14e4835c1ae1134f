//! One node's calls of the scripts of money, one by one, and what the rules say of each.

use std::collections::BTreeMap;

use model::{Amount, Clock as _, SystemClock};
use redis::aio::MultiplexedConnection;
use rules::budget::{Account, Budget, Calendar, Every, Hold, RowKey};
use rules::plan::{Plan, Subject};
use tokio::sync::oneshot;

use super::{Arc, Store, account_at, budget, key_of, organisation, parts, plan};
use crate::fleet::batch::{Arguments, Ask, unpack};
use crate::fleet::key::Organisation;
use crate::fleet::money::{
    Caller, Entry, FoundHolds, HOLD, Kind, Resolved, Row, Wanted, judge, resolve,
};

/// A store in which money is open, and one node that speaks with it. Each machine has ids and rows
/// of its own.
pub(super) struct Machine {
    pub(super) connection: MultiplexedConnection,
    pub(super) organisation: Organisation,
    pub(super) epoch: u64,
    /// The last call that was answered.
    pub(super) answered: u64,
    case: u64,
    pub(super) budgets: Vec<Arc<Budget>>,
}

/// What an id holds: of which budgets, and how much.
pub(super) type Holds = Vec<(usize, i64)>;

impl Machine {
    pub(super) async fn new(store: &Store, case: u64) -> Self {
        let client = redis::Client::open(store.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let monthly = Budget {
            calendar: Calendar::new(Every::Month, rules::budget::zone("UTC").unwrap(), None),
            thresholds: vec![1, 10, 33, 50, 67, 90, 99, 100],
            ..budget("monthly", 17)
        };
        let shadow = Budget { shadow: true, ..budget("shadow", 5) };
        let budgets = [budget("ten", 10), monthly, shadow].map(Arc::new).into();
        let organisation = organisation();
        let mut machine =
            Self { connection, organisation, epoch: case * 1_000, answered: 0, case, budgets };
        machine.begin().await;
        machine
    }

    /// The store begins an epoch: it has forgotten all, and knows of no node that has told.
    pub(super) async fn begin(&mut self) {
        (self.epoch, self.answered) = (self.epoch + 1, 0);
        let epoch = [self.epoch, 0, 0].map(u64::to_le_bytes).concat();
        let opened = self.epoch.to_le_bytes();
        redis::pipe()
            .cmd("SET")
            .arg(self.organisation.epoch())
            .arg(epoch)
            .cmd("SET")
            .arg(self.organisation.money())
            .arg(&opened[..])
            .cmd("DEL")
            .arg(self.organisation.open("a"))
            .exec_async(&mut self.connection)
            .await
            .unwrap();
    }

    /// Money is closed until somebody has told: it was open in the epoch before, or never.
    pub(super) async fn close(&mut self, was_open: bool) {
        let before = (self.epoch - 1).to_le_bytes();
        let mut command = redis::cmd(if was_open { "SET" } else { "DEL" });
        command.arg(self.organisation.money());
        if was_open {
            command.arg(&before[..]);
        }
        command.exec_async(&mut self.connection).await.unwrap();
    }

    /// The store loses the last call, and nothing else.
    pub(super) async fn lose(&mut self) {
        let seen = [self.epoch, self.answered - 1].map(u64::to_le_bytes).concat();
        let mut command = redis::cmd("SET");
        command.arg(self.organisation.seen("a")).arg(seen);
        command.exec_async(&mut self.connection).await.unwrap();
    }

    pub(super) fn row(&self, place: usize) -> RowKey {
        let budget = &self.budgets[place];
        let period = budget.calendar.at(SystemClock::start().now());
        let subject = Subject::Text(Arc::from(format!("case {}", self.case)));
        RowKey::of(budget, subject, period.start)
    }

    /// A row as the scripts take it.
    pub(super) fn piece(&self, place: usize) -> Row {
        Row::of(&self.organisation, &self.budgets[place], &self.row(place))
    }

    pub(super) fn id(&self, id: usize) -> u128 {
        u128::from(self.case) << 32 | id as u128
    }

    fn plan(&self, id: usize, holds: &Holds) -> Plan {
        let hold = |(place, amount): &(usize, i64)| Hold {
            row: self.row(*place),
            ..super::hold(&self.budgets[*place], *amount)
        };
        plan(self.id(id), holds.iter().map(hold).collect())
    }

    pub(super) fn wanted(&self, id: usize, holds: &Holds) -> Arc<Wanted> {
        Wanted::of(&self.organisation, &self.plan(id, holds)).unwrap()
    }

    pub(super) fn caller<'a>(&self, organisation: &'a Organisation) -> Caller<'a> {
        let Self { epoch, answered, .. } = *self;
        Caller { organisation, node: "a", epoch, answered }
    }

    /// Holds in one call: what the script answers.
    pub(super) async fn hold(&mut self, wanted: &[(usize, &Holds)]) -> (Vec<u8>, Vec<Ask>) {
        let ask = |(id, holds): &(usize, &Holds)| {
            let (answer, _found) = oneshot::channel();
            Ask { wants: Arc::new([]), money: Some(self.wanted(*id, holds)), answer }
        };
        let asks: Vec<Ask> = wanted.iter().map(ask).collect();
        let organisation = self.organisation.clone();
        let Arguments { rules, plans, money, .. } = Arguments::pack(&organisation, &asks);
        let (further, [head, budgets, rows]) = money.unwrap().call(self.caller(&organisation), 0);
        let mut keys = vec![organisation.epoch()];
        keys.extend(further);
        let epoch = self.epoch.to_string();
        let arguments: [&[u8]; 6] = [epoch.as_bytes(), &rules, &plans, &head, &budgets, &rows];
        (HOLD.call(&mut self.connection, &keys, &arguments).await.unwrap(), asks)
    }

    /// Holds in one call: what was found for each. The rules agree with each.
    pub(super) async fn take(&mut self, wanted: &[(usize, &Holds)]) -> Vec<FoundHolds> {
        let (answer, asks) = self.hold(wanted).await;
        let (found, number) = unpack(&answer, &asks, self.epoch).expect("an answer");
        self.answered += 1;
        assert_eq!(number, Some(self.answered));
        let mut all = Vec::new();
        for ((id, holds), found) in wanted.iter().zip(found) {
            let found = found.holds.expect("it holds");
            assert!(judge(&self.plan(*id, holds), &found).is_some(), "{found:?}");
            all.push(found);
        }
        all
    }

    /// An end of what an id holds.
    pub(super) fn entry(&self, id: usize, holds: &Holds, kind: Kind, costs: &[i64]) -> Entry {
        let wanted = self.wanted(id, holds);
        let cost = |place: usize| costs.get(place).copied().unwrap_or(0);
        let of = |(place, _): &(usize, i64)| self.piece(*place);
        let parts = holds
            .iter()
            .map(of)
            .enumerate()
            .map(|(place, row)| (row, parts(cost(place))))
            .collect();
        Entry { id: wanted.id, check: wanted.check, kind, parts }
    }

    pub(super) fn adjustment(&self, id: usize, place: usize, by: i64) -> Entry {
        let holds = vec![(place, 0)];
        Entry { check: [0; 8], ..self.entry(id, &holds, Kind::Adjust, &[by]) }
    }

    /// Ends in one call: what the script answers.
    pub(super) async fn resolve(&mut self, entries: &[Entry]) -> Resolved {
        let organisation = self.organisation.clone();
        let caller = self.caller(&organisation);
        let resolved = resolve(&mut self.connection, caller, entries).await.unwrap();
        if let Resolved::All(number, _) = &resolved {
            self.answered += 1;
            assert_eq!(*number, self.answered);
        }
        resolved
    }

    /// What the store holds of each row.
    pub(super) fn rows(&self, store: &Store) -> Vec<Account> {
        let places = 0..self.budgets.len();
        places.map(|place| account_at(store, &self.organisation.row(&self.row(place)))).collect()
    }

    /// The ids that are open at the store, of this machine.
    pub(super) fn open(&self, store: &Store) -> Vec<u128> {
        let names: Vec<String> = store.ask(&["ZRANGE", &key_of("open:a"), "0", "-1"]);
        let ids = names.iter().map(|name| u128::from_str_radix(name, 16).unwrap());
        let mut ids: Vec<u128> = ids.filter(|id| id >> 32 == u128::from(self.case)).collect();
        ids.sort_unstable();
        ids
    }

    /// The milliseconds for which the store keeps a row and an id.
    pub(super) fn kept_for(&self, store: &Store, place: usize, id: usize) -> [i64; 2] {
        let keys = [self.organisation.row(&self.row(place)), self.organisation.hold(self.id(id))];
        keys.map(|key| store.ask(&["PTTL", &String::from_utf8(key).unwrap()]))
    }
}

/// An amount of a model.
pub(super) type Model = BTreeMap<usize, State>;

/// The thresholds that each part was the first to reach, in percent.
pub(super) type Percents = Vec<Vec<u8>>;

/// What is known of an id.
#[derive(Clone, Debug)]
pub(super) enum State {
    Reserved,
    /// With the thresholds that it was the first to reach.
    Settled(Percents),
    Voided,
    Estimated(Percents),
    Adjusted(Percents),
}

/// A row without so much of what was spent.
pub(super) fn unspent(account: Account, amount: Amount) -> Account {
    Account { posted: account.posted.minus(amount).unwrap(), ..account }
}
