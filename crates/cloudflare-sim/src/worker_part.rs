//! What hangs on a script: its names, routes, schedules, secrets and tails.
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::NOTHING;
use crate::call::Call;
use crate::clock::{later, stamp};
use crate::envelope::{Answer, Refusal, Reply};
use crate::route::Route;
use crate::worker::Script;
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/workers/subdomain", subdomain),
    Route::put("/accounts/{account_id}/workers/subdomain", rename),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/subdomain", presence),
    Route::post("/accounts/{account_id}/workers/scripts/{script}/subdomain", set_presence),
    Route::put("/accounts/{account_id}/workers/scripts/{script}/routes", publish),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/schedules", schedules),
    Route::put("/accounts/{account_id}/workers/scripts/{script}/schedules", schedule),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/secrets", secrets),
    Route::put("/accounts/{account_id}/workers/scripts/{script}/secrets", keep),
    Route::delete("/accounts/{account_id}/workers/scripts/{script}/secrets/{name}", forget),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/tails", tails),
    Route::post("/accounts/{account_id}/workers/scripts/{script}/tails", tail),
    Route::delete("/accounts/{account_id}/workers/scripts/{script}/tails/{id}", untail),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/references", references),
    Route::get("/accounts/{account_id}/workers/tails/by-consumer/{script}", nobody),
    Route::get("/zones/{zone_id}/workers/routes", routes),
    Route::post("/zones/{zone_id}/workers/routes", add_route),
    Route::delete("/zones/{zone_id}/workers/routes/{route_id}", remove_route),
];

/// The account's `workers.dev` name.
fn subdomain(world: &mut World, call: &Call<'_>) -> Reply {
    let found = world.workers.subdomains.get(call.param("account_id"));
    let name = found.map_or(SUBDOMAIN, String::as_str);
    Ok(Answer::result(json!({ "subdomain": name })))
}

#[derive(Deserialize)]
struct Named {
    subdomain: String,
}

fn rename(world: &mut World, call: &Call<'_>) -> Reply {
    let Named { subdomain: name } = call.json()?;
    world.workers.subdomains.insert(call.param("account_id").to_owned(), name);
    subdomain(world, call)
}

fn presence(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(present(world.workers.find(call)?))
}

#[derive(Deserialize)]
struct Presence {
    enabled: bool,
    previews_enabled: Option<bool>,
}

fn set_presence(world: &mut World, call: &Call<'_>) -> Reply {
    let Presence { enabled, previews_enabled } = call.json()?;
    let script = world.workers.find(call)?;
    script.on_subdomain = enabled;
    script.previews = previews_enabled.unwrap_or(enabled);
    Ok(present(script))
}

fn present(script: &Script) -> Answer {
    let (enabled, previews) = (script.on_subdomain, script.previews);
    Answer::result(json!({ "enabled": enabled, "previews_enabled": previews }))
}

/// A route as wrangler writes it: a pattern, alone or beside its zone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pattern {
    Plain(String),
    Zoned { pattern: String },
}

/// Puts the script on these routes and no others. A pattern belongs to the zone its host is in.
fn publish(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted: Vec<Pattern> = call.json()?;
    let name = world.workers.find(call)?.name.clone();
    let patterns: Vec<_> = wanted
        .into_iter()
        .map(|(Pattern::Plain(pattern) | Pattern::Zoned { pattern })| pattern)
        .collect();
    let hosts: Result<Vec<_>, _> = patterns.iter().map(|pattern| zone_of(world, pattern)).collect();
    let hosts = hosts?;
    for zone in &mut world.zones {
        zone.routes.retain(|(_, _, script)| script.as_ref() != Some(&name));
    }
    for (index, pattern) in hosts.into_iter().zip(&patterns) {
        let id = world.ids.hex32();
        if let Some(zone) = world.zones.get_mut(index) {
            room_for("routes", zone.routes.len(), ROUTES_MAX)?;
            zone.routes.push((id, pattern.clone(), Some(name.clone())));
        }
    }
    Ok(Answer::result(patterns))
}

/// Where among the zones the host of a pattern belongs.
fn zone_of(world: &World, pattern: &str) -> Result<usize, Refusal> {
    let host = pattern.split('/').next().unwrap_or_default().trim_start_matches(['*', '.']);
    let belongs = |name: &str| {
        host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let found = world.zones.iter().position(|zone| belongs(&zone.name));
    found.ok_or_else(|| Refusal::bad(10_020, format!("no zone of yours holds {pattern}")))
}

fn schedules(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(json!({ "schedules": world.workers.find(call)?.schedules })))
}

#[derive(Deserialize)]
struct Cron {
    cron: String,
}

fn schedule(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted: Vec<Cron> = call.json()?;
    room_for("schedules", wanted.len(), SCHEDULES_MAX + 1)?;
    let at = stamp(call.now);
    let made = wanted
        .iter()
        .map(|Cron { cron }| json!({ "cron": cron, "created_on": at, "modified_on": at }));
    world.workers.find(call)?.schedules = made.collect();
    schedules(world, call)
}

fn secrets(world: &mut World, call: &Call<'_>) -> Reply {
    let names = world.workers.find(call)?.secrets.iter();
    Ok(Answer::result(names.map(|name| secret(name)).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
struct Secret {
    name: String,
}

fn keep(world: &mut World, call: &Call<'_>) -> Reply {
    let Secret { name } = call.json()?;
    let script = world.workers.find(call)?;
    room_for("secrets", script.secrets.len(), SECRETS_MAX)?;
    let shown = secret(&name);
    script.secrets.insert(name);
    Ok(Answer::result(shown))
}

fn forget(world: &mut World, call: &Call<'_>) -> Reply {
    if world.workers.find(call)?.secrets.remove(&call.decoded("name")) {
        return Ok(Answer::result(NOTHING));
    }
    Err(Refusal::missing(10_056, "Binding not found"))
}

fn secret(name: &str) -> Value {
    json!({ "name": name, "type": "secret_text" })
}

fn tails(world: &mut World, call: &Call<'_>) -> Reply {
    let tails = world.workers.find(call)?.tails.iter();
    Ok(Answer::result(tails.map(|id| json!({ "id": id })).collect::<Vec<_>>()))
}

/// Opens a tail: its address is on another host, and nobody listens there.
fn tail(world: &mut World, call: &Call<'_>) -> Reply {
    let id = world.ids.uuid();
    let script = world.workers.find(call)?;
    room_for("tails", script.tails.len(), TAILS_MAX)?;
    script.tails.push(id.clone());
    let url = format!("wss://tail.developers.workers.dev.invalid/{id}");
    let expires_at = stamp(later(call.now, TAIL));
    Ok(Answer::result(json!({ "id": id, "url": url, "expires_at": expires_at })))
}

fn untail(world: &mut World, call: &Call<'_>) -> Reply {
    let id = call.param("id");
    world.workers.find(call)?.tails.retain(|tail| tail != id);
    Ok(Answer::result(NOTHING))
}

fn references(world: &mut World, call: &Call<'_>) -> Reply {
    world.workers.find(call)?;
    Ok(Answer::result(json!({ "services": { "incoming": [], "outgoing": [] },
                              "durable_objects": [], "dispatch_outbounds": [] })))
}

fn nobody(_: &mut World, _: &Call<'_>) -> Reply {
    Ok(Answer::result(json!([])))
}

fn routes(world: &mut World, call: &Call<'_>) -> Reply {
    let routes = world.zone(call)?.routes.iter();
    let shown = routes
        .map(|(id, pattern, script)| json!({ "id": id, "pattern": pattern, "script": script }));
    Ok(Answer::result(shown.collect::<Vec<_>>()))
}

#[derive(Deserialize)]
struct Draft {
    pattern: String,
    script: Option<String>,
}

fn add_route(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { pattern, script } = call.json()?;
    let id = world.ids.hex32();
    let zone = world.zone(call)?;
    room_for("routes", zone.routes.len(), ROUTES_MAX)?;
    if zone.routes.iter().any(|(_, known, _)| *known == pattern) {
        return Err(Refusal::bad(10_020, "A route with the same pattern already exists."));
    }
    let shown = json!({ "id": id, "pattern": pattern, "script": script });
    zone.routes.push((id, pattern, script));
    Ok(Answer::result(shown))
}

fn remove_route(world: &mut World, call: &Call<'_>) -> Reply {
    let route_id = call.param("route_id");
    let zone = world.zone(call)?;
    let before = zone.routes.len();
    zone.routes.retain(|(id, _, _)| id != route_id);
    if zone.routes.len() == before {
        return Err(Refusal::missing(10_009, "The route does not exist."));
    }
    Ok(Answer::result(json!({ "id": route_id })))
}

/// What an account is called on `workers.dev` until it says otherwise.
const SUBDOMAIN: &str = "example";

/// Routes of one zone.
const ROUTES_MAX: usize = 1_000;

/// Schedules of one script.
const SCHEDULES_MAX: usize = 250;

/// Secrets of one script.
const SECRETS_MAX: usize = 128;

/// Tails of one script at once.
const TAILS_MAX: usize = 10;

/// How long a tail lasts.
const TAIL: Duration = Duration::from_secs(6 * 60 * 60);
