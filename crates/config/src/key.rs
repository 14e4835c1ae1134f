//! The names of resources: a kind and an id.

use serde::{Deserialize, Serialize};

/// Makes the closed set of kinds: variant, plural, singular, how rejections call it, our alias.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident => $plural:literal, $singular:literal, $words:literal, $alias:expr;)+) => {
        /// The kinds of resources this release serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($(#[$doc])* $variant,)+ }

        impl Kind {
            /// Every kind, in the order in which they may be written one after another.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name of the collection, as in `/apisix/admin/routes`.
            #[must_use]
            pub const fn plural(self) -> &'static str {
                match self { $(Self::$variant => $plural,)+ }
            }

            /// The name of one of them, as a member of a document.
            #[must_use]
            pub const fn singular(self) -> &'static str {
                match self { $(Self::$variant => $singular,)+ }
            }

            /// The name of one of them in a sentence.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }

            /// The name in our own words, where it is another than APISIX's.
            #[must_use]
            pub const fn alias(self) -> Option<&'static str> {
                match self { $(Self::$variant => $alias,)+ }
            }
        }
    };
}

kinds! {
    /// Settings of a secret manager.
    Secret => "secrets", "secret", "secret", None;
    /// Where requests go.
    Upstream => "upstreams", "upstream", "upstream", None;
    /// Which requests are taken, and what is done with them.
    Route => "routes", "route", "route", None;
    /// A team of agents.
    ConsumerGroup => "consumer_groups", "consumer_group", "consumer group", Some("teams");
    /// An agent.
    Consumer => "consumers", "consumer", "consumer", Some("agents");
    /// One way for an agent to prove who it is.
    Credential => "credentials", "credential", "credential", None;
    /// A rate that holds over the whole fleet.
    Limit => "limits", "limit", "limit", None;
    /// What calls cost.
    Price => "prices", "price", "price", None;
    /// An amount over a calendar period.
    Budget => "budgets", "budget", "budget", None;
    /// What becomes of answers on their way back.
    Response => "responses", "response", "response", None;
    /// What an upstream lets everybody on one credential do.
    UpstreamQuota => "upstream_quotas", "upstream_quota", "upstream quota", None;
    /// The name of a zone.
    Zone => "zones", "zone", "zone", None;
    /// What agents may do.
    Policy => "policies", "policy", "policy", None;
}

impl Kind {
    /// The kind of a collection's name: APISIX's or ours.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.plural() == name || kind.alias() == Some(name))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.plural())
    }
}

/// The name of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    /// `alice/one` for a credential of a consumer, `vault/one` for a secret manager, otherwise
    /// the id as written.
    pub id: String,
}

impl Key {
    /// What no key stands before.
    pub(crate) const FIRST: Self = Self { kind: Kind::Secret, id: String::new() };

    /// The name of a resource.
    #[must_use]
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The name that a POST gets when its command makes this revision: 20 digits.
    #[must_use]
    pub fn created(kind: Kind, revision: model::Revision) -> Self {
        Self::new(kind, format!("{:020}", revision.number()))
    }

    /// APISIX's `key`: `/apisix/routes/1`, `/apisix/consumers/alice/credentials/one`.
    #[must_use]
    pub fn path(&self) -> String {
        match (self.kind, self.id.split_once('/')) {
            (Kind::Credential, Some((consumer, id))) => {
                format!("/apisix/consumers/{consumer}/credentials/{id}")
            }
            _ => format!("/apisix/{}/{}", self.kind.plural(), self.id),
        }
    }

    /// The id as the resource itself holds it: a credential's without its consumer.
    #[must_use]
    pub fn own_id(&self) -> &str {
        match (self.kind, self.id.split_once('/')) {
            (Kind::Credential, Some((_, id))) => id,
            _ => &self.id,
        }
    }

    /// The consumer a credential belongs to.
    #[must_use]
    pub fn consumer(&self) -> Option<Self> {
        if self.kind != Kind::Credential {
            return None;
        }
        let (consumer, _) = self.id.split_once('/')?;
        Some(Self::new(Kind::Consumer, consumer))
    }

    /// The member of the document that holds the id, if any does.
    pub(crate) const fn id_member(&self) -> &'static str {
        match self.kind {
            Kind::Consumer => "username",
            Kind::Secret
            | Kind::Upstream
            | Kind::Route
            | Kind::ConsumerGroup
            | Kind::Credential
            | Kind::Limit
            | Kind::UpstreamQuota
            | Kind::Response
            | Kind::Zone
            | Kind::Policy
            | Kind::Price
            | Kind::Budget => "id",
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.plural(), self.id)
    }
}

/// Whether a text is one segment of an id.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(is_id_letter) && !matches!(text, "." | "..")
}

/// Whether an id may hold this letter.
pub(crate) const fn is_id_letter(letter: char) -> bool {
    is_name_letter(letter) || letter == '.'
}

/// Whether a text is the name of a consumer (an agent), which is its id.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.chars().all(is_name_letter)
}

/// Whether the name of a consumer may hold this letter.
pub(crate) const fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::{Key, Kind};

    fn check(kind: Kind, id: &str, path: &str) {
        assert_eq!(Key::new(kind, id).path(), path);
    }

    #[test]
    fn a_key_has_the_path_apisix_gives_it() {
        check(Kind::Route, "1", "/apisix/routes/1");
        check(Kind::Credential, "alice/one", "/apisix/consumers/alice/credentials/one");
        check(Kind::Secret, "vault/one", "/apisix/secrets/vault/one");
    }

    #[test]
    fn a_kind_answers_to_apisix_s_name_and_to_ours() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.plural()), Some(*kind));
        }
        assert_eq!(Kind::from_name("agents"), Some(Kind::Consumer));
        assert_eq!(Kind::from_name("teams"), Some(Kind::ConsumerGroup));
        assert_eq!(Kind::from_name("services"), None);
    }
}
