//! What a request becomes for its upstream, and which operation of the upstream's API that is.

use std::borrow::Cow;

use http::Method;
use model::{Code, Refusal};
use rules::operation::Unknown;
use rules::plugin::Plugin;
use rules::rewrite::{Rewrite, RewriteFault, Rewritten};

use crate::head::Head;
use crate::identify::Identified;
use crate::trip::Trip;

/// Proof that it is known what the upstream will be asked. Only [`describe`] makes one.
#[derive(Debug)]
pub(crate) struct Described {
    identified: Identified,
    /// The new target and what its pattern captured, when a rewrite applies.
    rewritten: Option<Rewritten>,
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
    if let Some(api) = identified.route().upstream.as_ref().and_then(|upstream| upstream.api) {
        let method = plugin.and_then(|plugin| plugin.rule.method.as_ref()).unwrap_or(&head.method);
        let target = rewritten.as_ref().and_then(|rewritten| rewritten.target.as_ref());
        let call = api.catalogue().find(Method::as_str(method), target.unwrap_or(&head.target));
        let operation = call.map_or(Unknown::NAME, |call| call.template.operation);
        trip.learnt().operation = Some(Cow::Borrowed(operation));
    }
    Ok(Described { identified, rewritten })
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
