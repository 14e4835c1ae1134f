//! Many plans in one call of the script, and what it answers.

use std::collections::HashMap;
use std::sync::Arc;

use model::Tokens;
use rules::plan::{DrawRule, Plan};
use tokio::sync::oneshot;

use super::coarse::Coarse;
use super::key::Organisation;
use super::money::{self, FoundHolds, Packer, Wanted};

/// What one request wants of the store.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) wants: Arc<[Want]>,
    /// What it holds in the same step; most requests hold nothing.
    pub(crate) money: Option<Arc<Wanted>>,
    /// Where the answer goes. Nobody may wait there any more.
    pub(crate) answer: oneshot::Sender<Found>,
}

/// A draw as the script takes it.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) key: Vec<u8>,
    pub(crate) coarse: Coarse,
    pub(crate) cost: Tokens,
    pub(crate) is_shadow: bool,
}

/// What the script found for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The store's time, in microseconds since 1970.
    pub(crate) at: u64,
    pub(crate) granted: bool,
    /// For each draw, in units: what was used of its bucket before it.
    pub(crate) used: Vec<u64>,
    /// What became of its holds, where it has any.
    pub(crate) holds: Option<FoundHolds>,
}

impl Ask {
    /// What it weighs in a call: keys, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.wants.len() + self.money.as_ref().map_or(0, |money| 2 * money.holds.len() + 1)
    }
}

/// What a plan wants of the store: all draws but those that are leased.
pub(crate) fn wants(
    organisation: &Organisation,
    plan: &Plan,
    is_leased: impl Fn(usize) -> bool,
) -> Arc<[Want]> {
    let want = |draw: &rules::plan::Draw| {
        debug_assert!(!matches!(draw.rule, DrawRule::Failures), "failures count on their node");
        Want {
            key: organisation.bucket(&draw.key),
            coarse: Coarse::new(draw.bucket),
            cost: draw.cost,
            is_shadow: draw.rule.is_shadow(),
        }
    };
    let exact = plan.draws.iter().enumerate().filter(|(at, _)| !is_leased(*at));
    exact.map(|(_, draw)| want(draw)).collect()
}

/// The arguments of one call.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// Each bucket once.
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) rules: Vec<u8>,
    pub(crate) plans: Vec<u8>,
    /// What the plans hold; `None` where none of them holds anything.
    pub(crate) money: Option<Packer>,
}

impl Arguments {
    /// Packs the asks. The caller keeps their draws below [`DRAWS_MAX`].
    pub(crate) fn pack(organisation: &Organisation, asks: &[Ask]) -> Self {
        let (mut packed, mut keys, mut rules) =
            (Self::default(), HashMap::<&[u8], u16>::new(), HashMap::<Coarse, u16>::new());
        packed.money = asks.iter().any(|ask| ask.money.is_some()).then(Packer::default);
        for ask in asks {
            if let Some(money) = &mut packed.money {
                money.plan(organisation, ask.money.as_deref(), &mut packed.plans);
            }
            packed.plans.extend(short(ask.wants.len()).to_le_bytes());
            for want in ask.wants.iter() {
                let next = short(keys.len() + 1);
                let bucket = *keys.entry(&want.key).or_insert_with(|| {
                    packed.keys.push(want.key.clone());
                    next
                });
                let next = short(rules.len() + 1);
                let rule = *rules.entry(want.coarse).or_insert_with(|| {
                    let parts = want.coarse.parts();
                    packed.rules.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
                    next
                });
                packed.plans.extend(bucket.to_le_bytes());
                packed.plans.extend(rule.to_le_bytes());
                packed.plans.extend(want.coarse.price(want.cost).to_le_bytes());
                packed.plans.push(u8::from(want.is_shadow));
            }
        }
        packed
    }
}

/// A number of draws, which the bounds keep below 2^16.
pub(crate) fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Reads what the script answered to these asks in an epoch, a finding for each, and this call's
/// number where they hold anything. `None` when it is not an answer to them.
pub(crate) fn unpack(
    mut answer: &[u8],
    asks: &[Ask],
    epoch: u64,
) -> Option<(Vec<Found>, Option<u64>)> {
    let at = number(&mut answer)?;
    let has_money = asks.iter().any(|ask| ask.money.is_some());
    let call = if has_money { Some(number(&mut answer)?) } else { None };
    let mut found = Vec::with_capacity(asks.len());
    for ask in asks {
        let (granted, rest) = answer.split_first()?;
        answer = rest;
        let holds = match &ask.money {
            Some(wanted) => Some(money::found(&mut answer, wanted, epoch)?),
            None => None,
        };
        let used: Option<Vec<u64>> = ask.wants.iter().map(|_| number(&mut answer)).collect();
        found.push(Found { at, granted: *granted == 1, used: used?, holds });
    }
    answer.is_empty().then_some((found, call))
}

pub(crate) fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

/// Draws in one call: more would hold the store up for milliseconds, and Lua cannot unpack more
/// than some thousands of keys. What does not fit goes with the next call.
pub(crate) const DRAWS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::{Arc, Arguments, Ask, Coarse, Found, Organisation, Tokens, Want, oneshot, unpack};

    fn ask(keys: &[&str]) -> Ask {
        let bucket = model::Bucket::from_parts(1, 10, 100).unwrap();
        let want = |key: &&str| Want {
            key: key.as_bytes().to_vec(),
            coarse: Coarse::new(bucket),
            cost: Tokens(2),
            is_shadow: false,
        };
        let (answer, _) = oneshot::channel();
        let wants: Arc<[Want]> = keys.iter().map(want).collect();
        Ask { wants, money: None, answer }
    }

    #[test]
    fn plans_that_share_buckets_and_rules_name_them_once() {
        let packed = Arguments::pack(&Organisation::default(), &[ask(&["a", "b"]), ask(&["b"])]);
        assert_eq!(packed.keys, [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(packed.rules.len(), 32);
        let draw = |bucket: u8| [bucket, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        let expected = [vec![2, 0], draw(1), draw(2), vec![1, 0], draw(2)].concat();
        assert_eq!(packed.plans, expected);
    }

    #[test]
    fn an_answer_that_does_not_fit_its_asks_is_none() {
        let asks = [ask(&["a"])];
        let whole = [[7, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[1], &[9, 0, 0, 0, 0, 0, 0, 0]].concat();
        let found = Found { at: 7, granted: true, used: vec![9], holds: None };
        assert_eq!(unpack(&whole, &asks, 1), Some((vec![found], None)));
        assert_eq!(unpack(&whole[..16], &asks, 1), None);
        assert_eq!(unpack(&[whole.as_slice(), &[0]].concat(), &asks, 1), None);
        assert_eq!(unpack(b"", &asks, 1), None);
    }
}
