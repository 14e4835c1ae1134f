//! Steps of quotas in the store: `ring.lua` decides as `rules::quota::Principal` does.

use redis::RedisError;
use rules::quota::{Grant, Join, NEVER, News, Probe, Report, Rule, Step};

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
        rule: &Rule,
        node: u64,
        news: &News,
    ) -> Result<(u64, Step), Lost> {
        let [high, low, ring] =
            [":high", ":low", ":ring"].map(|name| [key, name.as_bytes()].concat());
        let keys = [self.epoch_key.clone(), key.to_vec(), high, low, ring];
        let (epoch, rule, news) = (self.epoch.to_string(), packed_rule(rule), packed(node, news));
        let arguments: [&[u8]; 3] = [epoch.as_bytes(), &rule, &news];
        let answer = RING.call(&mut self.connection, &keys, &arguments).await;
        let answer = answer.map_err(Lost::Failed)?;
        if answer.is_empty() {
            return Err(Lost::Epoch);
        }
        unpacked(&answer).ok_or(Lost::Nonsense)
    }
}

fn packed_rule(rule: &Rule) -> Vec<u8> {
    let Rule { quota, window, burst, reserve, block, slot, span } = *rule;
    let numbers = [quota, window, burst, reserve, block, slot, span];
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The node and its news; each list by its length.
fn packed(node: u64, news: &News) -> Vec<u8> {
    let mut bytes = node.to_le_bytes().to_vec();
    let News { reports, drops, joins } = news;
    bytes.extend(short(reports.len()).to_le_bytes());
    for Report { number, probe, said } in reports {
        bytes.extend(number.to_le_bytes());
        bytes.push(match probe {
            Probe::None => 0,
            Probe::Answered => 1,
            Probe::Lost => 2,
        });
        let (left, lasts) = said.left.unzip();
        for number in [left, lasts, said.used, said.blocked] {
            bytes.extend(number.unwrap_or(NOTHING).to_le_bytes());
        }
    }
    bytes.extend(short(drops.len()).to_le_bytes());
    bytes.extend(drops.iter().flat_map(|seq| seq.to_le_bytes()));
    bytes.extend(short(joins.len()).to_le_bytes());
    for join in joins {
        let Join { seq, flow, weight: _, is_high, patience, queue_max } = join;
        for number in [*seq, join.cost()] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.push(u8::from(*is_high));
        for number in [*patience, *queue_max] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(short(flow.len()).to_le_bytes());
        bytes.extend(flow.as_bytes());
    }
    bytes
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
    for _ in 0..length(answer)? {
        step.refused.push((number(answer)?, number(answer)?));
    }
    for _ in 0..length(answer)? {
        let (seq, number) = (number(answer)?, number(answer)?);
        step.granted.push(Grant { seq, number, is_probe: byte(answer)? == 1 });
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
