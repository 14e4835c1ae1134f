//! The names of buckets in the store: all of an organisation in one slot.

use aws_lc_rs::digest::{SHA256, digest};
use rules::budget::RowKey;
use rules::plan::{BucketKey, Scope, Subject};

/// What all names of an organisation's keys begin with. The braces are the hash tag by which a
/// Redis Cluster keeps them in one slot (Redis Cluster specification, "Hash tags").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation(String);

/// Why a text names no organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct OrganisationError;

impl std::str::FromStr for Organisation {
    type Err = OrganisationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let sound = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        sound.then(|| Self(text.to_owned())).ok_or(OrganisationError)
    }
}

impl Default for Organisation {
    fn default() -> Self {
        Self(String::from("default"))
    }
}

impl Organisation {
    /// The key of the epoch.
    pub(crate) fn epoch(&self) -> Vec<u8> {
        format!("{{{}}}:epoch", self.0).into_bytes()
    }

    /// The keys of what is known of a request that may be repeated, and of its answer.
    pub(crate) fn repeat(&self, id: &[u8; 32]) -> [Vec<u8>; 2] {
        let id = hex::encode(id);
        ["repeat", "answer"].map(|kind| format!("{{{}}}:{kind}:{id}", self.0).into_bytes())
    }

    /// The key of what is known of a credential at its upstream.
    pub(crate) fn quota(&self, subject: &str) -> Vec<u8> {
        format!("{{{}}}:quota:{subject}", self.0).into_bytes()
    }

    /// The key of a bucket. Two buckets never share one: what could hold anything stands last or
    /// behind its length, and a name that is long is told by its SHA-256.
    pub(crate) fn bucket(&self, key: &BucketKey) -> Vec<u8> {
        let scope = match &key.scope {
            Scope::Limit(id) => ("limit", id.as_str()),
            Scope::LimitReq(place) => ("limit-req", &**place),
            Scope::Failures => ("failures", ""),
        };
        let subject = counted(&key.subject);
        self.short(&format!("{}:{}:{}:{subject}", scope.0, scope.1.len(), scope.1))
    }

    /// The key of a row of money: a budget, its period, and whom it counts.
    pub(crate) fn row(&self, key: &RowKey) -> Vec<u8> {
        let (budget, period) = (key.budget.as_str(), key.period.as_micros());
        let subject = counted(&key.subject);
        let counts = format!("{}:{}:{}", key.unit, key.per.as_str(), key.every.as_str());
        self.short(&format!("row:{}:{budget}:{counts}:{period}:{subject}", budget.len()))
    }

    /// The key of what is known of a hold.
    pub(crate) fn hold(&self, id: u128) -> Vec<u8> {
        format!("{{{}}}:hold:{id:032x}", self.0).into_bytes()
    }

    /// The key of the epoch in which money is open.
    pub(crate) fn money(&self) -> Vec<u8> {
        format!("{{{}}}:money", self.0).into_bytes()
    }

    /// The key of the nodes that hold money.
    pub(crate) fn nodes(&self) -> Vec<u8> {
        format!("{{{}}}:nodes", self.0).into_bytes()
    }

    /// The key of the number of a node's last call.
    pub(crate) fn seen(&self, node: &str) -> Vec<u8> {
        format!("{{{}}}:seen:{node}", self.0).into_bytes()
    }

    /// The key of a node's open holds by deadline.
    pub(crate) fn open(&self, node: &str) -> Vec<u8> {
        format!("{{{}}}:open:{node}", self.0).into_bytes()
    }

    fn short(&self, name: &str) -> Vec<u8> {
        if name.len() <= NAME_BYTES_MAX {
            return format!("{{{}}}:{name}", self.0).into_bytes();
        }
        let digest = digest(&SHA256, name.as_bytes());
        format!("{{{}}}:sha256:{}", self.0, hex::encode(digest.as_ref())).into_bytes()
    }
}

/// Whom a bucket or a row counts.
fn counted(subject: &Subject) -> String {
    match subject {
        Subject::Address(address) => format!("address:{address}"),
        Subject::Text(text) => format!("text:{text}"),
        Subject::Run(agent, run) => format!("run:{}:{agent}:{run}", agent.len()),
    }
}

/// Longer names, which clients may choose, are told by their digest: a key has a bound.
const NAME_BYTES_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use model::LimitId;

    use super::{BucketKey, Organisation, Scope, Subject};

    #[test]
    fn two_buckets_never_share_a_key() {
        let run = |agent: &str, run: &str| Subject::Run(Arc::from(agent), Arc::from(run));
        let text = |text: &str| Subject::Text(Arc::from(text));
        let long = |last: char| text(&format!("{}{last}", "x".repeat(70_000)));
        let subjects = [
            text("a"),
            text("192.0.2.1"),
            Subject::Address("192.0.2.1".parse().unwrap()),
            run("a:1", "b"),
            run("a", "1:b"),
            text("a:1:b"),
            long('a'),
            long('b'),
        ];
        let scopes = [
            Scope::Limit(LimitId::new("l")),
            Scope::Limit(LimitId::new("l:4:text")),
            Scope::LimitReq(Arc::from("l")),
        ];
        let organisation = Organisation::default();
        let mut seen = HashSet::from([organisation.epoch()]);
        for scope in &scopes {
            for subject in &subjects {
                let key = BucketKey { scope: scope.clone(), subject: subject.clone() };
                let name = organisation.bucket(&key);
                assert!(name.starts_with(b"{default}:") && name.len() < 256);
                assert!(seen.insert(name), "{key:?}");
            }
        }
    }

    #[test]
    fn a_name_that_would_break_the_tag_is_no_organisation() {
        for text in ["", "a}b", "{", "a b", "ä"] {
            assert!(text.parse::<Organisation>().is_err(), "{text}");
        }
        assert!("acme-1.example_x".parse::<Organisation>().is_ok());
    }
}
