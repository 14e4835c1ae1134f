//! The registrar: prices, registrations, and a card that is charged at once.
//!
//! What a domain does is in its first label, so that a test needs no set-up: `taken…` belongs to
//! somebody else; one to three characters are premium; `slow…` is accepted with 202 and succeeds
//! when [`crate::Options::registration_wait`] is over; `fail…` fails and `stuck…` waits for somebody
//! to act, both without a charge. The domain name is the idempotency key: asking again for a
//! registration that did not fail answers with its state and charges nothing.
use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::{later, stamp};
use crate::envelope::{Answer, Refusal, Reply};
use crate::paging::{PageSize, by_cursor};
use crate::price::{self, Cents, Charge, Tier};
use crate::route::Route;
use crate::world::{World, YEAR, room_for};
use crate::zone::is_domain;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/registrar/domain-search", search),
    Route::post("/accounts/{account_id}/registrar/domain-check", check).reading(),
    Route::get("/accounts/{account_id}/registrar/extensions", extensions),
    Route::get("/accounts/{account_id}/registrar/extensions/{extension}", extension),
    Route::get("/accounts/{account_id}/registrar/registrations", list),
    Route::post("/accounts/{account_id}/registrar/registrations", create),
    Route::get("/accounts/{account_id}/registrar/registrations/{domain}", show),
    Route::patch("/accounts/{account_id}/registrar/registrations/{domain}", edit),
    Route::get(
        "/accounts/{account_id}/registrar/registrations/{domain}/registration-status",
        status,
    ),
    Route::get("/accounts/{account_id}/registrar/registrations/{domain}/update-status", status),
    Route::get("/accounts/{account_id}/registrar-sandbox/domain-search", search),
    Route::post("/accounts/{account_id}/registrar-sandbox/domain-check", check).reading(),
    Route::get("/accounts/{account_id}/registrar-sandbox/extensions", extensions),
    Route::get("/accounts/{account_id}/registrar-sandbox/extensions/{extension}", extension),
    Route::get("/accounts/{account_id}/registrar-sandbox/registrations", list),
    Route::post("/accounts/{account_id}/registrar-sandbox/registrations", create),
    Route::get("/accounts/{account_id}/registrar-sandbox/registrations/{domain}", show),
    Route::patch("/accounts/{account_id}/registrar-sandbox/registrations/{domain}", edit),
    Route::get(
        "/accounts/{account_id}/registrar-sandbox/registrations/{domain}/registration-status",
        status,
    ),
    Route::get(
        "/accounts/{account_id}/registrar-sandbox/registrations/{domain}/update-status",
        status,
    ),
];

/// Both desks: the real one, and the sandbox, which charges nothing.
#[derive(Debug)]
pub(crate) struct Registrar {
    real: Book,
    sandbox: Book,
    pub(crate) charges: Vec<Charge>,
    /// How long a slow registration stays under way.
    wait: Duration,
}

type Book = BTreeMap<String, Registration>;

#[derive(Debug, Clone)]
struct Registration {
    account: String,
    domain: String,
    auto_renew: bool,
    privacy: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    /// When `outcome` becomes true; before, it is in progress.
    settled_at: Timestamp,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    ActionRequired,
}

impl Registrar {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { real: Book::new(), sandbox: Book::new(), charges: Vec::new(), wait }
    }

    /// Charges the fake card.
    pub(crate) fn charge(&mut self, charge: Charge) -> Result<(), Refusal> {
        room_for("charges", self.charges.len(), CHARGES_MAX)?;
        self.charges.push(charge);
        Ok(())
    }

    fn book(&mut self, call: &Call<'_>) -> &mut Book {
        if is_sandbox(call) { &mut self.sandbox } else { &mut self.real }
    }

    fn find(&mut self, call: &Call<'_>) -> Result<&mut Registration, Refusal> {
        let domain = call.decoded("domain").to_ascii_lowercase();
        let found = self.book(call).get_mut(&domain);
        let mine = found.filter(|found| found.account == call.param("account_id"));
        mine.ok_or_else(|| Refusal::missing(10_404, format!("No registration of {domain}")))
    }

    fn is_taken(&mut self, call: &Call<'_>, domain: &str) -> bool {
        price::is_somebody_elses(domain) || self.book(call).contains_key(domain)
    }
}

impl Registration {
    fn new(call: &Call<'_>, domain: &str, order: &Order, wait: Duration) -> Self {
        let outcome = match domain {
            domain if domain.starts_with("fail") => Outcome::Failed,
            domain if domain.starts_with("stuck") => Outcome::ActionRequired,
            _ => Outcome::Succeeded,
        };
        let slow = if domain.starts_with("slow") { wait } else { Duration::ZERO };
        Self {
            account: call.param("account_id").to_owned(),
            domain: domain.to_owned(),
            auto_renew: order.auto_renew.unwrap_or(false),
            privacy: order.privacy_mode.clone().unwrap_or_else(|| "redaction".to_owned()),
            created_at: call.now,
            expires_at: later(call.now, YEAR * u32::from(order.years())),
            settled_at: later(call.now, slow),
            outcome,
        }
    }

    fn state(&self, now: Timestamp) -> &'static str {
        match self.outcome {
            _ if now < self.settled_at => "in_progress",
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::ActionRequired => "action_required",
        }
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        now >= self.settled_at && self.outcome != Outcome::ActionRequired
    }

    fn to_json(&self, now: Timestamp) -> Value {
        let active = self.state(now) == "succeeded";
        json!({
            "domain_name": self.domain,
            "status": if active { "active" } else { "registration_pending" },
            "auto_renew": self.auto_renew,
            "locked": active,
            "privacy_mode": self.privacy,
            "created_at": stamp(self.created_at),
            "expires_at": active.then(|| stamp(self.expires_at)),
        })
    }

    /// The state of the work, as `registration-status` tells it.
    fn workflow(&self, call: &Call<'_>) -> Value {
        let state = self.state(call.now);
        let updated = if self.is_settled(call.now) { self.settled_at } else { self.created_at };
        let desk = if is_sandbox(call) { "registrar-sandbox" } else { "registrar" };
        let account = call.param("account_id");
        let resource = format!("/accounts/{account}/{desk}/registrations/{}", self.domain);
        let mut workflow = json!({
            "state": state,
            "completed": self.is_settled(call.now),
            "created_at": stamp(self.created_at),
            "updated_at": stamp(updated),
            "context": { "domain_name": self.domain },
            "links": { "self": format!("{resource}/registration-status"), "resource": resource },
        });
        if let (true, Some(workflow)) = (state == "failed", workflow.as_object_mut()) {
            let error = json!({ "code": "registry_rejected", "message": "The registry said no" });
            workflow.insert("error".to_owned(), error);
        }
        workflow
    }
}

#[derive(Deserialize)]
struct Order {
    domain_name: String,
    years: Option<u8>,
    auto_renew: Option<bool>,
    privacy_mode: Option<String>,
}

impl Order {
    fn years(&self) -> u8 {
        self.years.unwrap_or(1)
    }
}

#[derive(Deserialize)]
struct Question {
    domains: Vec<String>,
}

/// What could be registered: the query's label under a few extensions. Not authoritative.
fn search(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.query.text("q").unwrap_or_default().to_ascii_lowercase();
    let label: String = wanted.split('.').next().unwrap_or_default().replace(' ', "");
    if label.is_empty() {
        return Err(Refusal::bad(10_001, "The query parameter q is required"));
    }
    let limit = call.query.number("limit").unwrap_or(20).clamp(1, 50);
    let asked: Vec<_> = call.query.all("extensions").collect();
    let extensions = price::EXTENSIONS.iter().map(|extension| extension.name);
    let extensions = extensions.filter(|name| asked.is_empty() || asked.contains(name));
    let domains = extensions.map(|name| format!("{label}.{name}")).filter(|name| is_domain(name));
    let domains: Vec<_> = domains.take(limit).map(|name| offer(world, call, &name)).collect();
    Ok(Answer::result(json!({ "domains": domains })))
}

/// Live prices. It changes nothing, though it is a POST.
fn check(world: &mut World, call: &Call<'_>) -> Reply {
    let Question { domains } = call.json()?;
    if domains.is_empty() || domains.len() > CHECKED_MAX {
        return Err(Refusal::bad(10_001, "domains must hold between 1 and 20 names"));
    }
    let offers: Vec<_> = domains.iter().map(|name| offer(world, call, name)).collect();
    Ok(Answer::result(json!({ "domains": offers })))
}

fn offer(world: &mut World, call: &Call<'_>, name: &str) -> Value {
    let name = name.to_ascii_lowercase();
    let reason = |reason: &str| json!({ "name": name, "registrable": false, "reason": reason });
    let Some(extension) = price::extension(&name).filter(|_| is_domain(&name)) else {
        return reason("extension_not_supported");
    };
    if world.registrar.is_taken(call, &name) {
        return reason("domain_unavailable");
    }
    let tier = price::tier(&name);
    let (registration, renewal) = extension.prices(tier);
    let mut offer = json!({
        "name": name,
        "registrable": tier == Tier::Standard,
        "tier": tier.word(),
        "pricing": { "currency": "USD", "registration_cost": registration.to_string(),
                     "renewal_cost": renewal.to_string() },
    });
    if let (Tier::Premium, Some(offer)) = (tier, offer.as_object_mut()) {
        offer.insert("reason".to_owned(), "domain_premium".into());
    }
    offer
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let order: Order = call.json()?;
    let domain = order.domain_name.to_ascii_lowercase();
    let account = call.param("account_id");
    let known = world.registrar.book(call).get(&domain);
    if let Some(known) = known.filter(|known| known.account == account) {
        return Ok(told(known, call, StatusCode::OK));
    }
    let amount = quote(world, call, &domain, &order)?;
    let wait = world.registrar.wait;
    let registration = Registration::new(call, &domain, &order, wait);
    if registration.outcome == Outcome::Succeeded && !is_sandbox(call) {
        world.registrar.charge(Charge {
            at: call.now,
            account: call.param("account_id").to_owned(),
            what: domain.clone(),
            periods: order.years(),
            amount,
            token: call.token.clone(),
        })?;
    }
    let answer = told(&registration, call, StatusCode::CREATED);
    // What failed is not remembered: the name is free to be asked for again.
    if registration.outcome != Outcome::Failed {
        world.registrar.book(call).insert(domain, registration);
    }
    Ok(answer)
}

/// What an order costs, if it can be filled.
fn quote(
    world: &mut World,
    call: &Call<'_>,
    domain: &str,
    order: &Order,
) -> Result<Cents, Refusal> {
    let extension = price::extension(domain).filter(|_| is_domain(domain));
    let unsupported = || Refusal::bad(10_010, "extension_not_supported");
    let extension = extension.ok_or_else(unsupported)?;
    if !(1..=10).contains(&order.years()) {
        return Err(Refusal::bad(10_001, "years must be between 1 and 10"));
    }
    if world.registrar.is_taken(call, domain) {
        return Err(Refusal::new(StatusCode::CONFLICT, 10_011, "domain_unavailable"));
    }
    if price::tier(domain) == Tier::Premium {
        return Err(Refusal::bad(10_012, "domain_premium"));
    }
    room_for("domains", world.registrar.book(call).len(), DOMAINS_MAX)?;
    let (first, renewal) = extension.prices(Tier::Standard);
    Ok(first.plus(renewal.times(u32::from(order.years() - 1))))
}

/// `done` when the work is over, 202 while it is not or the caller would not wait.
fn told(registration: &Registration, call: &Call<'_>, done: StatusCode) -> Answer {
    let patient = call.header("prefer").is_none_or(|prefer| !prefer.contains("respond-async"));
    let over = registration.is_settled(call.now);
    let status = if over && patient { done } else { StatusCode::ACCEPTED };
    Answer::result(registration.workflow(call)).with_status(status)
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let book = world.registrar.book(call).values();
    let mine = book.filter(|one| one.account == call.param("account_id"));
    let registrations: Vec<_> = mine.collect();
    let slice = by_cursor(call, &registrations, "per_page", PageSize { usual: 20, max: 50 })?;
    let shown: Vec<_> = slice.items.iter().map(|one| one.to_json(call.now)).collect();
    let info = json!({ "count": shown.len(), "per_page": slice.per_page, "cursor": slice.cursor });
    Ok(Answer::listed(shown, info))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.registrar.find(call)?.to_json(call.now)))
}

fn edit(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let registration = world.registrar.find(call)?;
    if let Some(auto_renew) = wanted.get("auto_renew").and_then(Value::as_bool) {
        registration.auto_renew = auto_renew;
    }
    Ok(told(registration, call, StatusCode::OK))
}

fn status(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.registrar.find(call)?.workflow(call)))
}

fn extensions(_: &mut World, call: &Call<'_>) -> Reply {
    let slice = by_cursor(call, price::EXTENSIONS, "per_page", PageSize { usual: 20, max: 50 })?;
    let shown: Vec<_> = slice.items.iter().map(price::Extension::to_json).collect();
    let info = json!({ "count": shown.len(), "per_page": slice.per_page, "cursor": slice.cursor });
    Ok(Answer::listed(shown, info))
}

fn extension(_: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.param("extension");
    let found = price::EXTENSIONS.iter().find(|extension| extension.name == wanted);
    let found = found.ok_or_else(|| Refusal::missing(10_404, "No such extension"))?;
    Ok(Answer::result(found.to_json()))
}

fn is_sandbox(call: &Call<'_>) -> bool {
    call.path.contains("/registrar-sandbox/")
}

/// Names in one question.
const CHECKED_MAX: usize = 20;

/// Domains an account may have, as the real quota is.
const DOMAINS_MAX: usize = 500;

/// Charges remembered. When full, calls that charge are refused: a ledger does not forget.
const CHARGES_MAX: usize = 10_000;
