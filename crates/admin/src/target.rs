//! What a path of the operators' door names.

use config::{Key, Kind};
use http::Method;
use rules::suspension::{Whom, WhomError};

use crate::budget::About;
use crate::cluster::Deed;
use crate::envelope::Failure;
use crate::ledger::Errand;

/// What is asked for, below `/apisix/admin` or `/admin`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// The door itself.
    Root,
    /// All resources of a kind.
    Collection(Kind),
    /// The credentials of a consumer, or the secrets of a manager.
    Under {
        kind: Kind,
        parent: String,
    },
    One(Key),
    /// A value inside a resource.
    Inside(Key, Vec<String>),
    /// The resources written as one document, and what is around that.
    Apply,
    Diff,
    Export,
    Status,
    /// Judges one resource of a kind, named as in a collection.
    Validate(Kind),
    /// Judges a whole configuration.
    ValidateAll,
    PluginNames,
    /// What the ledger says of a budget, by its id.
    Budget(String, About),
    /// The fleet's money.
    Ledger(Errand),
    /// A change of the cluster's members.
    Cluster(Deed),
    /// Everybody who is suspended.
    Suspensions,
    Suspension(Whom),
}

impl Target {
    /// Reads the part of a path after the prefix.
    pub(crate) fn parse(rest: &str) -> Result<Self, Failure> {
        let segments: Option<Vec<String>> =
            rest.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
        let segments = segments.ok_or_else(|| Failure::bad("the path cannot be read"))?;
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        match *names.as_slice() {
            [] => Ok(Self::Root),
            ["apply"] => Ok(Self::Apply),
            ["diff"] => Ok(Self::Diff),
            ["export"] => Ok(Self::Export),
            ["status"] => Ok(Self::Status),
            ["configs", "validate"] => Ok(Self::ValidateAll),
            ["plugins", "list"] => Ok(Self::PluginNames),
            ["ledger"] => Ok(Self::Ledger(Errand::Status)),
            ["ledger", "journal"] => Ok(Self::Ledger(Errand::Journal)),
            ["ledger", "recover"] => Ok(Self::Ledger(Errand::Recover)),
            ["ledger", "reconcile"] => Ok(Self::Ledger(Errand::Reconcile)),
            ["cluster", "tokens"] => Ok(Self::Cluster(Deed::Token)),
            ["cluster", "vote"] => Ok(Self::Cluster(Deed::Vote)),
            ["cluster", "leave"] => Ok(Self::Cluster(Deed::Leave)),
            ["suspensions"] => Ok(Self::Suspensions),
            ["suspensions", ref whom @ ..] => {
                let whom = whom.join("/").parse();
                let bad = |why: WhomError| {
                    Failure::bad(format!("invalid name of whom is suspended: {why}"))
                };
                whom.map(Self::Suspension).map_err(bad)
            }
            ["schema", "validate", kind] => {
                Kind::from_name(kind).map(Self::Validate).ok_or_else(|| unsupported(kind))
            }
            ["schema", ..] => Err(Failure::NotFound(NO_SCHEMAS.to_owned())),
            [kind, ref rest @ ..] => Self::resource(kind, rest),
        }
    }

    fn resource(name: &str, rest: &[&str]) -> Result<Self, Failure> {
        let kind = Kind::from_name(name).ok_or_else(|| unsupported(name))?;
        match (kind, rest) {
            (Kind::Credential, _) => Err(unsupported(name)),
            (Kind::Consumer, [consumer, "credentials"]) => {
                Ok(Self::Under { kind: Kind::Credential, parent: (*consumer).to_owned() })
            }
            (Kind::Consumer, [consumer, "credentials", id, inside @ ..]) => {
                Ok(Self::one(Kind::Credential, format!("{consumer}/{id}"), inside))
            }
            (Kind::Budget, [id, "accounts"]) => Ok(Self::Budget((*id).to_owned(), About::Accounts)),
            (Kind::Budget, [id, "history"]) => Ok(Self::Budget((*id).to_owned(), About::History)),
            (Kind::Budget, [id, "adjust"]) => Ok(Self::Budget((*id).to_owned(), About::Adjust)),
            (Kind::Secret, [manager]) => Ok(Self::Under { kind, parent: (*manager).to_owned() }),
            (Kind::Secret, [manager, id, inside @ ..]) => {
                Ok(Self::one(kind, format!("{manager}/{id}"), inside))
            }
            (_, []) => Ok(Self::Collection(kind)),
            (_, [id, inside @ ..]) => Ok(Self::one(kind, (*id).to_owned(), inside)),
        }
    }

    fn one(kind: Kind, id: String, inside: &[&str]) -> Self {
        let key = Key::new(kind, id);
        if inside.is_empty() {
            return Self::One(key);
        }
        Self::Inside(key, inside.iter().map(|name| (*name).to_owned()).collect())
    }

    /// What records call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Root => "/".to_owned(),
            Self::Collection(kind) => format!("/apisix/{}", kind.plural()),
            Self::Under { kind, parent } => match kind {
                Kind::Credential => format!("/apisix/consumers/{parent}/credentials"),
                kind => format!("/apisix/{}/{parent}", kind.plural()),
            },
            Self::One(key) | Self::Inside(key, _) => key.path(),
            Self::Apply => "apply".to_owned(),
            Self::Diff => "diff".to_owned(),
            Self::Export => "export".to_owned(),
            Self::Status => "status".to_owned(),
            Self::Validate(_) | Self::ValidateAll => "validate".to_owned(),
            Self::PluginNames => "plugins".to_owned(),
            Self::Budget(id, about) => format!("budgets/{id}/{}", about.as_str()),
            Self::Ledger(errand) => errand.as_str().to_owned(),
            Self::Suspensions => "suspensions".to_owned(),
            Self::Suspension(whom) => format!("suspensions/{whom}"),
            Self::Cluster(Deed::Token) => "cluster/tokens".to_owned(),
            Self::Cluster(Deed::Vote) => "cluster/vote".to_owned(),
            Self::Cluster(Deed::Leave) => "cluster/leave".to_owned(),
        }
    }
}

/// Whether a kind's resources are written that way; the others are 405, as in APISIX.
pub(crate) fn check_method(kind: Kind, method: &Method) -> Result<(), Failure> {
    let off: &[Method] = match kind {
        Kind::Route
        | Kind::Upstream
        | Kind::Limit
        | Kind::Price
        | Kind::Budget
        | Kind::Response
        | Kind::UpstreamQuota
        | Kind::Policy => &[],
        Kind::Consumer | Kind::Credential => &[Method::POST, Method::PATCH],
        Kind::ConsumerGroup | Kind::Secret | Kind::Zone => &[Method::POST],
    };
    if off.contains(method) {
        return Err(Failure::MethodOff { method: method.clone(), kind: kind.words() });
    }
    Ok(())
}

fn unsupported(name: &str) -> Failure {
    let shown: String = name.chars().take(NAME_CHARS_SHOWN_MAX).collect();
    Failure::NotFound(format!("Unsupported resource type: {shown}"))
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` for a broken escape or text that is no UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(*hex::decode(digits).ok()?.first()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// There is no JSON schema to give: documents are judged by code, which says more.
const NO_SCHEMAS: &str = "schemas are not served; to have a document judged, POST it to \
     /apisix/admin/schema/validate/{resource}";

/// Of a name that we do not know, so much comes back in the answer.
const NAME_CHARS_SHOWN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use config::{Key, Kind};

    use super::Target;

    fn check(path: &str, expected: Option<&Target>) {
        assert_eq!(Target::parse(path).ok().as_ref(), expected, "{path}");
    }

    fn one(kind: Kind, id: &str) -> Target {
        Target::One(Key::new(kind, id))
    }

    #[test]
    fn a_resource_has_a_kind_and_an_id() {
        check("/routes", Some(&Target::Collection(Kind::Route)));
        check("/routes/", Some(&Target::Collection(Kind::Route)));
        check("/routes/1", Some(&one(Kind::Route, "1")));
        check("/agents/alice", Some(&one(Kind::Consumer, "alice")));
        check("/teams/red", Some(&one(Kind::ConsumerGroup, "red")));
    }

    #[test]
    fn a_credential_stands_under_its_consumer() {
        check("/consumers/alice/credentials/one", Some(&one(Kind::Credential, "alice/one")));
        let parent = "alice".to_owned();
        check("/agents/alice/credentials", Some(&Target::Under { kind: Kind::Credential, parent }));
        check("/credentials", None);
    }

    #[test]
    fn a_secret_stands_under_its_manager() {
        check("/secrets/vault/one", Some(&one(Kind::Secret, "vault/one")));
    }

    #[test]
    fn an_escaped_slash_does_not_part_names() {
        let inside = vec!["nodes".to_owned(), "a/b".to_owned()];
        check(
            "/upstreams/1/nodes/a%2Fb",
            Some(&Target::Inside(Key::new(Kind::Upstream, "1"), inside)),
        );
        check("/routes/%2", None);
        check("/routes/%zz", None);
        check("/routes/%ff", None);
    }

    #[test]
    fn what_is_not_served_is_not_known() {
        check("/services/1", None);
        check("/schema/routes", None);
    }
}
