//! Policy: whether the agent may do what it asks for.
//!
//! Most decisions need only who, what and where, and many are remembered. Where a policy reads the
//! body, the body is read first, to a bound; where it reads the price, the decision falls in the
//! next stage, after the limits had their say. What is judged is what is sent: the target after its
//! rewrite, and the very bytes of the body.

use std::future::ready;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::{Code, Refusal, Ruled, Ruling, RulingKind};
use rules::fact::Facts;
use rules::policy::{Asked, Decision, Judged, Knowledge, Open, Unreadable, Verdict, price_text};
use rules::price::{Evidence, Price, Tariff};
use tokio_util::either::Either;

use crate::body::Content;
use crate::describe::Described;
use crate::head::Head;
use crate::price::{self, unknown};
use crate::trip::Trip;

/// Proof that policies permit a request as far as it is known without its price, or that the
/// document has none. Only [`permit`] makes one.
#[derive(Debug)]
pub(crate) struct Permitted {
    described: Described,
    pending: Option<Box<Pending>>,
}

impl Permitted {
    pub(crate) fn into_parts(self) -> (Described, Option<Box<Pending>>) {
        (self.described, self.pending)
    }
}

/// A decision that waits for the price, which is asked for only after the limits had their say.
#[derive(Debug)]
pub(crate) struct Pending {
    open: Arc<Open>,
    prices: Vec<Arc<Price>>,
}

impl Pending {
    /// The prices that must be known.
    pub(crate) fn prices(&self) -> &[Arc<Price>] {
        &self.prices
    }

    /// Decides.
    pub(crate) fn judge(
        &self,
        trip: &mut Trip,
        request: (&Head, &Described),
        evidence: &Evidence<'_>,
    ) -> Result<(), Refusal> {
        let mut known = Vec::new();
        for price in &self.prices {
            let tariff = Tariff::new(price, evidence).map_err(|unpriced| unknown(&unpriced))?;
            known.push((price.unit.as_str().to_owned(), price_text(tariff.held(), &price.unit)));
        }
        decide(trip, request, &self.open, (evidence.request.unwrap_or_default(), &known))
    }
}

/// Judges a request by the document's policies. Waits only where they read more than its head, in
/// a box: what is rare takes no room in every request's future.
pub(crate) fn permit<'a>(
    trip: &'a mut Trip,
    head: &'a Head,
    described: Described,
    content: Content,
) -> impl Future<Output = Result<(Permitted, Content), Refusal>> + 'a {
    if trip.snapshot.policies.is_none() {
        let permitted = Permitted { described, pending: None };
        return Either::Right(ready(Ok((permitted, content))));
    }
    if let Err(refusal) = one_method(&head.headers) {
        return Either::Right(ready(Err(refusal)));
    }
    match ask(trip, head, &described) {
        Judged::Now(verdict) => {
            let judged = obey(trip, &verdict);
            let permitted = Permitted { described, pending: None };
            Either::Right(ready(judged.map(|()| (permitted, content))))
        }
        Judged::Open(open) => Either::Left(Box::pin(learn(trip, head, (open, described), content))),
    }
}

/// Puts the question, as far as the head tells it.
fn ask(trip: &Trip, head: &Head, described: &Described) -> Judged {
    let facts = trip.facts(head);
    let mut memory = trip.core.rulings.lock();
    trip.snapshot.policies.judge(&mut memory, &asked(&facts, head, described))
}

fn asked<'a>(facts: &'a Facts<'a>, head: &'a Head, described: &'a Described) -> Asked<'a> {
    let (method, target) = described.sent(head);
    let identified = described.identified();
    let upstream = identified.route().upstream.as_ref();
    Asked {
        facts,
        is_proven: identified.is_proven(),
        method,
        target,
        call: described.call(head),
        api: upstream.and_then(|upstream| upstream.api),
        upstream: upstream.map_or("", |upstream| upstream.id.as_str()),
    }
}

/// Reads the body where the policies do, and decides, unless they read the price.
async fn learn(
    trip: &mut Trip,
    head: &Head,
    (open, described): (Arc<Open>, Described),
    mut content: Content,
) -> Result<(Permitted, Content), Refusal> {
    if open.needs_body() {
        content = price::read(trip, head, (&described, BODY_MAX), content).await?;
        check_body(trip, head, &content)?;
    }
    let prices = prices(trip, head, (&open, &described));
    if !prices.is_empty() {
        let pending = Some(Box::new(Pending { open, prices }));
        return Ok((Permitted { described, pending }, content));
    }
    let body = content.whole();
    decide(trip, (head, &described), &open, (body.as_deref().unwrap_or_default(), &[]))?;
    Ok((Permitted { described, pending: None }, content))
}

/// Asks the policies, once all that they read is known: the body, and prices by unit.
fn decide(
    trip: &mut Trip,
    (head, described): (&Head, &Described),
    open: &Open,
    (body, prices): (&[u8], &[(String, String)]),
) -> Result<(), Refusal> {
    let knowledge = Knowledge { now: trip.core.shared.clock.now(), body, prices };
    let facts = trip.facts(head);
    let decided = open.decide(&asked(&facts, head, described), &knowledge);
    let verdict = decided.map_err(|why| unreadable(trip, &why))?;
    obey(trip, &verdict)
}

/// The prices that the policies read.
fn prices(trip: &Trip, head: &Head, (open, described): (&Open, &Described)) -> Vec<Arc<Price>> {
    if open.prices().next().is_none() {
        return Vec::new();
    }
    let facts = Facts { call: described.call(head), ..trip.facts(head) };
    let route = &described.identified().route().id;
    let counting = Price::counting(trip.snapshot.prices.binding(route, &facts));
    let is_read = |price: &&Arc<Price>| open.prices().any(|unit| unit == price.unit.as_str());
    counting.into_iter().filter(is_read).map(Arc::clone).collect()
}

/// Notes the decision, and refuses what is not permitted.
fn obey(trip: &mut Trip, verdict: &Verdict) -> Result<(), Refusal> {
    let shadow = verdict.shadow.as_ref().map(|shadow| Box::new(ruling(shadow)));
    let decision = &verdict.decision;
    trip.learnt().ruling = Some(Box::new(Ruling { shadow, ..ruling(decision) }));
    let (code, reason, group) = match decision {
        Decision::Permit { .. } => return Ok(()),
        Decision::Ask { reason, group, .. } => (Code::PolicyAsk, reason.clone(), group.clone()),
        Decision::Refuse { reason, .. } => (Code::PolicyRefused, reason.clone(), None),
        Decision::Failed { .. } => (Code::PolicyFailed, None, None),
    };
    let policy = decision.policy().map(Arc::clone);
    let mut detail = match (decision, &policy) {
        (Decision::Failed { .. }, Some(policy)) => {
            format!("the policy `{policy}` could not be evaluated")
        }
        (Decision::Ask { .. }, Some(policy)) => {
            let group = group.as_deref().unwrap_or_default();
            format!("the policy `{policy}` asks `{group}` first, and nobody can be asked yet")
        }
        (_, Some(policy)) => format!("the policy `{policy}` forbids it"),
        (_, None) => "no policy permits it".to_owned(),
    };
    if let Some(reason) = &reason {
        detail = format!("{detail}: {reason}");
    }
    let mut refusal = Refusal::new(code, detail);
    refusal.policy = Some(Box::new(Ruled { policy, reason, group }));
    Err(refusal)
}

fn ruling(decision: &Decision) -> Ruling {
    let kind = match decision {
        Decision::Permit { .. } => RulingKind::Permit,
        Decision::Ask { .. } => RulingKind::Ask,
        Decision::Refuse { .. } => RulingKind::Refuse,
        Decision::Failed { .. } => RulingKind::Failed,
    };
    Ruling { kind, policy: decision.policy().map(Arc::clone), shadow: None }
}

/// Notes that nobody knows what the policies would say.
fn unreadable(trip: &mut Trip, why: &Unreadable) -> Refusal {
    let code = match why {
        Unreadable::NotJson
        | Unreadable::NotAnObject
        | Unreadable::Twice(_)
        | Unreadable::Alike { .. }
        | Unreadable::Kind { .. } => Code::PolicyBodyUnreadable,
        Unreadable::Header(_) | Unreadable::Query(_) => Code::PolicyRequestUnreadable,
        Unreadable::Price(_) | Unreadable::Question => Code::PolicyFailed,
    };
    beyond(trip, code, why.to_string())
}

fn beyond(trip: &mut Trip, code: Code, detail: String) -> Refusal {
    let kind = RulingKind::Unreadable;
    trip.learnt().ruling = Some(Box::new(Ruling { kind, policy: None, shadow: None }));
    Refusal::new(code, detail)
}

/// Whether the body is there whole, and says that it is JSON.
fn check_body(trip: &mut Trip, head: &Head, content: &Content) -> Result<(), Refusal> {
    let length = content.ahead.as_ref().map_or(0, |ahead| ahead.len());
    if content.rest.is_some() || length > BODY_MAX {
        let detail = format!("a policy reads the body, which is longer than {BODY_MAX} bytes");
        return Err(beyond(trip, Code::PolicyBodyTooLarge, detail));
    }
    if length == 0 {
        return Ok(());
    }
    check_type(&head.headers)
        .map_err(|why| beyond(trip, Code::PolicyBodyUnreadable, why.to_owned()))
}

/// A body is read as JSON if it is said to be; or if nothing, or plain text, is said, as
/// Cloudflare's own tools do: what is no JSON then is refused all the same.
fn check_type(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err("the body is encoded (`Content-Encoding`)");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::to_str);
    let said = match (types.next(), types.next()) {
        (None, _) => return Ok(()),
        (Some(Ok(said)), None) => said.to_ascii_lowercase(),
        (Some(_), _) => return Err("the body's `Content-Type` is not one field of text"),
    };
    let (kind, parameters) = said.split_once(';').unwrap_or((&said, ""));
    let kind = kind.trim();
    let is_json = matches!(kind, "application/json" | "text/plain")
        || (kind.starts_with("application/") && kind.ends_with("+json"));
    if !is_json || kind.contains(',') {
        return Err("the body's `Content-Type` is not JSON");
    }
    let charset = parameters.split(';').find_map(|one| one.trim().strip_prefix("charset="));
    match charset.map(|charset| charset.trim_matches('"')) {
        None | Some("utf-8" | "utf8") => Ok(()),
        Some(_) => Err("the body's `charset` is not UTF-8"),
    }
}

/// Refuses headers by which some servers take another method or path than those that are judged.
fn one_method(headers: &HeaderMap) -> Result<(), Refusal> {
    match OVERRIDES.iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => {
            let detail = format!("`{name}` asks for another call than the one that is judged");
            Err(Refusal::new(Code::HeaderInvalid, detail))
        }
    }
}

/// Headers that change a request's method or path after it was judged.
const OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Bytes of a body that policies read. A longer one is refused where a policy reads it.
const BODY_MAX: usize = 256 << 10;
