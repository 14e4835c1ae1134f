//! The names of buckets in the store: all of an organisation in one slot.

use aws_lc_rs::digest::{SHA256, digest};
use model::{BudgetId, Timestamp, Unit};
use rules::budget::{Every, RowKey};
use rules::limit::Per;
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
    /// The key of the epoch. Every version reads it: the first 24 bytes of its value mean the same
    /// for ever.
    pub(crate) fn epoch(&self) -> Vec<u8> {
        format!("{{{}}}:epoch", self.0).into_bytes()
    }

    /// The key of the number that the cluster of the nodes gave it.
    pub(crate) fn number(&self) -> Vec<u8> {
        format!("{{{}}}:number", self.0).into_bytes()
    }

    /// The key of the layout in which all other keys are written, a number: see [`LAYOUT`].
    pub(crate) fn layout(&self) -> Vec<u8> {
        format!("{{{}}}:layout", self.0).into_bytes()
    }

    /// A key of this layout. The names of layout 1 begin with nothing further; those of a later one
    /// are to begin with its number, so that no version finds what another has written.
    fn key(&self, name: &str) -> Vec<u8> {
        format!("{{{}}}:{name}", self.0).into_bytes()
    }

    /// The keys of what is known of a request that may be repeated, and of its answer.
    pub(crate) fn repeat(&self, id: &[u8; 32]) -> [Vec<u8>; 2] {
        let id = hex::encode(id);
        ["repeat", "answer"].map(|kind| self.key(&format!("{kind}:{id}")))
    }

    /// The key of what is known of a credential at its upstream.
    pub(crate) fn quota(&self, subject: &str) -> Vec<u8> {
        self.key(&format!("quota:{subject}"))
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
        self.short(&row_name(key))
    }

    /// The key of the list of the rows that count the same for a budget as this one does.
    pub(crate) fn rows(&self, key: &RowKey) -> Vec<u8> {
        self.key(&format!("rows:{}", counts(key)))
    }

    /// The key of what happened to a budget's rows besides calls.
    pub(crate) fn events(&self, budget: &BudgetId) -> Vec<u8> {
        self.key(&format!("events:{}", budget.as_str()))
    }

    /// The key of what is known of a hold.
    pub(crate) fn hold(&self, id: u128) -> Vec<u8> {
        self.key(&format!("hold:{id:032x}"))
    }

    /// The key of the epoch in which money is open.
    pub(crate) fn money(&self) -> Vec<u8> {
        self.key("money")
    }

    /// The key of the nodes that hold money.
    pub(crate) fn nodes(&self) -> Vec<u8> {
        self.key("nodes")
    }

    /// The key of the number of a node's last call.
    pub(crate) fn seen(&self, node: &str) -> Vec<u8> {
        self.key(&format!("seen:{node}"))
    }

    /// The key of a node's open holds by deadline.
    pub(crate) fn open(&self, node: &str) -> Vec<u8> {
        self.key(&format!("open:{node}"))
    }

    fn short(&self, name: &str) -> Vec<u8> {
        if name.len() <= NAME_BYTES_MAX {
            return self.key(name);
        }
        let digest = digest(&SHA256, name.as_bytes());
        self.key(&format!("sha256:{}", hex::encode(digest.as_ref())))
    }
}

/// What a row's key says; where that is long the key is a digest of it.
pub(crate) fn row_name(key: &RowKey) -> String {
    format!("row:{}:{}:{}", counts(key), key.period.as_micros(), counted(&key.subject))
}

/// Which row a name stands for. `None` when it is the name of none.
pub(crate) fn row_of(name: &str) -> Option<RowKey> {
    let (length, rest) = name.strip_prefix("row:")?.split_once(':')?;
    let (budget, rest) = rest.split_at_checked(length.parse().ok()?)?;
    let mut parts = rest.strip_prefix(':')?.splitn(5, ':');
    let mut part = || parts.next();
    Some(RowKey {
        budget: BudgetId::new(budget),
        unit: Unit::parse(part()?).ok()?,
        per: Per::from_name(part()?)?,
        every: Every::from_name(part()?)?,
        period: Timestamp::from_micros(part()?.parse().ok()?),
        subject: subject_of(part()?)?,
    })
}

/// What a key says. `None` of one that is a digest.
pub(crate) fn name_of(key: &[u8]) -> Option<&str> {
    let (_, name) = std::str::from_utf8(key).ok()?.split_once("}:")?;
    name.starts_with("row:").then_some(name)
}

/// A budget and what it counts.
fn counts(key: &RowKey) -> String {
    let budget = key.budget.as_str();
    let (unit, per, every) = (&key.unit, key.per.as_str(), key.every.as_str());
    format!("{}:{budget}:{unit}:{per}:{every}", budget.len())
}

fn subject_of(text: &str) -> Option<Subject> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "address" => Some(Subject::Address(rest.parse().ok()?)),
        "text" => Some(Subject::Text(rest.into())),
        "run" => {
            let (length, rest) = rest.split_once(':')?;
            let (agent, run) = rest.split_at_checked(length.parse().ok()?)?;
            Some(Subject::Run(agent.into(), run.strip_prefix(':')?.into()))
        }
        _ => None,
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

/// How the values of all keys but two are laid out. It grows by one
/// whenever a script or a packer writes what the version before could not read, or reads otherwise:
/// then nodes of both versions on one store would misread each other. The store holds the layout in
/// force (`attach.lua`): a node of a greater one takes over, as after a loss of the store; one of a
/// smaller one is refused.
pub(crate) const LAYOUT: u32 = 1;

/// Longer names, which clients may choose, are told by their digest: a key has a bound.
const NAME_BYTES_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use model::LimitId;

    use super::{BucketKey, Organisation, Scope, Subject, name_of, row_name, row_of};
    use crate::money::sample::{budget, hold};

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
    fn the_name_of_a_row_says_which_it_is() {
        let organisation = Organisation::default();
        for name in ["plain", "with:colon", "3:a:b"] {
            let row = hold(&Arc::new(budget(name, 1)), 0).row;
            let text = |text: &str| Subject::Text(Arc::from(text));
            let run = Subject::Run(Arc::from("a:1"), Arc::from("x:2:y"));
            for subject in [text("bot"), text("a:b:"), text(&"x".repeat(400)), run] {
                let row = super::RowKey { subject, ..row.clone() };
                let said = row_name(&row);
                assert_eq!(row_of(&said).as_ref(), Some(&row), "{said}");
                let key = organisation.row(&row);
                assert_eq!(name_of(&key), (said.len() <= 160).then_some(&*said));
            }
        }
        for wrong in ["", "row:", "row:9:b:USD", "row:1:b:requests:agent:day:x:text:a", "hold:1"] {
            assert_eq!(row_of(wrong), None, "{wrong}");
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
