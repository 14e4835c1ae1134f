//! Workers: scripts and how they are uploaded.
use std::collections::{BTreeMap, BTreeSet};

use http::header::USER_AGENT;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::NOTHING;
use crate::asset::Desk;
use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::multipart::{Part, parts};
use crate::route::Route;
use crate::worker_version::{Deployment, Version};
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/workers/scripts", list),
    Route::get("/accounts/{account_id}/workers/scripts/{script}", source),
    Route::put("/accounts/{account_id}/workers/scripts/{script}", upload),
    Route::delete("/accounts/{account_id}/workers/scripts/{script}", delete),
    Route::get("/accounts/{account_id}/workers/services/{script}", service),
    Route::delete("/accounts/{account_id}/workers/services/{script}", delete),
    Route::get(
        "/accounts/{account_id}/workers/services/{script}/environments/{environment}/bindings",
        bindings,
    ),
];

/// Every script, and what belongs to none of them.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    /// By account and name.
    scripts: BTreeMap<(String, String), Script>,
    /// The `workers.dev` name of each account that has one.
    pub(crate) subdomains: BTreeMap<String, String>,
    pub(crate) assets: Desk,
}

/// A script.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    tag: String,
    /// Oldest first; never empty.
    pub(crate) versions: Vec<Version>,
    /// Oldest first.
    pub(crate) deployments: Vec<Deployment>,
    /// What `script-settings` shows.
    pub(crate) settings: Map<String, Value>,
    pub(crate) on_subdomain: bool,
    pub(crate) previews: bool,
    pub(crate) schedules: Vec<Value>,
    /// Their names; what they hold is forgotten at once.
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) tails: Vec<String>,
    pub(crate) created_on: Timestamp,
    pub(crate) modified_on: Timestamp,
}

impl Script {
    fn new(name: &str, tag: String, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            tag,
            versions: Vec::new(),
            deployments: Vec::new(),
            settings: Map::new(),
            on_subdomain: false,
            previews: false,
            schedules: Vec::new(),
            secrets: BTreeSet::new(),
            tails: Vec::new(),
            created_on: now,
            modified_on: now,
        }
    }

    /// The youngest version's metadata.
    fn metadata(&self, name: &str) -> Value {
        let latest = self.versions.last();
        latest.and_then(|version| version.metadata.get(name)).cloned().unwrap_or(NOTHING)
    }

    pub(crate) fn to_json(&self) -> Value {
        let latest = self.versions.last();
        let has_modules = self.metadata("main_module").is_string();
        json!({
            "id": self.name,
            "tag": self.tag,
            "tags": self.settings.get("tags").cloned().unwrap_or_else(|| json!([])),
            "etag": latest.map(|version| version.id.replace('-', "")),
            "deployment_id": latest.map(|version| version.id.replace('-', "")),
            "handlers": ["fetch"],
            "has_assets": self.metadata("assets").is_object(),
            "has_modules": has_modules,
            "compatibility_date": self.metadata("compatibility_date"),
            "usage_model": "standard",
            "logpush": false,
            "last_deployed_from": latest.map(|version| version.source),
            "startup_time_ms": 7,
            "created_on": stamp(self.created_on),
            "modified_on": stamp(self.modified_on),
        })
    }

    /// The bindings of the youngest version, and the secrets' names.
    pub(crate) fn bindings(&self) -> Vec<Value> {
        let latest = self.versions.last().map(Version::bindings).unwrap_or_default();
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|name| json!({ "name": name, "type": "secret_text" }));
        latest.iter().cloned().chain(secrets).collect()
    }
}

impl Workers {
    pub(crate) fn find(&mut self, call: &Call<'_>) -> Result<&mut Script, Refusal> {
        let missing = "This Worker does not exist on your account.";
        self.scripts.get_mut(&key(call)).ok_or_else(|| Refusal::missing(10_007, missing))
    }

    fn of<'w>(&'w self, account_id: &'w str) -> impl Iterator<Item = &'w Script> {
        let scripts = self.scripts.iter();
        scripts.filter(move |((owner, _), _)| owner == account_id).map(|(_, script)| script)
    }
}

fn key(call: &Call<'_>) -> (String, String) {
    (call.param("account_id").to_owned(), call.decoded("script"))
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let scripts = world.workers.of(call.param("account_id"));
    Ok(Answer::result(scripts.map(Script::to_json).collect::<Vec<_>>()))
}

/// The main module as it was uploaded.
fn source(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let main = script.versions.last().and_then(Version::main);
    let bytes = main.map(|part| part.bytes.clone()).unwrap_or_default();
    Ok(Answer::raw("application/javascript", bytes))
}

/// Makes a script or its next version, and deploys it.
fn upload(world: &mut World, call: &Call<'_>) -> Reply {
    let name = call.decoded("script");
    if !is_script_name(&name) {
        return Err(Refusal::bad(10_016, "Invalid script name"));
    }
    let new = !world.workers.scripts.contains_key(&key(call));
    if new {
        room_for("scripts", world.workers.scripts.len(), SCRIPTS_MAX)?;
    }
    let (metadata, modules) = form(call)?;
    world.workers.assets.check(call, &metadata)?;
    let (id, deployment_id, tag) = (world.ids.uuid(), world.ids.uuid(), world.ids.hex32());
    let World { workers, store, .. } = world;
    let mut fresh = new.then(|| Script::new(&name, tag, call.now));
    let script = match fresh.as_mut() {
        Some(script) => script,
        None => workers.find(call)?,
    };
    let version = Version::new(id, source_of(call), metadata, modules, call.now);
    script.add(store, version)?;
    script.deploy(Deployment::whole(deployment_id, script, call.now));
    script.modified_on = call.now;
    let shown = script.to_json();
    if let Some(script) = fresh {
        workers.scripts.insert(key(call), script);
    }
    Ok(Answer::result(shown))
}

/// The form of an upload: its `metadata`, and the modules, of which one is the main one.
pub(crate) fn form(call: &Call<'_>) -> Result<(Map<String, Value>, Vec<Part>), Refusal> {
    let invalid = |why: &str| Refusal::bad(10_021, format!("Uncaught error: {why}"));
    let mut parts = parts(call.content_type(), &call.body)?;
    let index = parts.iter().position(|part| part.name == "metadata");
    let metadata = parts.remove(index.ok_or_else(|| invalid("the part 'metadata' is missing"))?);
    let metadata: Map<String, Value> = serde_json::from_slice(&metadata.bytes)
        .map_err(|_| invalid("the part 'metadata' is no JSON object"))?;
    let named = |name: &str| metadata.get(name).and_then(Value::as_str);
    let main = named("main_module").or_else(|| named("body_part"));
    match main {
        Some(main) if parts.iter().any(|part| part.is_file(main)) => Ok((metadata, parts)),
        Some(main) => Err(invalid(&format!("No such module \"{main}\""))),
        // A Worker may be nothing but assets.
        None if metadata.contains_key("assets") => Ok((metadata, parts)),
        None => Err(invalid("metadata names no main_module")),
    }
}

/// Deletes a script, and the account's routes to it.
fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let name = world.workers.find(call)?.name.clone();
    let account_id = call.param("account_id");
    for zone in world.zones.iter_mut().filter(|zone| zone.account.id == account_id) {
        zone.routes.retain(|(_, _, script)| script.as_ref() != Some(&name));
    }
    if let Some(script) = world.workers.scripts.remove(&key(call)) {
        world.store.give_back(script.versions.iter().map(Version::len).sum());
    }
    Ok(Answer::result(json!({ "id": NOTHING })))
}

/// What every deployment asks first. A new Worker is told by the code 10090.
fn service(world: &mut World, call: &Call<'_>) -> Reply {
    let missing = |_| Refusal::missing(10_090, "This Worker does not exist on your account.");
    let script = world.workers.find(call).map_err(missing)?;
    let (created_on, modified_on) = (stamp(script.created_on), stamp(script.modified_on));
    let environment = json!({ "environment": ENVIRONMENT, "created_on": created_on,
                              "modified_on": modified_on, "script": script.to_json() });
    Ok(Answer::result(json!({
        "id": script.name,
        "usage_model": "standard",
        "created_on": created_on,
        "modified_on": modified_on,
        "environments": [environment],
        "default_environment": environment,
    })))
}

fn bindings(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.workers.find(call)?.bindings()))
}

/// What the caller is, in the API's word.
pub(crate) fn source_of(call: &Call<'_>) -> &'static str {
    let agent = call.header(USER_AGENT.as_str()).unwrap_or_default();
    if agent.starts_with("wrangler/") { "wrangler" } else { "api" }
}

fn is_script_name(name: &str) -> bool {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('-')
}

/// The one environment of every script.
const ENVIRONMENT: &str = "production";

const SCRIPTS_MAX: usize = 1_000;
