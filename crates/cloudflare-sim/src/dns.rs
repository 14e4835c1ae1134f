//! DNS records of a zone.
use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::dns_draft::Draft;
use crate::envelope::{Answer, Refusal, Reply};
use crate::id::Ids;
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::World;
use crate::zone::Zone;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/zones/{zone_id}/dns_records", list),
    Route::post("/zones/{zone_id}/dns_records", create),
    Route::post("/zones/{zone_id}/dns_records/batch", batch),
    Route::get("/zones/{zone_id}/dns_records/usage", usage),
    Route::get("/zones/{zone_id}/dns_records/{record_id}", show),
    Route::put("/zones/{zone_id}/dns_records/{record_id}", update),
    Route::patch("/zones/{zone_id}/dns_records/{record_id}", edit),
    Route::delete("/zones/{zone_id}/dns_records/{record_id}", delete),
];

/// One record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) content: String,
    pub(crate) proxiable: bool,
    pub(crate) proxied: bool,
    /// In seconds; 1 means automatic.
    pub(crate) ttl: u32,
    pub(crate) settings: Value,
    pub(crate) meta: Value,
    pub(crate) comment: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created_on: String,
    pub(crate) modified_on: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
}

impl Record {
    /// What a zone of the starting content has.
    pub(crate) fn starting(ids: &mut Ids, zone: &str, now: Timestamp) -> Vec<Self> {
        let www = format!("www.{zone}");
        let mail = format!("mail.{zone}");
        let rows = [
            ("A", zone, "192.0.2.1", true, None),
            ("CNAME", www.as_str(), zone, true, None),
            ("A", mail.as_str(), "192.0.2.25", false, None),
            ("MX", zone, mail.as_str(), false, Some(10)),
            ("TXT", zone, "\"v=spf1 mx -all\"", false, None),
        ];
        let record = |(kind, name, content, proxied, priority): (&str, &str, &str, _, _)| Self {
            id: ids.hex32(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            content: content.to_owned(),
            proxiable: is_proxiable(kind),
            proxied,
            ttl: 1,
            settings: json!({}),
            meta: json!({}),
            comment: None,
            tags: Vec::new(),
            created_on: stamp(now),
            modified_on: stamp(now),
            priority,
            data: None,
        };
        rows.into_iter().map(record).collect()
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The records of one zone while a call changes them.
pub(crate) struct Book<'a> {
    pub(crate) zone: &'a str,
    pub(crate) records: &'a mut Vec<Record>,
    pub(crate) ids: &'a mut Ids,
    pub(crate) now: Timestamp,
}

impl Book<'_> {
    pub(crate) fn add(&mut self, draft: Draft) -> Result<Record, Refusal> {
        if self.records.len() >= RECORDS_MAX {
            return Err(Refusal::bad(81_045, "The record quota has been exceeded."));
        }
        let record = draft.record(self.zone, self.ids.hex32(), self.now)?;
        self.conflicts(&record)?;
        self.records.push(record.clone());
        Ok(record)
    }

    fn replace(&mut self, id: &str, draft: Draft) -> Result<Record, Refusal> {
        let old = self.find(id)?;
        let (id, created_on) = (old.id.clone(), old.created_on.clone());
        let record = draft.record(self.zone, id, self.now)?;
        self.put(Record { created_on, ..record })
    }

    fn change(&mut self, id: &str, draft: Draft) -> Result<Record, Refusal> {
        let old = self.find(id)?.clone();
        let (id, created_on) = (old.id.clone(), old.created_on.clone());
        let record = draft.over(old).record(self.zone, id, self.now)?;
        self.put(Record { created_on, ..record })
    }

    fn remove(&mut self, id: &str) -> Result<Record, Refusal> {
        let index = self.records.iter().position(|record| record.id == id);
        Ok(self.records.remove(index.ok_or_else(no_record)?))
    }

    fn put(&mut self, record: Record) -> Result<Record, Refusal> {
        self.conflicts(&record)?;
        if let Some(old) = self.records.iter_mut().find(|old| old.id == record.id) {
            old.clone_from(&record);
        }
        Ok(record)
    }

    fn find(&self, id: &str) -> Result<&Record, Refusal> {
        self.records.iter().find(|record| record.id == id).ok_or_else(no_record)
    }

    /// A CNAME stands alone among addresses, and no record stands twice.
    fn conflicts(&self, new: &Record) -> Result<(), Refusal> {
        let addresses = ["A", "AAAA", "CNAME"];
        let others =
            self.records.iter().filter(|other| other.id != new.id && other.name == new.name);
        for other in others {
            if other.kind == new.kind && other.content == new.content {
                return Err(Refusal::bad(81_058, "An identical record already exists."));
            }
            if new.kind == "CNAME" && addresses.contains(&other.kind.as_str()) {
                let message = "An A, AAAA, or CNAME record with that host already exists.";
                return Err(Refusal::bad(81_053, message));
            }
            if other.kind == "CNAME" && addresses.contains(&new.kind.as_str()) {
                let message = "A CNAME record with that host already exists.";
                return Err(Refusal::bad(81_054, message));
            }
        }
        Ok(())
    }
}

/// Opens the records of the zone in the call's path.
pub(crate) fn open<'w>(world: &'w mut World, call: &Call<'_>) -> Result<Book<'w>, Refusal> {
    world.zone(call)?;
    let id = call.param("zone_id");
    let World { zones, ids, .. } = world;
    let zone = zones.iter_mut().find(|zone| zone.id == id);
    let Zone { name, records, .. } = zone.ok_or_else(|| Refusal::bad_identifier(call.path))?;
    Ok(Book { zone: name, records, ids, now: call.now })
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let zone = world.zone(call)?;
    let mut records: Vec<_> = zone.records.iter().filter(|record| fits(call, record)).collect();
    if let Some(order) = call.query.text("order") {
        records.sort_by(|one, other| compare(order, one, other));
    }
    if call.query.text("direction") == Some("desc") {
        records.reverse();
    }
    by_page(call, &records, PageSize { usual: 100, max: 5_000 }, |record| record.to_json())
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let draft = call.json()?;
    Ok(Answer::result(open(world, call)?.add(draft)?.to_json()))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(open(world, call)?.find(call.param("record_id"))?.to_json()))
}

fn update(world: &mut World, call: &Call<'_>) -> Reply {
    let draft = call.json()?;
    let record = open(world, call)?.replace(call.param("record_id"), draft)?;
    Ok(Answer::result(record.to_json()))
}

fn edit(world: &mut World, call: &Call<'_>) -> Reply {
    let draft = call.json()?;
    let record = open(world, call)?.change(call.param("record_id"), draft)?;
    Ok(Answer::result(record.to_json()))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let record = open(world, call)?.remove(call.param("record_id"))?;
    Ok(Answer::result(json!({ "id": record.id })))
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Batch {
    deletes: Vec<Named>,
    patches: Vec<Renamed>,
    puts: Vec<Renamed>,
    posts: Vec<Draft>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Renamed {
    id: String,
    #[serde(flatten)]
    draft: Draft,
}

/// Deletes, patches, puts and posts, in this order; all of them or none.
fn batch(world: &mut World, call: &Call<'_>) -> Reply {
    let Batch { deletes, patches, puts, posts } = call.json()?;
    let book = open(world, call)?;
    let mut records = book.records.clone();
    let mut trial = Book { records: &mut records, zone: book.zone, ids: book.ids, now: call.now };
    let deletes: Result<Vec<_>, _> = deletes.iter().map(|named| trial.remove(&named.id)).collect();
    let deletes = deletes?;
    let patches: Result<Vec<_>, _> =
        patches.into_iter().map(|Renamed { id, draft }| trial.change(&id, draft)).collect();
    let patches = patches?;
    let puts: Result<Vec<_>, _> =
        puts.into_iter().map(|Renamed { id, draft }| trial.replace(&id, draft)).collect();
    let puts = puts?;
    let posts: Result<Vec<_>, _> = posts.into_iter().map(|draft| trial.add(draft)).collect();
    let posts = posts?;
    *book.records = records;
    Ok(Answer::result(
        json!({ "deletes": deletes, "patches": patches, "puts": puts, "posts": posts }),
    ))
}

fn usage(world: &mut World, call: &Call<'_>) -> Reply {
    let records = world.zone(call)?.records.len();
    Ok(Answer::result(json!({ "record_usage": records, "record_quota": RECORDS_MAX })))
}

fn fits(call: &Call<'_>, record: &Record) -> bool {
    let filters = [
        text_fits(call, "name", &record.name),
        text_fits(call, "content", &record.content),
        text_fits(call, "comment", record.comment.as_deref().unwrap_or_default()),
        call.query.text("type").map(|wanted| record.kind.eq_ignore_ascii_case(wanted)),
        call.query.text("proxied").map(|wanted| (wanted == "true") == record.proxied),
        call.query.text("search").map(|part| searched(record, part)),
    ];
    let mut asked = filters.into_iter().flatten();
    match call.query.text("match") {
        Some("any") => {
            let asked: Vec<_> = asked.collect();
            asked.is_empty() || asked.contains(&true)
        }
        _ => asked.all(|fits| fits),
    }
}

/// The filters of one field that the query has: `name`, `name.exact`, `name.contains`, and so on.
fn text_fits(call: &Call<'_>, field: &str, text: &str) -> Option<bool> {
    let text = text.to_lowercase();
    let part = |suffix: &str| {
        let wanted = call.query.text(&format!("{field}{suffix}"))?;
        Some(wanted.to_lowercase())
    };
    let asked = [
        part("").map(|wanted| text == wanted),
        part(".exact").map(|wanted| text == wanted),
        part(".contains").map(|wanted| text.contains(&wanted)),
        part(".startswith").map(|wanted| text.starts_with(&wanted)),
        part(".endswith").map(|wanted| text.ends_with(&wanted)),
        part(".present").map(|_| !text.is_empty()),
        part(".absent").map(|_| text.is_empty()),
    ];
    asked.into_iter().flatten().reduce(|one, other| one && other)
}

fn searched(record: &Record, part: &str) -> bool {
    let comment = record.comment.as_deref().unwrap_or_default();
    [record.name.as_str(), &record.content, comment].iter().any(|text| text.contains(part))
}

fn compare(order: &str, one: &Record, other: &Record) -> Ordering {
    match order {
        "name" => one.name.cmp(&other.name),
        "content" => one.content.cmp(&other.content),
        "ttl" => one.ttl.cmp(&other.ttl),
        "proxied" => one.proxied.cmp(&other.proxied),
        _ => one.kind.cmp(&other.kind),
    }
}

fn no_record() -> Refusal {
    Refusal::missing(81_044, "Record does not exist.")
}

/// Whether records of a type can go through the proxy.
pub(crate) fn is_proxiable(kind: &str) -> bool {
    matches!(kind, "A" | "AAAA" | "CNAME")
}

/// Records of one zone.
const RECORDS_MAX: usize = 5_000;
