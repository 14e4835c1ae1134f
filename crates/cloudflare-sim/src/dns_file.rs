//! Zone files (BIND, RFC 1035 §5): a zone's records written out and read in.
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::call::Call;
use crate::dns::{Record, open};
use crate::dns_draft::Draft;
use crate::envelope::{Answer, Refusal, Reply};
use crate::multipart;
use crate::route::Route;
use crate::world::World;
use crate::zone::Zone;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/zones/{zone_id}/dns_records/export", export),
    Route::post("/zones/{zone_id}/dns_records/import", import),
];

fn export(world: &mut World, call: &Call<'_>) -> Reply {
    let text = written(world.zone(call)?);
    Ok(Answer::raw("text/plain; charset=utf-8", text))
}

/// Reads the part `file` of a multipart body. Lines that make no record are counted, not added.
fn import(world: &mut World, call: &Call<'_>) -> Reply {
    let parts = multipart::parts(call.content_type(), &call.body)?;
    let file = parts.iter().find(|part| part.name == "file");
    let file =
        file.ok_or_else(|| Refusal::bad(1004, "DNS Validation Error").because(9400, "No file"))?;
    let proxied = parts.iter().any(|part| part.name == "proxied" && part.bytes == "true");
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    let mut book = open(world, call)?;
    let (mut parsed, mut added) = (0, 0);
    for draft in text.lines().take(LINES_MAX).filter_map(|line| read(line, proxied)) {
        parsed += 1;
        added += u32::from(book.add(draft).is_ok());
    }
    Ok(Answer::result(json!({ "recs_added": added, "total_records_parsed": parsed })))
}

fn written(zone: &Zone) -> String {
    let mut text = format!(
        ";;\n;; Domain:     {0}.\n;;\n$ORIGIN {0}.\n\n;; SOA Record\n{0}\t3600\tIN\tSOA\t\
         ada.ns.cloudflare.com. dns.cloudflare.com. 1 10000 2400 604800 3600\n",
        zone.name
    );
    let mut kinds: Vec<_> = zone.records.iter().map(|record| record.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let heading = write!(text, "\n;; {kind} Records\n");
        debug_assert!(heading.is_ok(), "a string takes every write");
        for record in zone.records.iter().filter(|record| record.kind == kind) {
            text.push_str(&line(record));
        }
    }
    text
}

fn line(record: &Record) -> String {
    let priority = record.priority.map(|priority| format!("{priority} ")).unwrap_or_default();
    let dot = if matches!(record.kind.as_str(), "CNAME" | "MX" | "NS" | "PTR") { "." } else { "" };
    let Record { name, ttl, kind, content, .. } = record;
    format!("{name}.\t{ttl}\tIN\t{kind}\t{priority}{content}{dot}\n")
}

/// One line of a zone file: `name [ttl] [IN] type content`. Comments, directives and the records
/// that the zone itself keeps are none.
fn read(line: &str, proxied: bool) -> Option<Draft> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with([';', '$', ' ', '\t']) {
        return None;
    }
    let mut words = line.split_whitespace().peekable();
    let name = words.next()?.to_owned();
    let ttl: Option<u32> = words.peek().and_then(|word| word.parse().ok());
    if ttl.is_some() {
        words.next();
    }
    words.next_if(|word| word.eq_ignore_ascii_case("IN"));
    let kind = words.next()?.to_ascii_uppercase();
    if kind == "SOA" {
        return None;
    }
    let priority: Option<u16> = match kind.as_str() {
        "MX" => Some(words.next()?.parse().ok()?),
        _ => None,
    };
    let content = words.collect::<Vec<_>>().join(" ");
    let hosts = matches!(kind.as_str(), "CNAME" | "MX" | "NS" | "PTR");
    let content = if hosts { content.trim_end_matches('.').to_owned() } else { content };
    Some(Draft {
        name: Some(name),
        proxied: Some(proxied && crate::dns::is_proxiable(&kind)),
        kind: Some(kind),
        content: Some(content),
        ttl: ttl.map(Value::from),
        priority: priority.map(Value::from),
        ..Draft::default()
    })
}

/// Lines read of one file; the rest is not looked at.
const LINES_MAX: usize = 20_000;
