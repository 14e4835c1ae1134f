//! What a request becomes for its upstream, and which operation of the upstream's API that is.

use std::borrow::Cow;

use model::{Code, Refusal};
use rules::operation::{Found, Named};
use rules::plugin::Plugin;
use rules::rewrite::{Rewrite, RewriteFault, Rewritten};
use rules::target::Target;

use crate::head::Head;
use crate::identify::Identified;
use crate::trip::Trip;

/// Proof that it is known what the upstream will be asked. Only [`describe`] makes one.
#[derive(Debug)]
pub(crate) struct Described {
    identified: Identified,
    /// The new target and what its pattern captured, when a rewrite applies.
    rewritten: Option<Rewritten>,
    /// What the catalogue says of the call, where the upstream's calls have names.
    found: Option<Found>,
}

impl Described {
    pub(crate) const fn identified(&self) -> &Identified {
        &self.identified
    }

    /// The rewrite that applies, and what it made of the target.
    pub(crate) fn rewrite(&self) -> Option<(&Rewrite, &Rewritten)> {
        let plugin = self.identified.plugins().proxy_rewrite.as_ref()?;
        self.rewritten.as_ref().map(|rewritten| (&plugin.rule, rewritten))
    }

    /// The call as the upstream will get it, where its calls have names.
    pub(crate) fn call<'a>(&'a self, head: &'a Head) -> Option<Named<'a>> {
        let (method, target) = self.sent(head);
        self.found.map(|found| found.of(method, target))
    }

    /// The method and the target that are sent.
    pub(crate) fn sent<'a>(&'a self, head: &'a Head) -> (&'a str, &'a Target) {
        let (method, target) = match self.rewrite() {
            Some((rule, rewritten)) => (rule.method.as_ref(), rewritten.target.as_ref()),
            None => (None, None),
        };
        (method.unwrap_or(&head.method).as_str(), target.unwrap_or(&head.target))
    }
}

/// Rewrites the target, and names the operation. Both are made from the same bytes that are sent
/// later, so no other operation can run than the one that was named.
pub(crate) fn describe(
    trip: &mut Trip,
    head: &Head,
    identified: Identified,
) -> Result<Described, Refusal> {
    let facts = trip.facts(head);
    let applies = |plugin: &&Plugin<Rewrite>| {
        plugin.filter.as_ref().is_none_or(|filter| filter.holds(&facts))
    };
    let plugin = identified.plugins().proxy_rewrite.as_deref().filter(applies);
    let rewritten = plugin.map(|plugin| plugin.rule.target(&facts)).transpose();
    let rewritten = rewritten.map_err(|fault| refusal(&fault))?;
    let api = identified.route().upstream.as_ref().and_then(|upstream| upstream.api);
    let mut described = Described { identified, rewritten, found: None };
    if let Some(api) = api {
        let (method, target) = described.sent(head);
        let found = Found::new(api, method, target);
        trip.learnt().operation = Some(Cow::Borrowed(found.operation()));
        described.found = Some(found);
    }
    Ok(described)
}

/// Why a request cannot be rewritten, as its client is told.
pub(crate) fn refusal(fault: &RewriteFault) -> Refusal {
    let code = match fault {
        RewriteFault::Ambiguous => Code::TargetAmbiguous,
        RewriteFault::Header { .. } | RewriteFault::TooManyHeaders => Code::HeaderInvalid,
        RewriteFault::Target(_) | RewriteFault::TargetTooLong => Code::TargetInvalid,
    };
    Refusal::new(code, fault.to_string())
}
