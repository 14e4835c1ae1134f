//! What the policies say to one request, and who of them decided.

use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, Context, Entities, EntityUid, PolicySet};
use cedar_policy::{Request, Response, RestrictedExpression as Expression};
use model::Timestamp;

use super::body::{self, Unreadable};
use super::entity::Asked;
use super::kind::{Members, datetime, decimal};
use super::reads::Reads;
use super::text::{Policy, body_name};
use crate::field::each_argument;

/// What policies decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Permit {
        policy: Option<Arc<str>>,
    },
    /// A group must be asked first.
    Ask {
        policy: Option<Arc<str>>,
        group: Option<Arc<str>>,
        reason: Option<Arc<str>>,
    },
    /// A policy forbids it, or none permits it.
    Refuse {
        policy: Option<Arc<str>>,
        reason: Option<Arc<str>>,
    },
    /// A policy could not be evaluated, such as when numbers grow too large: nobody knows what it
    /// would have said.
    Failed {
        policy: Option<Arc<str>>,
    },
}

/// A decision, and what it would be with the policies that are only reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub decision: Decision,
    /// Where it is another one.
    pub shadow: Option<Decision>,
}

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knowledge<'a> {
    pub now: Timestamp,
    /// The whole body, where it is read.
    pub body: &'a [u8],
    /// What the request costs, by unit, where it is read.
    pub prices: &'a [(String, String)],
}

impl Decision {
    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Permit { .. } => "permit",
            Self::Ask { .. } => "ask",
            Self::Refuse { .. } => "refuse",
            Self::Failed { .. } => "failed",
        }
    }

    /// The policy that decided.
    #[must_use]
    pub const fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::Permit { policy }
            | Self::Ask { policy, .. }
            | Self::Refuse { policy, .. }
            | Self::Failed { policy } => policy.as_ref(),
        }
    }
}

/// The policies that can say something to a question, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// In the order of the document.
    policies: Vec<Arc<Policy>>,
    enforced: PolicySet,
    /// With those that are only reported; `None` where there are none.
    with_shadows: Option<PolicySet>,
    pub(crate) reads: Reads,
    /// The ways in which the body is read.
    pub(crate) bodies: Vec<(String, Members)>,
}

impl Slice {
    /// Leaves out what cannot change the decision, so that nothing is read for it: where a forbid
    /// without conditions, or no permit, has decided already, nobody looks at the context.
    pub(crate) fn new(mut policies: Vec<Arc<Policy>>) -> Self {
        let is_shut = policies
            .iter()
            .any(|policy| policy.forbids && !policy.has_conditions && !policy.is_shadow);
        let is_open = policies.iter().any(|policy| !policy.forbids);
        if is_shut || !is_open {
            policies.retain(|policy| policy.reads.is_empty());
        }
        let mut slice = Self::default();
        for policy in &policies {
            slice.reads.add(&policy.reads);
            if let Some(members) = &policy.reads.body {
                slice.bodies.push((body_name(members), members.clone()));
            }
        }
        slice.bodies.sort();
        slice.bodies.dedup();
        let set = |shadows: bool| {
            let chosen = policies.iter().filter(|policy| shadows || !policy.is_shadow);
            PolicySet::from_policies(chosen.map(|policy| policy.cedar.clone()))
                .expect("the ids of a document's policies differ")
        };
        slice.enforced = set(false);
        slice.with_shadows = policies.iter().any(|policy| policy.is_shadow).then(|| set(true));
        slice.policies = policies;
        slice
    }

    /// Whether the same question always has the same answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.reads.is_empty() && self.bodies.is_empty()
    }

    /// What the policies say.
    pub(crate) fn decide(&self, request: &Request, entities: &Entities) -> Verdict {
        let decide = |set| self.read(&Authorizer::new().is_authorized(request, set, entities));
        let decision = decide(&self.enforced);
        let shadow = self.with_shadows.as_ref().map(decide);
        Verdict { shadow: shadow.filter(|shadow| *shadow != decision), decision }
    }

    /// Forbid wins over ask, and ask over permit.
    fn read(&self, response: &Response) -> Decision {
        let ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        let satisfied =
            || self.policies.iter().filter(|policy| ids.iter().any(|id| **id == *policy.id));
        let id = |policy: &Arc<Policy>| Arc::clone(&policy.id);
        let first = satisfied().next();
        if let Some(policy) = first.filter(|policy| policy.forbids) {
            return Decision::Refuse { policy: Some(id(policy)), reason: policy.reason.clone() };
        }
        if let Some(error) = response.diagnostics().errors().next() {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let failed = error.policy_id().to_string();
            let policy = self.policies.iter().find(|policy| *policy.id == *failed);
            return Decision::Failed { policy: policy.map(id) };
        }
        match (first, satisfied().find(|policy| policy.ask.is_some())) {
            (_, Some(asks)) => Decision::Ask {
                policy: Some(id(asks)),
                group: asks.ask.clone(),
                reason: asks.reason.clone(),
            },
            (Some(policy), None) => Decision::Permit { policy: Some(id(policy)) },
            (None, None) => Decision::Refuse { policy: None, reason: None },
        }
    }
}

/// A question whose answer needs to know more than who, what and where.
#[derive(Debug)]
pub struct Open {
    pub(crate) slice: Arc<Slice>,
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) entities: Entities,
    /// What is decided where no policy says anything; `None` refuses.
    pub(crate) otherwise: Option<Decision>,
}

impl Open {
    /// Whether the body is read.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        !self.slice.bodies.is_empty()
    }

    /// The units in which the price is read.
    pub fn prices(&self) -> impl Iterator<Item = &str> {
        self.slice.reads.prices.iter().map(String::as_str)
    }

    /// Decides.
    ///
    /// # Errors
    /// When something that a policy reads can be read in two ways, or in none.
    pub fn decide(&self, asked: &Asked<'_>, known: &Knowledge<'_>) -> Result<Verdict, Unreadable> {
        self.put(context(&self.slice, asked, known)?)
    }

    /// Puts the question to Cedar.
    pub(crate) fn put(&self, context: Context) -> Result<Verdict, Unreadable> {
        let (principal, action) = (self.principal.clone(), self.action.clone());
        let request = Request::new(principal, action, self.resource.clone(), context, None)
            .map_err(|_| Unreadable::Question)?;
        let mut verdict = self.slice.decide(&request, &self.entities);
        for decision in std::iter::once(&mut verdict.decision).chain(&mut verdict.shadow) {
            if let (Decision::Refuse { policy: None, .. }, Some(other)) =
                (&*decision, &self.otherwise)
            {
                *decision = other.clone();
            }
        }
        Ok(verdict)
    }
}

/// Everything that the policies read, and nothing else.
fn context(slice: &Slice, asked: &Asked<'_>, known: &Knowledge<'_>) -> Result<Context, Unreadable> {
    let Reads { method, path, client, now, parameters, headers, query, prices, .. } = &slice.reads;
    let text = |text: &str| Expression::new_string(text.to_owned());
    let mut pairs: Vec<(String, Expression)> = Vec::with_capacity(8);
    let mut add = |name: &str, value| pairs.push((name.to_owned(), value));
    if *method {
        add("method", text(asked.method));
    }
    if *path {
        add("path", text(asked.target.normal()));
    }
    if *client {
        add("client", Expression::new_ip(asked.facts.address().to_string()));
    }
    if *now {
        add("now", datetime(i64::try_from(known.now.as_millis()).unwrap_or(i64::MAX)));
    }
    if *parameters {
        let call = asked.call.and_then(|call| call.call());
        let all = call.iter().flat_map(|call| call.parameters());
        add("parameters", record(all.map(|(name, value)| (name.to_owned(), text(value))))?);
    }
    if !headers.is_empty() {
        let mut found = Vec::new();
        for name in headers {
            let mut values = asked.facts.headers.get_all(name.as_str()).iter();
            match (values.next().map(http::HeaderValue::to_str), values.next()) {
                (None, _) => {}
                (Some(Ok(value)), None) => found.push((name.clone(), text(value))),
                (Some(_), _) => return Err(Unreadable::Header(name.clone())),
            }
        }
        add("headers", record(found)?);
    }
    if !query.is_empty() {
        add("query", read_query(asked.target.query().unwrap_or_default(), query)?);
    }
    if !prices.is_empty() {
        let known = known.prices.iter().map(|(unit, price)| {
            let price = decimal(price).ok_or_else(|| Unreadable::Price(unit.clone()))?;
            Ok((unit.clone(), Expression::new_decimal(price)))
        });
        add("price", record(known.collect::<Result<Vec<_>, _>>()?)?);
    }
    for (name, members) in &slice.bodies {
        add(name, body::read(known.body, members)?);
    }
    Context::from_pairs(pairs).map_err(|_| Unreadable::Question)
}

fn record(pairs: impl IntoIterator<Item = (String, Expression)>) -> Result<Expression, Unreadable> {
    Expression::new_record(pairs).map_err(|_| Unreadable::Question)
}

/// The arguments that are read, decoded: an escape must not hide a name.
fn read_query(
    query: &str,
    wanted: &std::collections::BTreeSet<String>,
) -> Result<Expression, Unreadable> {
    let mut found: Vec<(String, Expression)> = Vec::new();
    for (name, value) in each_argument(query) {
        let Some(name) = decoded(name).filter(|name| wanted.contains(name)) else { continue };
        let is_known = found.iter().any(|(known, _)| *known == name);
        match decoded(value).filter(|_| !is_known) {
            Some(value) => found.push((name, Expression::new_string(value))),
            None => return Err(Unreadable::Query(name)),
        }
    }
    record(found)
}

/// A text with its escapes read (WHATWG URL, `application/x-www-form-urlencoded`); `None` where it
/// is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (high, low) = (digit(high)?, digit(low)?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = after;
            }
            (b'%', _) => return None,
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}
