//! Steps of quotas in the store: `ring.lua` decides as `rules::quota::Principal` does.

use redis::RedisError;
use rules::quota::{
    Blocked, Edition, Flow, Grant, Join, Leave, NEVER, News, Probe, Report, Rule, Step,
};

use super::road::Road;
use super::script::Script;

/// Why a step was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("a step of a quota failed")]
    Failed(#[source] RedisError),
    #[error("the store holds another epoch")]
    Epoch,
    #[error("the store answered nonsense")]
    Nonsense,
}

impl Road {
    /// Takes a step. The store's time comes with the answer, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the store failed, or knows another epoch; then nothing was counted.
    pub(crate) async fn step(
        mut self,
        key: &[u8],
        edition: &Edition,
        node: u64,
        news: &News,
    ) -> Result<(u64, Step), Lost> {
        let parts = [":bulk", ":automation", ":interactive", ":ring", ":calls"];
        let parts = parts.map(|name| [key, name.as_bytes()].concat());
        let keys: Vec<&[u8]> =
            [&*self.epoch_key, key].into_iter().chain(parts.iter().map(Vec::as_slice)).collect();
        let epoch = self.epoch.to_string();
        let (edition, news) = (packed_edition(edition), packed(node, news));
        let arguments: [&[u8]; 3] = [epoch.as_bytes(), &edition, &news];
        let answer = RING.call(&mut self.connection, &keys, &arguments).await;
        let answer = answer.map_err(Lost::Failed)?;
        if answer.is_empty() {
            return Err(Lost::Epoch);
        }
        unpacked(&answer).ok_or(Lost::Nonsense)
    }
}

fn packed_edition(edition: &Edition) -> Vec<u8> {
    let numbers = [edition.revision].into_iter().chain(edition.rule.numbers());
    numbers.flat_map(u64::to_le_bytes).collect()
}

/// The node and its news; each list by its length.
fn packed(node: u64, news: &News) -> Vec<u8> {
    let mut bytes = Vec::new();
    let News { number, heard, reports, leaves, joins } = news;
    put(&mut bytes, &[node, *number, *heard]);
    bytes.extend(short(reports.len()).to_le_bytes());
    for Report { number, probe, said } in reports {
        put(&mut bytes, &[*number]);
        bytes.push(match probe {
            Probe::None => 0,
            Probe::Answered => 1,
            Probe::Lost => 2,
        });
        let (left, lasts) = said.left.unzip();
        put(&mut bytes, &[left, lasts, said.used].map(|number| number.unwrap_or(NOTHING)));
        let (kind, wait) = match said.blocked {
            None => (0, 0),
            Some(Blocked::Unsaid) => (1, 0),
            Some(Blocked::For(wait)) => (2, wait),
        };
        bytes.push(kind);
        put(&mut bytes, &[wait]);
    }
    bytes.extend(short(leaves.len()).to_le_bytes());
    for Leave { seq, flow, asks } in leaves {
        put(&mut bytes, &[*seq]);
        bytes.push(u8::from(*asks));
        put_flow(&mut bytes, flow);
    }
    bytes.extend(short(joins.len()).to_le_bytes());
    for join in joins {
        let Join { seq, flow, weight: _, patience, room } = join;
        put(&mut bytes, &[*seq, join.cost(), *patience, room.agent, room.class]);
        put_flow(&mut bytes, flow);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, numbers: &[u64]) {
    // Lua keeps no larger number exactly.
    bytes.extend(numbers.iter().flat_map(|number| (*number).min(NOTHING).to_le_bytes()));
}

/// The class, by which flows are told apart before their agents are.
fn put_flow(bytes: &mut Vec<u8>, flow: &Flow) {
    bytes.push(flow.class as u8);
    bytes.extend(short(flow.agent.len()).to_le_bytes());
    bytes.extend(flow.agent.as_bytes());
}

/// A length, which the bounds of news and names keep below 2^16.
fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn unpacked(mut answer: &[u8]) -> Option<(u64, Step)> {
    let answer = &mut answer;
    let now = number(answer)?;
    let forgotten = byte(answer)? == 1;
    let next = number(answer).map(|next| if next >= NOTHING { NEVER } else { next })?;
    let (blocked, used) = (number(answer)?, number(answer)?);
    let (headroom, waiting) = (number(answer)?, number(answer)?);
    let mut step = Step { forgotten, next, blocked, used, headroom, waiting, ..Step::default() };
    if byte(answer)? == 1 {
        let mut numbers = [0; 7];
        for place in &mut numbers {
            *place = number(answer)?;
        }
        step.in_force = Some(Rule::from_numbers(numbers)?);
    }
    for _ in 0..length(answer)? {
        step.refused.push((number(answer)?, number(answer)?));
    }
    for _ in 0..length(answer)? {
        let (seq, number) = (number(answer)?, number(answer)?);
        let (is_probe, age) = (byte(answer)? == 1, self::number(answer)?);
        step.granted.push(Grant { seq, number, is_probe, age });
    }
    answer.is_empty().then_some((now, step))
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn length(bytes: &mut &[u8]) -> Option<u16> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_le_bytes(*number))
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}

static RING: Script = Script::new(concat!(include_str!("epoch.lua"), include_str!("ring.lua")));

/// Stands for a number that is not given: the largest that Lua keeps exactly.
const NOTHING: u64 = (1 << 53) - 1;
