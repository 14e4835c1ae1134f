//! Versions of a script, and which of them are deployed.
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::multipart::Part;
use crate::paging::{PageSize, page};
use crate::route::Route;
use crate::worker::{Script, form, source_of};
use crate::world::{Store, World};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/workers/scripts/{script}/settings", settings),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/script-settings", own_settings),
    Route::patch("/accounts/{account_id}/workers/scripts/{script}/script-settings", set),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/versions", list),
    Route::post("/accounts/{account_id}/workers/scripts/{script}/versions", upload),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/versions/{version_id}", show),
    Route::get("/accounts/{account_id}/workers/scripts/{script}/deployments", deployments),
    Route::post("/accounts/{account_id}/workers/scripts/{script}/deployments", deploy),
    Route::get(
        "/accounts/{account_id}/workers/scripts/{script}/deployments/{deployment_id}",
        deployment,
    ),
];

/// One upload.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) id: String,
    /// Who uploaded it.
    pub(crate) source: &'static str,
    pub(crate) metadata: Map<String, Value>,
    modules: Vec<Part>,
    /// Counts from 1 and never back.
    number: u64,
    created_on: Timestamp,
}

impl Version {
    pub(crate) fn new(
        id: String,
        source: &'static str,
        metadata: Map<String, Value>,
        modules: Vec<Part>,
        now: Timestamp,
    ) -> Self {
        Self { id, source, metadata, modules, number: 1, created_on: now }
    }

    /// Bytes of its modules.
    pub(crate) fn len(&self) -> usize {
        self.modules.iter().map(|part| part.bytes.len()).sum()
    }

    /// The module that the others hang on.
    pub(crate) fn main(&self) -> Option<&Part> {
        let name = self.metadata.get("main_module");
        let name = name.or_else(|| self.metadata.get("body_part"));
        let name = name?.as_str()?;
        self.modules.iter().find(|part| part.is_file(name))
    }

    pub(crate) fn bindings(&self) -> Vec<Value> {
        self.metadata.get("bindings").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    fn to_json(&self) -> Value {
        let annotations = self.metadata.get("annotations").cloned();
        json!({ "id": self.id, "number": self.number,
                "annotations": annotations.unwrap_or_else(|| json!({})),
                "metadata": { "created_on": stamp(self.created_on),
                              "modified_on": stamp(self.created_on), "source": self.source,
                              "author_email": "user@example.com", "hasPreview": false } })
    }
}

/// Which versions answer, and how much each.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    id: String,
    source: &'static str,
    versions: Value,
    annotations: Value,
    created_on: Timestamp,
}

impl Deployment {
    /// All of the traffic to the youngest version.
    pub(crate) fn whole(id: String, script: &Script, now: Timestamp) -> Self {
        let latest = script.versions.last();
        let version_id = latest.map(|version| version.id.clone());
        Self {
            id,
            source: latest.map_or("api", |version| version.source),
            versions: json!([{ "version_id": version_id, "percentage": 100 }]),
            annotations: json!({ "workers/triggered_by": "upload" }),
            created_on: now,
        }
    }

    fn to_json(&self) -> Value {
        json!({ "id": self.id, "source": self.source, "strategy": "percentage",
                "author_email": "user@example.com", "annotations": self.annotations,
                "versions": self.versions, "created_on": stamp(self.created_on) })
    }
}

impl Script {
    /// Adds a version; bindings it inherits come from the one before. Of [`VERSIONS_MAX`], the
    /// oldest goes.
    pub(crate) fn add(&mut self, store: &mut Store, mut version: Version) -> Result<(), Refusal> {
        let before = self.bindings();
        let bindings = version.metadata.get_mut("bindings").and_then(Value::as_array_mut);
        let mut secrets = Vec::new();
        for binding in bindings.into_iter().flatten() {
            let (name, kind) = (text(binding, "name"), text(binding, "type"));
            match kind.as_str() {
                "inherit" => {
                    let old = before.iter().find(|old| text(old, "name") == name);
                    let unknown = || Refusal::bad(10_021, format!("cannot inherit binding {name}"));
                    *binding = old.ok_or_else(unknown)?.clone();
                }
                "secret_text" => {
                    secrets.push(name);
                }
                _ => {}
            }
        }
        let too_old =
            (self.versions.len() >= VERSIONS_MAX).then(|| self.versions.first()).flatten();
        store.replace(too_old.map(Version::len).unwrap_or_default(), version.len())?;
        if too_old.is_some() {
            self.versions.remove(0);
        }
        if let Some(bindings) = version.metadata.get_mut("bindings").and_then(Value::as_array_mut) {
            bindings.retain(|binding| text(binding, "type") != "secret_text");
        }
        self.secrets.extend(secrets);
        version.number = self.versions.last().map_or(1, |last| last.number + 1);
        self.versions.push(version);
        Ok(())
    }

    /// Of [`VERSIONS_MAX`] deployments, the oldest goes.
    pub(crate) fn deploy(&mut self, deployment: Deployment) {
        if self.deployments.len() >= VERSIONS_MAX {
            self.deployments.remove(0);
        }
        self.deployments.push(deployment);
    }

    fn own_settings(&self) -> Value {
        let mut shown = json!({ "logpush": false, "tail_consumers": null, "tags": [] });
        if let Some(shown) = shown.as_object_mut() {
            shown.extend(self.settings.clone());
        }
        shown
    }
}

/// What a version is set to, and what the script is.
fn settings(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let mut shown = script.own_settings();
    let metadata = script.versions.last().map(|version| &version.metadata);
    let value = |name: &str| metadata.and_then(|metadata| metadata.get(name)).cloned();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("bindings".to_owned(), script.bindings().into());
        shown.insert("usage_model".to_owned(), "standard".into());
        for name in ["compatibility_date", "compatibility_flags", "placement", "limits"] {
            shown.extend(value(name).map(|value| (name.to_owned(), value)));
        }
    }
    Ok(Answer::result(shown))
}

fn own_settings(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.workers.find(call)?.own_settings()))
}

fn set(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let script = world.workers.find(call)?;
    let known = |(name, _): &(String, Value)| SETTINGS.contains(&name.as_str());
    script.settings.extend(wanted.into_iter().filter(known));
    Ok(Answer::result(script.own_settings()))
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let versions: Vec<_> = script.versions.iter().rev().map(Version::to_json).collect();
    let (shown, info) = page(call, &versions, PageSize { usual: 10, max: 100 });
    // The page stands under `items` here, unlike in other lists.
    Ok(Answer::listed(json!({ "items": shown }), info))
}

/// Makes a version without deploying it.
fn upload(world: &mut World, call: &Call<'_>) -> Reply {
    let (metadata, modules) = form(call)?;
    world.workers.assets.check(call, &metadata)?;
    let id = world.ids.uuid();
    let World { workers, store, .. } = world;
    let script = workers.find(call)?;
    script.add(store, Version::new(id, source_of(call), metadata, modules, call.now))?;
    let made = script.versions.last().map(|version| detailed(script, version));
    Ok(Answer::result(made.unwrap_or_default()))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let id = call.param("version_id");
    let found = script.versions.iter().find(|version| version.id == id);
    let missing = || Refusal::missing(10_007, "This version does not exist.");
    Ok(Answer::result(detailed(script, found.ok_or_else(missing)?)))
}

fn detailed(script: &Script, version: &Version) -> Value {
    let mut shown = version.to_json();
    let date = version.metadata.get("compatibility_date");
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("startup_time_ms".to_owned(), 7.into());
        let resources = json!({
            "script": { "etag": version.id.replace('-', ""), "handlers": ["fetch"],
                        "last_deployed_from": version.source },
            "script_runtime": { "compatibility_date": date, "usage_model": "standard" },
            "bindings": script.bindings(),
        });
        shown.insert("resources".to_owned(), resources);
    }
    shown
}

fn deployments(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let all: Vec<_> = script.deployments.iter().rev().map(Deployment::to_json).collect();
    let (shown, _) = page(call, &all, PageSize { usual: VERSIONS_MAX, max: VERSIONS_MAX });
    // `items` is where the SDK looks, `deployments` where wrangler does.
    Ok(Answer::result(json!({ "deployments": shown, "items": shown })))
}

fn deployment(world: &mut World, call: &Call<'_>) -> Reply {
    let script = world.workers.find(call)?;
    let id = call.param("deployment_id");
    let found = script.deployments.iter().find(|deployment| deployment.id == id);
    let missing = || Refusal::missing(10_007, "This deployment does not exist.");
    Ok(Answer::result(found.ok_or_else(missing)?.to_json()))
}

#[derive(Deserialize)]
struct Wanted {
    versions: Vec<Share>,
    annotations: Option<Value>,
}

#[derive(Deserialize)]
struct Share {
    version_id: String,
    percentage: f64,
}

fn deploy(world: &mut World, call: &Call<'_>) -> Reply {
    let Wanted { versions, annotations } = call.json()?;
    let id = world.ids.uuid();
    let script = world.workers.find(call)?;
    let known =
        |share: &Share| script.versions.iter().any(|version| version.id == share.version_id);
    if versions.is_empty() || !versions.iter().all(known) {
        return Err(Refusal::bad(10_021, "versions must name versions of this Worker"));
    }
    let total: f64 = versions.iter().map(|share| share.percentage).sum();
    if (total - 100.0).abs() > 0.001 {
        return Err(Refusal::bad(10_021, "percentages must add up to 100"));
    }
    let shares = versions
        .iter()
        .map(|share| json!({ "version_id": share.version_id, "percentage": share.percentage }));
    let deployment = Deployment {
        id,
        source: source_of(call),
        versions: shares.collect(),
        annotations: annotations.unwrap_or_else(|| json!({ "workers/triggered_by": "deployment" })),
        created_on: call.now,
    };
    script.deploy(deployment.clone());
    Ok(Answer::result(deployment.to_json()))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What `script-settings` takes.
const SETTINGS: &[&str] = &["logpush", "tail_consumers", "tags", "observability"];

/// Versions of one script, and deployments, that are remembered.
const VERSIONS_MAX: usize = 100;
