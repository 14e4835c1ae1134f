//! A document's policies, asked as the gate asks them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use config::bundle::{Bundle, PlacedFault};
use config::{Change, Command, Keyring, State, compile, seal};
use http::HeaderMap;
use http::uri::PathAndQuery;
use model::{Clock as _, Identity, Protocol, RequestId, Scheme, Secret, SystemEntropy, Timestamp};
use rules::Snapshot;
use rules::fact::Facts;
use rules::operation::{Api, Catalogue, Found};
use rules::policy::{Asked, Decision, Judged, Knowledge, Memory};
use rules::target::Target;
use serde_json::{Value, json};

use crate::commands::name::Misused;
use crate::commands::{document, operations};

/// A document, compiled without its secrets.
pub(super) struct Offline {
    pub(super) snapshot: Snapshot,
}

/// One call.
#[derive(Debug, Default)]
pub(super) struct Case {
    /// `None` for somebody who showed no credential.
    pub(super) agent: Option<String>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: HeaderMap,
    /// What it costs, by unit.
    pub(super) price: Vec<(String, String)>,
    /// When it comes; now where it is left out.
    pub(super) now: Option<Timestamp>,
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) operation: &'static str,
    /// `permit`, `ask`, `refuse`, `failed` or `unreadable`.
    pub(super) decision: &'static str,
    pub(super) policy: Option<String>,
    pub(super) why: Option<String>,
    pub(super) shadow: Option<Decision>,
}

impl Offline {
    pub(super) fn read(file: &Path) -> Result<Self> {
        Self::of(&document::read(file)?)
    }

    /// Compiles a document as a node would. What needs a secret gets some text.
    pub(super) fn of(text: &str) -> Result<Self> {
        let bundle = Bundle::parse(text).map_err(|faults| {
            let line = |fault: &PlacedFault| format!("line {}: {}", fault.place.line, fault.fault);
            let faults: Vec<String> = faults.iter().map(line).collect();
            anyhow!("the document has faults:\n{}", faults.join("\n"))
        })?;
        let (keyring, entropy) = (Keyring::from_bytes(&[0; 32]), SystemEntropy);
        let mut state = State::default();
        let mut changes = bundle.changes(&state, false);
        for change in &mut changes {
            if let Change::Put { key, value, .. } = change {
                *value = seal(&keyring, &entropy, key, value.take(), None)
                    .map_err(|fault| anyhow!("{key}: {fault:?}"))?;
            }
        }
        let command = Command { at: Timestamp::default(), base: None, force: false, changes };
        state.apply(&command).map_err(|rejected| anyhow!("the document is refused: {rejected}"))?;
        let count = AtomicU64::new(0);
        let secrets = |_: &config::Reference| {
            Ok(Secret::new(format!("offline-{}", count.fetch_add(1, Ordering::Relaxed))))
        };
        let snapshot = compile(&state, &keyring, &secrets, 0).map_err(|faults| {
            let faults: Vec<String> =
                faults.iter().map(|(key, fault)| format!("{key}{fault}")).collect();
            anyhow!("the document has faults:\n{}", faults.join("\n"))
        })?;
        Ok(Self { snapshot })
    }

    /// Every agent, by name.
    pub(super) fn agents(&self) -> impl Iterator<Item = Identity> {
        let agents = &self.snapshot.agents.by_id;
        let mut names: Vec<String> = agents.iter().map(|(id, _)| id.to_string()).collect();
        names.sort();
        names.into_iter().filter_map(|name| self.identity(&name).ok())
    }

    pub(super) fn identity(&self, name: &str) -> Result<Identity> {
        let Some(agent) = self.snapshot.agents.by_id.get(name) else {
            bail!(Misused(format!("the document has no agent `{name}`")));
        };
        Ok(Identity {
            organisation: agent.organisation.clone(),
            team: agent.team.clone(),
            agent: agent.id.clone(),
            run: None,
            credential: None,
        })
    }

    /// Asks the policies.
    pub(super) fn judge(&self, case: &Case) -> Result<Told> {
        let identity = case.agent.as_deref().map(|name| self.identity(name)).transpose()?;
        let (path, _) = operations::read_path(&case.path, Catalogue::cloudflare().base())?;
        let sent =
            PathAndQuery::try_from(&*path).with_context(|| format!("`{path}` is no path"))?;
        let target = Target::from_path_and_query(sent)
            .map_err(|fault| Misused(format!("`{path}`: {fault}; the gate refuses it")))?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let facts = Facts {
            request_id: RequestId(0),
            client: address,
            server: address,
            scheme: Scheme::Https,
            protocol: Protocol::Http11,
            method: &case.method,
            host: "localhost",
            host_header: "localhost",
            target: &target,
            headers: &case.headers,
            route: None,
            identity: identity.as_ref(),
            call: None,
        };
        let found = Found::new(Api::Cloudflare, &case.method, &target);
        let asked = Asked {
            facts: &facts,
            is_proven: identity.is_some(),
            method: &case.method,
            target: &target,
            call: Some(found.of(&case.method, &target)),
            api: Some(Api::Cloudflare),
            upstream: "cloudflare",
        };
        let now = case.now.unwrap_or_else(|| model::SystemClock::start().now());
        let known = Knowledge { now, body: &case.body, prices: &case.price };
        let verdict = match self.snapshot.policies.judge(&mut Memory::default(), &asked) {
            Judged::Now(verdict) => Ok((*verdict).clone()),
            Judged::Open(open) => open.decide(&asked, &known),
        };
        let operation = found.operation();
        Ok(match verdict {
            Ok(verdict) => Told {
                operation,
                decision: verdict.decision.as_str(),
                policy: verdict.decision.policy().map(ToString::to_string),
                why: reason(&verdict.decision),
                shadow: verdict.shadow,
            },
            Err(why) => Told {
                operation,
                decision: "unreadable",
                policy: None,
                why: Some(why.to_string()),
                shadow: None,
            },
        })
    }
}

fn reason(decision: &Decision) -> Option<String> {
    match decision {
        Decision::Ask { reason, group, .. } => {
            let group = group.as_ref().map(|group| format!("asks `{group}`"));
            let both: Vec<String> =
                group.into_iter().chain(reason.as_ref().map(ToString::to_string)).collect();
            (!both.is_empty()).then(|| both.join(": "))
        }
        Decision::Refuse { reason: Some(reason), .. } => Some(reason.to_string()),
        Decision::Refuse { policy: None, .. } => Some("no policy permits it".to_owned()),
        Decision::Refuse { .. } | Decision::Permit { .. } | Decision::Failed { .. } => None,
    }
}

impl Told {
    pub(super) fn as_json(&self) -> Value {
        json!({
            "operation": self.operation,
            "decision": self.decision,
            "policy": self.policy,
            "why": self.why,
            "shadow": self.shadow.as_ref().map(Decision::as_str),
        })
    }
}

/// What becomes of a call, in a line or two.
pub(super) fn told(told: &Told) -> String {
    let mut line = format!("{} {}", told.operation, told.decision);
    if let Some(policy) = &told.policy {
        line = format!("{line} by {policy}");
    }
    if let Some(why) = &told.why {
        line = format!("{line}: {why}");
    }
    if let Some(shadow) = &told.shadow {
        let by = shadow.policy().map(|policy| format!(" by {policy}")).unwrap_or_default();
        line = format!("{line}\nwith policies that are only reported: {}{by}", shadow.as_str());
    }
    line
}
