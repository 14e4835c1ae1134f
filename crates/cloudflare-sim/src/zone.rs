//! Zones: domains, what is set on them, and their purged caches.
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::account::Account;
use crate::call::Call;
use crate::clock::stamp;
use crate::dns::Record;
use crate::envelope::{Answer, Refusal, Reply};
use crate::id::Ids;
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::{World, room_for};
use crate::zone_plan::{self, Plan};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/zones", list),
    Route::post("/zones", create),
    Route::get("/zones/{zone_id}", show),
    Route::patch("/zones/{zone_id}", edit),
    Route::delete("/zones/{zone_id}", delete),
    Route::put("/zones/{zone_id}/activation_check", activate),
    Route::post("/zones/{zone_id}/purge_cache", purge),
    Route::get("/zones/{zone_id}/settings", settings),
    Route::patch("/zones/{zone_id}/settings", edit_settings),
    Route::get("/zones/{zone_id}/settings/{setting_id}", setting),
    Route::patch("/zones/{zone_id}/settings/{setting_id}", edit_setting),
];

/// A zone.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) plan: &'static Plan,
    pub(crate) records: Vec<Record>,
    /// Workers routes: id, pattern, script.
    pub(crate) routes: Vec<(String, String, Option<String>)>,
    pub(crate) account: Account,
    status: &'static str,
    kind: String,
    paused: bool,
    settings: Map<String, Value>,
    created_on: Timestamp,
    modified_on: Timestamp,
}

impl Zone {
    pub(crate) fn new(ids: &mut Ids, name: &str, account: &Account, now: Timestamp) -> Self {
        Self {
            id: ids.hex32(),
            name: name.to_owned(),
            plan: zone_plan::FREE,
            records: Vec::new(),
            routes: Vec::new(),
            account: account.clone(),
            status: "active",
            kind: "full".to_owned(),
            paused: false,
            settings: starting_settings(),
            created_on: now,
            modified_on: now,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "paused": self.paused,
            "type": self.kind,
            "development_mode": 0,
            "name_servers": ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"],
            "original_name_servers": null,
            "original_registrar": null,
            "original_dnshost": null,
            "modified_on": stamp(self.modified_on),
            "created_on": stamp(self.created_on),
            "activated_on": (self.status == "active").then(|| stamp(self.created_on)),
            "meta": { "step": 2, "custom_certificate_quota": 0, "page_rule_quota": 3,
                      "phishing_detected": false },
            "owner": { "id": null, "type": "user", "email": null },
            "account": { "id": self.account.id, "name": self.account.name },
            "tenant": { "id": null, "name": null },
            "tenant_unit": { "id": null },
            "permissions": ["#dns_records:edit", "#dns_records:read", "#zone:edit", "#zone:read"],
            "plan": self.plan.to_json(true),
        })
    }

    fn setting_json(&self, id: &str) -> Result<Value, Refusal> {
        let unknown = || Refusal::bad(1003, format!("Undefined zone setting: {id}"));
        let value = self.settings.get(id).ok_or_else(unknown)?;
        Ok(json!({ "id": id, "value": value, "editable": true,
                   "modified_on": stamp(self.modified_on) }))
    }

    fn set(&mut self, id: &str, value: &Value, now: Timestamp) -> Result<(), Refusal> {
        let Some(old) = self.settings.get_mut(id) else {
            return Err(Refusal::bad(1003, format!("Undefined zone setting: {id}")));
        };
        let alike = std::mem::discriminant(old) == std::mem::discriminant(value);
        if !alike {
            return Err(Refusal::bad(1007, format!("Invalid value for zone setting {id}")));
        }
        *old = value.clone();
        self.modified_on = now;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Draft {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    account: Option<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    id: Option<String>,
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let fits = |zone: &&Zone| {
        let name = call.query.text("name").is_none_or(|wanted| named(&zone.name, wanted));
        let status = call.query.text("status").is_none_or(|wanted| zone.status == wanted);
        let account = call.query.text("account.id").is_none_or(|id| zone.account.id == id);
        name && status && account
    };
    let mut zones: Vec<_> = world.zones.iter().filter(fits).collect();
    if call.query.text("order") == Some("name") {
        zones.sort_by(|one, other| one.name.cmp(&other.name));
    }
    if call.query.text("direction") == Some("desc") {
        zones.reverse();
    }
    by_page(call, &zones, PageSize { usual: 20, max: 50 }, |zone| zone.to_json())
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let draft: Draft = call.json()?;
    let name = draft.name.to_ascii_lowercase();
    if !is_domain(&name) {
        return Err(Refusal::bad(1049, format!("{name} is not a registered domain")));
    }
    if world.zones.iter().any(|zone| zone.name == name) {
        return Err(Refusal::bad(1061, format!("{name} already exists")));
    }
    room_for("zones", world.zones.len(), ZONES_MAX)?;
    let wanted = draft.account.and_then(|owner| owner.id);
    let mut owners = world.accounts.iter();
    let owner = owners.find(|account| wanted.as_ref().is_none_or(|id| account.id == *id));
    let owner = owner.ok_or_else(|| Refusal::forbidden(1068, "Permission denied"))?.clone();
    let mut zone = Zone::new(&mut world.ids, &name, &owner, call.now);
    zone.status = "pending";
    zone.kind = draft.kind.unwrap_or_else(|| "full".to_owned());
    let shown = zone.to_json();
    world.zones.push(zone);
    Ok(Answer::result(shown))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.zone(call)?.to_json()))
}

fn edit(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    if let Some(id) = wanted.get("plan").and_then(|plan| plan.get("id")?.as_str()) {
        zone_plan::put_on(world, call, id)?;
    }
    let zone = world.zone(call)?;
    if let Some(paused) = wanted.get("paused").and_then(Value::as_bool) {
        zone.paused = paused;
    }
    if let Some(kind) = wanted.get("type").and_then(Value::as_str) {
        kind.clone_into(&mut zone.kind);
    }
    zone.modified_on = call.now;
    Ok(Answer::result(zone.to_json()))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let id = world.zone(call)?.id.clone();
    world.zones.retain(|zone| zone.id != id);
    Ok(Answer::result(json!({ "id": id })))
}

fn activate(world: &mut World, call: &Call<'_>) -> Reply {
    let zone = world.zone(call)?;
    zone.status = "active";
    Ok(Answer::result(json!({ "id": zone.id })))
}

fn purge(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let everything = wanted.get("purge_everything").and_then(Value::as_bool) == Some(true);
    let some = ["files", "tags", "hosts", "prefixes"]
        .iter()
        .filter_map(|name| wanted.get(*name)?.as_array())
        .any(|list| !list.is_empty());
    if !everything && !some {
        return Err(Refusal::bad(
            1012,
            "Request must contain one of purge_everything or files, \
                                       tags, hosts or prefixes",
        ));
    }
    let id = world.zone(call)?.id.clone();
    Ok(Answer::result(json!({ "id": id })))
}

fn settings(world: &mut World, call: &Call<'_>) -> Reply {
    let zone = world.zone(call)?;
    let shown: Result<Vec<_>, _> = zone.settings.keys().map(|id| zone.setting_json(id)).collect();
    Ok(Answer::result(shown?))
}

fn edit_settings(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let items = wanted.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let zone = world.zone(call)?;
    for item in &items {
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        zone.set(id, item.get("value").unwrap_or(&Value::Null), call.now)?;
    }
    settings(world, call)
}

fn setting(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.zone(call)?.setting_json(call.param("setting_id"))?))
}

fn edit_setting(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let value = wanted.get("value").ok_or_else(|| Refusal::bad(1007, "A value is required"))?;
    world.zone(call)?.set(call.param("setting_id"), value, call.now)?;
    setting(world, call)
}

/// The `name` filter: a name, or `contains:`, `starts_with:`, `ends_with:` and a part of one.
fn named(name: &str, wanted: &str) -> bool {
    match wanted.split_once(':') {
        Some(("contains", part)) => name.contains(part),
        Some(("starts_with", part)) => name.starts_with(part),
        Some(("ends_with", part)) => name.ends_with(part),
        _ => wanted.split(',').any(|one| name == one),
    }
}

/// Whether `name` can be a zone: two labels or more of letters, digits and hyphens.
pub(crate) fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

fn starting_settings() -> Map<String, Value> {
    let texts = [
        ("always_online", "on"),
        ("always_use_https", "off"),
        ("automatic_https_rewrites", "on"),
        ("brotli", "on"),
        ("cache_level", "aggressive"),
        ("development_mode", "off"),
        ("http3", "on"),
        ("ipv6", "on"),
        ("min_tls_version", "1.0"),
        ("opportunistic_encryption", "on"),
        ("security_level", "medium"),
        ("ssl", "full"),
        ("tls_1_3", "on"),
        ("websockets", "on"),
    ];
    let texts = texts.into_iter().map(|(id, value)| (id.to_owned(), Value::from(value)));
    let numbers = [("browser_cache_ttl", 14_400), ("challenge_ttl", 1_800)];
    let numbers = numbers.into_iter().map(|(id, value)| (id.to_owned(), Value::from(value)));
    texts.chain(numbers).collect()
}

const ZONES_MAX: usize = 1_000;
