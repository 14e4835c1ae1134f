//! Workers KV: namespaces, keys and values.
use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::envelope::{Answer, Refusal, Reply};
use crate::multipart;
use crate::paging::{PageSize, by_cursor, by_page};
use crate::route::Route;
use crate::world::{Store, World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/storage/kv/namespaces", list),
    Route::post("/accounts/{account_id}/storage/kv/namespaces", create),
    Route::get("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}", show),
    Route::put("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}", rename),
    Route::delete("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}", delete),
    Route::get("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/keys", keys),
    Route::get("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key}", value),
    Route::put("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key}", put),
    Route::delete(
        "/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key}",
        remove,
    ),
    Route::get(
        "/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/metadata/{key}",
        metadata,
    ),
];

/// A namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    account: String,
    id: String,
    title: String,
    pub(crate) values: BTreeMap<String, Entry>,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    pub(crate) metadata: Option<Value>,
    /// Unix seconds. It is shown; nothing expires here.
    pub(crate) expiration: Option<i64>,
}

impl Namespace {
    fn to_json(&self) -> Value {
        json!({ "id": self.id, "title": self.title, "supports_url_encoding": true })
    }

    /// Puts `entry` under `key`, if there is room.
    pub(crate) fn put(
        &mut self,
        store: &mut Store,
        key: &str,
        entry: Entry,
    ) -> Result<(), Refusal> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(Refusal::bad(10_147, "Key names must have between 1 and 512 bytes"));
        }
        if entry.bytes.len() > VALUE_MAX {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refusal::new(status, 10_033, "Values may have at most 25 MiB"));
        }
        let old = self.values.get(key).map_or(0, |entry| entry.bytes.len());
        if !self.values.contains_key(key) {
            room_for("keys", self.values.len(), KEYS_MAX)?;
        }
        store.replace(old, entry.bytes.len())?;
        self.values.insert(key.to_owned(), entry);
        Ok(())
    }

    /// Whether there was something to take away.
    pub(crate) fn take(&mut self, store: &mut Store, key: &str) -> bool {
        let Some(entry) = self.values.remove(key) else { return false };
        store.give_back(entry.bytes.len());
        true
    }

    fn entry(&self, key: &str) -> Result<&Entry, Refusal> {
        let missing = || Refusal::missing(10_009, "get: 'key not found'");
        self.values.get(key).ok_or_else(missing)
    }
}

#[derive(Deserialize)]
struct Draft {
    title: String,
}

/// The namespace in the call's path, and the store its bytes count in.
pub(crate) fn open<'w>(
    world: &'w mut World,
    call: &Call<'_>,
) -> Result<(&'w mut Namespace, &'w mut Store), Refusal> {
    let (account, id) = (call.param("account_id"), call.param("namespace_id"));
    let World { namespaces, store, .. } = world;
    let mut all = namespaces.iter_mut();
    let found = all.find(|namespace| namespace.account == account && namespace.id == id);
    let missing = || Refusal::missing(10_013, "namespace not found");
    Ok((found.ok_or_else(missing)?, store))
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let account = call.param("account_id");
    let mine = world.namespaces.iter().filter(|namespace| namespace.account == account);
    let mine: Vec<_> = mine.collect();
    by_page(call, &mine, PageSize { usual: 20, max: 1_000 }, |namespace| namespace.to_json())
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { title } = call.json()?;
    let account = call.param("account_id").to_owned();
    let mut all = world.namespaces.iter();
    if all.any(|namespace| namespace.account == account && namespace.title == title) {
        let message = "a namespace with this account ID and title already exists";
        return Err(Refusal::bad(10_014, message));
    }
    room_for("namespaces", world.namespaces.len(), NAMESPACES_MAX)?;
    let namespace = Namespace { account, id: world.ids.hex32(), title, values: BTreeMap::new() };
    let shown = namespace.to_json();
    world.namespaces.push(namespace);
    Ok(Answer::result(shown))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(open(world, call)?.0.to_json()))
}

fn rename(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { title } = call.json()?;
    let (namespace, _) = open(world, call)?;
    namespace.title = title;
    Ok(Answer::result(namespace.to_json()))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let (namespace, store) = open(world, call)?;
    store.give_back(namespace.values.values().map(|entry| entry.bytes.len()).sum());
    let id = namespace.id.clone();
    world.namespaces.retain(|namespace| namespace.id != id);
    Ok(Answer::result(Value::Null))
}

fn keys(world: &mut World, call: &Call<'_>) -> Reply {
    let (namespace, _) = open(world, call)?;
    let prefix = call.query.text("prefix").unwrap_or_default();
    let fits = |(key, _): &(&String, &Entry)| key.starts_with(prefix);
    let found: Vec<_> = namespace.values.iter().filter(fits).collect();
    let slice = by_cursor(call, &found, "limit", PageSize { usual: 1_000, max: 1_000 })?;
    let shown: Vec<_> = slice.items.iter().map(|(key, entry)| listed(key, entry)).collect();
    let info = json!({ "count": shown.len(), "cursor": slice.cursor });
    Ok(Answer::listed(shown, info))
}

fn listed(key: &str, entry: &Entry) -> Value {
    let mut shown = json!({ "name": key });
    if let Some(shown) = shown.as_object_mut() {
        if let Some(expiration) = entry.expiration {
            shown.insert("expiration".to_owned(), expiration.into());
        }
        if let Some(metadata) = &entry.metadata {
            shown.insert("metadata".to_owned(), metadata.clone());
        }
    }
    shown
}

fn value(world: &mut World, call: &Call<'_>) -> Reply {
    let (namespace, _) = open(world, call)?;
    let entry = namespace.entry(&call.decoded("key"))?;
    let answer = Answer::raw("application/octet-stream", entry.bytes.clone());
    Ok(match entry.expiration {
        Some(at) => answer.with_header("expiration", &at.to_string()),
        None => answer,
    })
}

/// The body is the value, or a form with the parts `value` and `metadata`.
fn put(world: &mut World, call: &Call<'_>) -> Reply {
    let (mut bytes, mut metadata) = (call.body.clone(), None);
    if multipart::is_multipart(call.content_type()) {
        let parts = multipart::parts(call.content_type(), &call.body)?;
        let part = |name: &str| parts.iter().find(|part| part.name == name);
        let missing = || Refusal::bad(10_012, "The form has no part named value");
        bytes = part("value").ok_or_else(missing)?.bytes.clone();
        let text = part("metadata").map(|part| serde_json::from_slice(&part.bytes)).transpose();
        metadata = text.map_err(|_| Refusal::bad(10_027, "metadata must be JSON"))?;
    }
    let absolute = call.query.text("expiration").and_then(|text| text.parse().ok());
    let ttl = call.query.text("expiration_ttl").and_then(|text| text.parse::<i64>().ok());
    let expiration = absolute.or_else(|| Some(call.now.as_second().saturating_add(ttl?)));
    let (namespace, store) = open(world, call)?;
    namespace.put(store, &call.decoded("key"), Entry { bytes, metadata, expiration })?;
    Ok(Answer::result(Value::Null))
}

fn remove(world: &mut World, call: &Call<'_>) -> Reply {
    let (namespace, store) = open(world, call)?;
    // Deleting what is not there succeeds, as the real API has it.
    namespace.take(store, &call.decoded("key"));
    Ok(Answer::result(Value::Null))
}

fn metadata(world: &mut World, call: &Call<'_>) -> Reply {
    let (namespace, _) = open(world, call)?;
    let entry = namespace.entry(&call.decoded("key"))?;
    Ok(Answer::result(entry.metadata.clone().unwrap_or_default()))
}

const NAMESPACES_MAX: usize = 200;

/// Keys of one namespace.
const KEYS_MAX: usize = 100_000;

/// Bytes of a key's name, and of a value, as the real limits are.
const KEY_MAX: usize = 512;
const VALUE_MAX: usize = 25 * 1024 * 1024;
