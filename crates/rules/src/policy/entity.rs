//! Who asks for what: the entities of a request, and what they are in.

use std::collections::HashMap;
use std::sync::Arc;

use model::Identity;

use super::scope::{Lineage, Uid};
use super::vocabulary::{Vocabulary, plain_action, unknown_action};
use crate::fact::Facts;
use crate::operation::{Api, Named, Scope};
use crate::target::Target;

/// A zone of the document (kind `zones`): the name that policies call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Such as `example.com`.
    pub name: Arc<str>,
    /// Its id at Cloudflare, in lower case.
    pub id: Arc<str>,
    /// The id of the account it belongs to.
    pub account: Option<Arc<str>>,
}

/// What is asked of policies: a request as its upstream will get it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub facts: &'a Facts<'a>,
    /// Whether a credential showed who the agent is.
    pub is_proven: bool,
    /// The method that is sent.
    pub method: &'a str,
    /// The target that is sent.
    pub target: &'a Target,
    /// The call, where the upstream's calls have names.
    pub call: Option<Named<'a>>,
    pub api: Option<Api>,
    /// The upstream's id.
    pub upstream: &'a str,
}

impl<'a> Asked<'a> {
    /// Who asks; `None` for anybody.
    pub(crate) fn identity(&self) -> Option<&'a Identity> {
        self.facts.identity.filter(|_| self.is_proven)
    }

    /// The number of the action in the [`Vocabulary`].
    pub(crate) fn action(&self) -> usize {
        let vocabulary = Vocabulary::get();
        let template = self.call.and_then(|call| call.template());
        let number = match (template, self.api) {
            (Some(template), _) => vocabulary.number(template.operation),
            (None, Some(_)) => vocabulary.number(unknown_action(self.method)),
            (None, None) => vocabulary.number(&plain_action(self.method)),
        };
        number.expect("a test finds every operation and method among the actions")
    }

    /// The type and the id of what is acted on; an id in lower case.
    pub(crate) fn resource(&self) -> (&'static str, std::borrow::Cow<'a, str>) {
        let call = self.call.and_then(|call| call.call());
        let found = match (&call, self.api) {
            (Some(call), _) => match call.template.scope {
                Scope::Zone => call.parameter("zone_id").map(|id| ("Zone", id)),
                Scope::Account => call.parameter("account_id").map(|id| ("Account", id)),
                Scope::User | Scope::Whole => None,
            },
            (None, Some(api)) => self.unknown_resource(api),
            (None, None) => return ("Api", self.upstream.into()),
        };
        match (found, self.api) {
            (Some((kind, id)), _) if id.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                (kind, id.to_ascii_lowercase().into())
            }
            (Some((kind, id)), _) => (kind, id.into()),
            (None, Some(api)) => ("Api", api.as_str().into()),
            (None, None) => ("Api", self.upstream.into()),
        }
    }

    /// What the path of a call that the catalogue lacks seems to belong to.
    fn unknown_resource(&self, api: Api) -> Option<(&'static str, &'a str)> {
        let rest = self.target.normal().strip_prefix(api.catalogue().base())?;
        let mut segments = rest.strip_prefix('/')?.split('/');
        let kind = match segments.next()? {
            "zones" => "Zone",
            "accounts" => "Account",
            _ => return None,
        };
        let id = segments
            .next()
            .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        Some((kind, id))
    }
}

/// The agent and what it is in.
pub(crate) fn principal(identity: Option<&Identity>) -> Lineage {
    let Some(identity) = identity else {
        return Lineage { own: Uid::new("Anonymous", "anonymous"), above: Vec::new() };
    };
    let team = identity.team.as_ref().map(|team| Uid::new("Team", team.as_str()));
    let organisation = Uid::new("Organisation", identity.organisation.as_str());
    let above = team.into_iter().chain([organisation]).collect();
    Lineage { own: Uid::new("Agent", identity.agent.as_str()), above }
}

/// Zones by their ids.
#[derive(Debug, Default)]
pub(crate) struct Zones(HashMap<Arc<str>, Vec<Zone>>);

impl Zones {
    pub(crate) fn new(zones: &[Zone]) -> Self {
        let mut by_id: HashMap<Arc<str>, Vec<Zone>> = HashMap::new();
        for zone in zones {
            by_id.entry(Arc::clone(&zone.id)).or_default().push(zone.clone());
        }
        Self(by_id)
    }

    /// What is acted on, and what it is in.
    pub(crate) fn resource(&self, kind: &str, id: &str, api: Option<Api>) -> Lineage {
        let own = Uid::new(kind, id);
        let mut above = Vec::new();
        for zone in self.0.get(id).into_iter().flatten().filter(|_| kind == "Zone") {
            above.push(Uid::new("Zone", &zone.name));
            above.extend(zone.account.as_ref().map(|account| Uid::new("Account", account)));
        }
        if kind != "Api" {
            above.extend(api.map(|api| Uid::new("Api", api.as_str())));
        }
        Lineage { own, above }
    }
}
