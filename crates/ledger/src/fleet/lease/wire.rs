//! Renewals of leases in one call of the script, and what it answers.

use std::collections::HashMap;

use crate::fleet::coarse::Coarse;

/// What a node says of one lease, and what it wants. Counts are whole tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Grows with each ask of a node. One that is sent again is answered again.
    pub(crate) seq: u64,
    /// What the node holds once it has given `back` back.
    pub(crate) keep: u32,
    pub(crate) back: u32,
    pub(crate) want: u32,
    /// Tokens a second.
    pub(crate) demand: u32,
    /// Of the lease from now on, in microseconds.
    pub(crate) length: u32,
}

/// How an ask went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Done; also when it had been done before.
    Granted,
    /// A later one of the same node came before it.
    Stale,
}

/// What the store answers to an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) how: How,
    /// Whether all that the node held before is void.
    pub(crate) fresh: bool,
    pub(crate) granted: u32,
    /// Units of the bucket used after it.
    pub(crate) used: u64,
    /// Nodes that lease of the bucket, and what they want together, in tokens a second.
    pub(crate) nodes: u16,
    pub(crate) demand: u64,
}

/// An ask on its way.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) name: Vec<u8>,
    pub(crate) coarse: Coarse,
    pub(crate) ask: Ask,
    /// Whether it belongs to the one before: all of them get something or none does.
    pub(crate) joined: bool,
}

/// The arguments of one call.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) rules: Vec<u8>,
    pub(crate) renewals: Vec<u8>,
}

impl Arguments {
    /// Packs the renewals. The caller keeps their number below [`RENEWALS_MAX`].
    pub(crate) fn pack(asked: &[Renewal]) -> Self {
        let (mut packed, mut keys, mut rules) =
            (Self::default(), HashMap::<&[u8], u16>::new(), HashMap::<Coarse, u16>::new());
        for Renewal { name, coarse, ask, joined } in asked {
            let next = short(keys.len() + 1);
            let bucket = *keys.entry(name).or_insert_with(|| {
                packed.keys.push(name.clone());
                next
            });
            let next = short(rules.len() + 1);
            let rule = *rules.entry(*coarse).or_insert_with(|| {
                packed.rules.extend(coarse.parts().iter().flat_map(|part| part.to_le_bytes()));
                next
            });
            let Ask { seq, keep, back, want, demand, length } = *ask;
            packed.renewals.extend(bucket.to_le_bytes());
            packed.renewals.extend(rule.to_le_bytes());
            packed.renewals.extend(seq.to_le_bytes());
            for part in [keep, back, want, demand, length] {
                packed.renewals.extend(part.to_le_bytes());
            }
            packed.renewals.push(u8::from(*joined));
        }
        packed
    }
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Reads the store's time in microseconds, and a reply for each renewal. `None` when it is not an
/// answer to so many.
pub(crate) fn unpack(mut answer: &[u8], count: usize) -> Option<(u64, Vec<Reply>)> {
    let at = u64::from_le_bytes(*take(&mut answer)?);
    let replies: Option<Vec<Reply>> = (0..count).map(|_| reply(&mut answer)).collect();
    answer.is_empty().then_some((at, replies?))
}

fn reply(answer: &mut &[u8]) -> Option<Reply> {
    let [how, fresh] = *take(answer)?;
    Some(Reply {
        how: if how == 2 { How::Stale } else { How::Granted },
        fresh: fresh == 1,
        granted: u32::from_le_bytes(*take(answer)?),
        used: u64::from_le_bytes(*take(answer)?),
        nodes: u16::from_le_bytes(*take(answer)?),
        demand: u64::from_le_bytes(*take(answer)?),
    })
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

/// Renewals in one call, for the store's sake. What does not fit goes with the next call.
pub(crate) const RENEWALS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::{How, Reply, unpack};

    #[test]
    fn an_answer_that_does_not_fit_is_none() {
        let reply = [&[0, 1][..], &[5, 0, 0, 0], &[9; 8], &[2, 0], &[3, 0, 0, 0, 0, 0, 0, 0]];
        let whole = [&[7, 0, 0, 0, 0, 0, 0, 0][..], &reply.concat()].concat();
        let used = u64::from_le_bytes([9; 8]);
        let expected =
            Reply { how: How::Granted, fresh: true, granted: 5, used, nodes: 2, demand: 3 };
        assert_eq!(unpack(&whole, 1), Some((7, vec![expected])));
        assert_eq!(unpack(&whole, 2), None);
        assert_eq!(unpack(&whole[..20], 1), None);
        assert_eq!(unpack(b"", 1), None);
    }
}
