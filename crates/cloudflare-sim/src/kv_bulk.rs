//! Workers KV in bulk: many keys in one call, each of which counts.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::envelope::{Answer, Refusal, Reply};
use crate::kv::{Entry, open};
use crate::route::Route;
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[
    Route::put("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/bulk", put),
    Route::delete("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/bulk", delete),
    Route::post("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/bulk/delete", delete),
    Route::post("/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/bulk/get", get)
        .reading(),
];

#[derive(Deserialize)]
struct Pair {
    key: String,
    value: String,
    #[serde(default)]
    base64: bool,
    metadata: Option<Value>,
    expiration: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    keys: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    with_metadata: Option<bool>,
}

fn put(world: &mut World, call: &Call<'_>) -> Reply {
    let pairs: Vec<Pair> = call.json()?;
    check_count(pairs.len(), 10_000)?;
    let count = pairs.len();
    let (namespace, store) = open(world, call)?;
    for Pair { key, value, base64, metadata, expiration } in pairs {
        let bytes = if base64 {
            let broken = |_| Refusal::bad(10_012, format!("The value of {key} is not base64"));
            Bytes::from(STANDARD.decode(value).map_err(broken)?)
        } else {
            Bytes::from(value)
        };
        namespace.put(store, &key, Entry { bytes, metadata, expiration })?;
    }
    Ok(Answer::result(json!({ "successful_key_count": count, "unsuccessful_keys": [] })))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let keys: Vec<String> = call.json()?;
    check_count(keys.len(), 10_000)?;
    let (namespace, store) = open(world, call)?;
    for key in &keys {
        namespace.take(store, key);
    }
    Ok(Answer::result(json!({ "successful_key_count": keys.len(), "unsuccessful_keys": [] })))
}

fn get(world: &mut World, call: &Call<'_>) -> Reply {
    let Question { keys, kind, with_metadata } = call.json()?;
    check_count(keys.len(), 100)?;
    let (namespace, _) = open(world, call)?;
    let mut values = Map::new();
    for key in keys {
        let shown = namespace.values.get(&key).map(|entry| {
            let value = shown(entry, kind.as_deref());
            if with_metadata == Some(true) {
                return json!({ "value": value, "metadata": entry.metadata });
            }
            value
        });
        values.insert(key, shown.unwrap_or_default());
    }
    Ok(Answer::result(json!({ "values": values })))
}

fn shown(entry: &Entry, kind: Option<&str>) -> Value {
    match kind {
        Some("json") => serde_json::from_slice(&entry.bytes).unwrap_or_default(),
        _ => String::from_utf8_lossy(&entry.bytes).into(),
    }
}

fn check_count(count: usize, max: usize) -> Result<(), Refusal> {
    if count <= max {
        return Ok(());
    }
    Err(Refusal::bad(10_029, format!("At most {max} keys in one call")))
}
