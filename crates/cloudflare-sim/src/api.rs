//! The API: who calls, what they have left, which handler answers.
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::call::Call;
use crate::clock::Clock;
use crate::desk::Served;
use crate::envelope::{Answer, Refusal, Reply};
use crate::options::{Options, Permission};
use crate::path::Query;
use crate::price::Charge;
use crate::quota::{Counts, Drawn, Left};
use crate::route::{Found, Guard, Route, Table};
use crate::token::Caller;
use crate::world::{World, is_identifier};
use crate::{account, ai, asset, d1, dns, dns_file, graphql, ip, kv, kv_bulk, r2, registrar};
use crate::{token, user, worker, worker_part, worker_version, zone, zone_plan};

/// Every room's table, in order.
pub(crate) const ROOMS: &[&[Route]] = &[
    zone::ROUTES,
    // Before the records, whose identifiers would take `export` for one.
    dns_file::ROUTES,
    dns::ROUTES,
    zone_plan::ROUTES,
    user::ROUTES,
    token::ROUTES,
    account::ROUTES,
    registrar::ROUTES,
    worker::ROUTES,
    worker_part::ROUTES,
    worker_version::ROUTES,
    asset::ROUTES,
    kv::ROUTES,
    kv_bulk::ROUTES,
    r2::ROUTES,
    d1::ROUTES,
    ai::ROUTES,
    graphql::ROUTES,
    ip::ROUTES,
];

/// The API and its content.
#[derive(Debug)]
pub(crate) struct Api {
    options: Options,
    table: Table,
    clock: Arc<dyn Clock>,
    world: Mutex<World>,
    counts: Mutex<Counts>,
}

impl Api {
    pub(crate) fn new(options: &Options) -> Self {
        let clock = Arc::clone(&options.clock);
        Self {
            table: Table::new(ROOMS),
            world: Mutex::new(World::new(options, clock.now())),
            counts: Mutex::new(Counts::new(options.quota)),
            options: options.clone(),
            clock,
        }
    }

    pub(crate) fn reset(&self) {
        *self.world.lock() = World::new(&self.options, self.now());
        *self.counts.lock() = Counts::new(self.options.quota);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn untouched(&self) -> Left {
        self.counts.lock().untouched()
    }

    pub(crate) fn policy(&self) -> String {
        self.counts.lock().policy()
    }

    pub(crate) fn charges(&self) -> Vec<Charge> {
        self.world.lock().registrar.charges.clone()
    }

    pub(crate) fn account_id(&self) -> String {
        self.world.lock().accounts.first().map(|account| account.id.clone()).unwrap_or_default()
    }

    pub(crate) fn zone_id(&self, name: &str) -> Option<String> {
        let world = self.world.lock();
        world.zones.iter().find(|zone| zone.name == name).map(|zone| zone.id.clone())
    }

    /// Answers one call.
    pub(crate) fn call(&self, head: &Parts, body: Bytes) -> Served {
        let Some(path) = head.uri.path().strip_prefix("/client/v4") else {
            return Answer::from(Refusal::no_route(head.uri.path())).into();
        };
        let found = self.table.find(&head.method, path);
        let identified = match &found {
            Found::Route { route, .. } if route.guard != Guard::Credential => Ok(None),
            _ => self.identify(&head.headers, path).map(Some),
        };
        let caller = match identified {
            Ok(caller) => caller,
            Err(refusal) => return Answer::from(refusal).into(),
        };
        let left = match caller.as_ref().map(|caller| self.draw(caller)) {
            Some(Drawn::Blocked { retry_after_s }) => return throttled(retry_after_s),
            Some(Drawn::Yes(left)) => Some(left),
            None => None,
        };
        let reply = self.handle(head, found, caller, body);
        Served { answer: reply.unwrap_or_else(Answer::from), left }
    }

    fn identify(&self, headers: &HeaderMap, path: &str) -> Result<Caller, Refusal> {
        let verifying = path.ends_with("/tokens/verify");
        self.world.lock().tokens.identify(headers, self.now(), verifying)
    }

    fn draw(&self, caller: &Caller) -> Drawn {
        self.counts.lock().draw(&caller.id, self.now())
    }

    fn handle(&self, head: &Parts, found: Found<'_>, caller: Option<Caller>, body: Bytes) -> Reply {
        let path = head.uri.path();
        let (route, params) = match found {
            Found::Route { route, params } => (route, params),
            Found::OtherMethod => return Err(no_method(head)),
            Found::Nothing => return Err(Refusal::no_route(path)),
        };
        if caller.as_ref().is_some_and(|caller| !may(caller, route)) {
            return Err(Refusal::forbidden(10_000, "Authentication error"));
        }
        let call = Call {
            now: self.now(),
            path,
            headers: &head.headers,
            query: Query::new(head.uri.query()),
            body,
            params,
            token: caller.map(|caller| caller.id).unwrap_or_default(),
        };
        let mut world = self.world.lock();
        check_identifiers(&world, &call)?;
        (route.handler)(&mut world, &call)
    }
}

fn may(caller: &Caller, route: &Route) -> bool {
    route.reads || caller.permission == Permission::All
}

/// An account or a zone in the path must look like one, and an account must be the caller's.
fn check_identifiers(world: &World, call: &Call<'_>) -> Result<(), Refusal> {
    for name in ["account_id", "zone_id"] {
        let id = call.param(name);
        if !id.is_empty() && !is_identifier(id) {
            return Err(Refusal::bad_identifier(call.path));
        }
    }
    if call.param("account_id").is_empty() { Ok(()) } else { world.account(call).map(|_| ()) }
}

fn no_method(head: &Parts) -> Refusal {
    let message = format!("Method {} not available for that URI.", head.method);
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 7001, message)
}

fn throttled(retry_after_s: u64) -> Served {
    let message = "Please wait and consider throttling your request speed";
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, 971, message);
    let left = Some(Left { calls: 0, resets_in_s: retry_after_s });
    Served { answer: refusal.retry_after(retry_after_s).into(), left }
}

/// `null`, for results that say nothing.
pub(crate) const NOTHING: Value = Value::Null;
