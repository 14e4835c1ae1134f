//! R2: buckets, and objects whose keys are the whole rest of the path.
use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::paging::{PageSize, by_cursor};
use crate::route::Route;
use crate::world::{Store, World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/r2/buckets", list),
    Route::post("/accounts/{account_id}/r2/buckets", create),
    Route::get("/accounts/{account_id}/r2/buckets/{bucket}", show),
    Route::delete("/accounts/{account_id}/r2/buckets/{bucket}", delete),
    Route::get("/accounts/{account_id}/r2/buckets/{bucket}/objects", objects),
    Route::get("/accounts/{account_id}/r2/buckets/{bucket}/objects/{key...}", object),
    Route::put("/accounts/{account_id}/r2/buckets/{bucket}/objects/{key...}", upload),
    Route::delete("/accounts/{account_id}/r2/buckets/{bucket}/objects/{key...}", remove),
];

/// A bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    account: String,
    name: String,
    location: String,
    storage_class: String,
    created_on: Timestamp,
    objects: BTreeMap<String, Object>,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    content_type: String,
    etag: String,
    uploaded: Timestamp,
}

impl Bucket {
    fn to_json(&self) -> Value {
        json!({ "name": self.name, "creation_date": stamp(self.created_on),
                "location": self.location, "storage_class": self.storage_class,
                "jurisdiction": "default" })
    }

    fn object(&self, key: &str) -> Result<&Object, Refusal> {
        let missing = || Refusal::missing(10_007, "The specified key does not exist.");
        self.objects.get(key).ok_or_else(missing)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draft {
    name: String,
    location_hint: Option<String>,
    storage_class: Option<String>,
}

/// The bucket in the call's path, and the store its bytes count in.
fn open<'w>(
    world: &'w mut World,
    call: &Call<'_>,
) -> Result<(&'w mut Bucket, &'w mut Store), Refusal> {
    let (account, name) = (call.param("account_id"), call.param("bucket"));
    let World { buckets, store, .. } = world;
    let mut all = buckets.iter_mut();
    let found = all.find(|bucket| bucket.account == account && bucket.name == name);
    let missing = || Refusal::missing(10_006, "The specified bucket does not exist.");
    Ok((found.ok_or_else(missing)?, store))
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let account = call.param("account_id");
    let part = call.query.text("name_contains").unwrap_or_default();
    let fits = |bucket: &&Bucket| bucket.account == account && bucket.name.contains(part);
    let found: Vec<_> = world.buckets.iter().filter(fits).collect();
    let slice = by_cursor(call, &found, "per_page", PageSize { usual: 20, max: 1_000 })?;
    let shown: Vec<_> = slice.items.iter().map(|bucket| bucket.to_json()).collect();
    let info = json!({ "cursor": slice.cursor, "per_page": slice.per_page });
    Ok(Answer::listed(json!({ "buckets": shown }), info))
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let draft: Draft = call.json()?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(3..=64).contains(&draft.name.len()) || !draft.name.bytes().all(good) {
        return Err(Refusal::bad(10_005, "The specified bucket name is not valid."));
    }
    let account = call.param("account_id").to_owned();
    let mut all = world.buckets.iter();
    if all.any(|bucket| bucket.account == account && bucket.name == draft.name) {
        let message = "The bucket you tried to create already exists, and you own it.";
        return Err(Refusal::new(http::StatusCode::CONFLICT, 10_004, message));
    }
    room_for("buckets", world.buckets.len(), BUCKETS_MAX)?;
    let class = call.header("cf-r2-storage-class").map(str::to_owned);
    let bucket = Bucket {
        account,
        name: draft.name,
        location: draft.location_hint.unwrap_or_else(|| "weur".to_owned()),
        storage_class: draft.storage_class.or(class).unwrap_or_else(|| "Standard".to_owned()),
        created_on: call.now,
        objects: BTreeMap::new(),
    };
    let shown = bucket.to_json();
    world.buckets.push(bucket);
    Ok(Answer::result(shown))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(open(world, call)?.0.to_json()))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let (bucket, _) = open(world, call)?;
    if !bucket.objects.is_empty() {
        let message = "The bucket you tried to delete is not empty";
        return Err(Refusal::new(http::StatusCode::CONFLICT, 10_008, message));
    }
    let (account, name) = (bucket.account.clone(), bucket.name.clone());
    world.buckets.retain(|bucket| bucket.account != account || bucket.name != name);
    Ok(Answer::result(json!({})))
}

fn objects(world: &mut World, call: &Call<'_>) -> Reply {
    let (bucket, _) = open(world, call)?;
    let prefix = call.query.text("prefix").unwrap_or_default();
    let fits = |(key, _): &(&String, &Object)| key.starts_with(prefix);
    let found: Vec<_> = bucket.objects.iter().filter(fits).collect();
    let slice = by_cursor(call, &found, "per_page", PageSize { usual: 20, max: 1_000 })?;
    let class = &bucket.storage_class;
    let shown = slice.items.iter().map(|(key, object)| {
        json!({ "key": key, "size": object.bytes.len(), "etag": object.etag,
                "last_modified": stamp(object.uploaded), "storage_class": class,
                "http_metadata": { "contentType": object.content_type } })
    });
    let info = json!({ "cursor": slice.cursor, "is_truncated": !slice.cursor.is_empty(),
                       "per_page": slice.per_page });
    Ok(Answer::listed(shown.collect::<Vec<_>>(), info))
}

fn object(world: &mut World, call: &Call<'_>) -> Reply {
    let (bucket, _) = open(world, call)?;
    let object = bucket.object(&call.decoded("key"))?;
    let answer = Answer::raw(&object.content_type, object.bytes.clone());
    Ok(answer.with_header("etag", &format!("\"{}\"", object.etag)))
}

fn upload(world: &mut World, call: &Call<'_>) -> Reply {
    let key = call.decoded("key");
    if key.len() > KEY_MAX {
        return Err(Refusal::bad(10_002, "The key is too long."));
    }
    let version = world.ids.hex32();
    let (bucket, store) = open(world, call)?;
    let old = bucket.objects.get(&key).map(|object| object.bytes.len());
    if old.is_none() {
        room_for("objects", bucket.objects.len(), OBJECTS_MAX)?;
    }
    store.replace(old.unwrap_or(0), call.body.len())?;
    let kind = call.content_type();
    let object = Object {
        content_type: if kind.is_empty() { "application/octet-stream" } else { kind }.to_owned(),
        etag: etag(&call.body),
        bytes: call.body.clone(),
        uploaded: call.now,
    };
    let shown = json!({ "key": key, "etag": object.etag, "size": object.bytes.len().to_string(),
                        "uploaded": stamp(call.now), "version": version,
                        "storage_class": bucket.storage_class });
    bucket.objects.insert(key, object);
    Ok(Answer::result(shown))
}

fn remove(world: &mut World, call: &Call<'_>) -> Reply {
    let (bucket, store) = open(world, call)?;
    let key = call.decoded("key");
    if let Some(object) = bucket.objects.remove(&key) {
        store.give_back(object.bytes.len());
    }
    Ok(Answer::result(json!({ "key": key })))
}

/// 32 hex digits like the real ones, though of SHA-256: nothing here has MD5.
fn etag(bytes: &[u8]) -> String {
    let mut digits = hex::encode(digest::digest(&digest::SHA256, bytes));
    digits.truncate(32);
    digits
}

const BUCKETS_MAX: usize = 1_000;

/// Objects of one bucket.
const OBJECTS_MAX: usize = 100_000;

/// Bytes of a key, as the real limit is.
const KEY_MAX: usize = 1_024;
