//! A DNS record as a caller writes it, and what is wrong with it.
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::stamp;
use crate::dns::{Record, is_proxiable};
use crate::envelope::Refusal;

/// A record, or the part of one that a patch changes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Draft {
    pub(crate) name: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) ttl: Option<Value>,
    pub(crate) proxied: Option<bool>,
    pub(crate) priority: Option<Value>,
    pub(crate) comment: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) settings: Option<Value>,
    pub(crate) data: Option<Value>,
}

impl Draft {
    /// The record this draft makes in `zone`.
    pub(crate) fn record(self, zone: &str, id: String, now: Timestamp) -> Result<Record, Refusal> {
        let kind = self.kind.as_deref().unwrap_or_default().to_ascii_uppercase();
        if !KINDS.contains(&kind.as_str()) {
            return Err(invalid(9004, "Invalid DNS record type"));
        }
        let name = full_name(self.name.as_deref().unwrap_or_default(), zone)?;
        let content = match (&self.content, &self.data) {
            (Some(content), _) => content.clone(),
            (None, Some(data)) => composed(&kind, data),
            (None, None) => String::new(),
        };
        check_content(&kind, &content)?;
        let proxied = self.proxied.unwrap_or(false);
        if proxied && !is_proxiable(&kind) {
            return Err(invalid(9004, "This record type cannot be proxied."));
        }
        let priority = self.priority.as_ref().map(whole).transpose()?;
        let priority = priority.map(u16::try_from).transpose();
        let priority = priority.map_err(|_| invalid(9102, "priority must be a valid number"))?;
        if kind == "MX" && priority.is_none() {
            return Err(invalid(9101, "priority is a required data field."));
        }
        let ttl = self.ttl.as_ref().map_or(Ok(1), whole)?;
        if ttl != 1 && !(60..=86_400).contains(&ttl) {
            return Err(invalid(9021, TTL));
        }
        Ok(Record {
            id,
            name,
            proxiable: is_proxiable(&kind),
            kind,
            content,
            proxied,
            // A proxied record's TTL is always automatic.
            ttl: if proxied { 1 } else { ttl },
            settings: self.settings.unwrap_or_else(|| json!({})),
            meta: json!({}),
            comment: self.comment.filter(|comment| !comment.is_empty()),
            tags: self.tags.unwrap_or_default(),
            created_on: stamp(now),
            modified_on: stamp(now),
            priority,
            data: self.data,
        })
    }

    /// This draft, with what it leaves out taken from `old`.
    pub(crate) fn over(self, old: Record) -> Self {
        // New data makes new content.
        let content = self.content.or_else(|| self.data.is_none().then_some(old.content));
        Self {
            name: self.name.or(Some(old.name)),
            kind: self.kind.or(Some(old.kind)),
            content,
            ttl: self.ttl.or_else(|| Some(old.ttl.into())),
            proxied: self.proxied.or(Some(old.proxied)),
            priority: self.priority.or_else(|| old.priority.map(Value::from)),
            comment: self.comment.or(old.comment),
            tags: self.tags.or(Some(old.tags)),
            settings: self.settings.or(Some(old.settings)),
            data: self.data.or(old.data),
        }
    }
}

/// `name` as it stands in the zone: `www` and `@` are completed.
fn full_name(name: &str, zone: &str) -> Result<String, Refusal> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let full = if name == "@" || name == zone {
        zone.to_owned()
    } else if name.ends_with(&format!(".{zone}")) {
        name
    } else {
        format!("{name}.{zone}")
    };
    let label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'"';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(good)
    };
    if full.len() > 253 || !full.split('.').all(label) {
        return Err(invalid(9000, "DNS name is invalid."));
    }
    Ok(full)
}

fn check_content(kind: &str, content: &str) -> Result<(), Refusal> {
    let host = || {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*@".contains(&byte);
        !content.is_empty() && content.len() <= 253 && content.bytes().all(good)
    };
    match kind {
        "A" if content.parse::<Ipv4Addr>().is_err() => {
            Err(invalid(9005, "Content for A record must be a valid IPv4 address."))
        }
        "AAAA" if content.parse::<Ipv6Addr>().is_err() => {
            Err(invalid(9006, "Content for AAAA record must be a valid IPv6 address."))
        }
        "CNAME" if !host() => Err(invalid(9007, "Content for CNAME record is invalid.")),
        "MX" if !host() => Err(invalid(9009, "Content for MX record must be a hostname.")),
        "NS" if !host() => Err(invalid(9008, "Content for NS record must be a hostname.")),
        _ if content.is_empty() => {
            Err(invalid(9013, &format!("Content for {kind} record must not be empty.")))
        }
        _ if content.len() > CONTENT_MAX => {
            Err(invalid(9014, &format!("Content for {kind} record is too long.")))
        }
        _ => Ok(()),
    }
}

/// The content that structured data stands for, as the API shows it.
fn composed(kind: &str, data: &Value) -> String {
    let text = |name: &str| match data.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    match kind {
        "SRV" => format!("{} {} {}", text("weight"), text("port"), text("target")),
        "CAA" => format!("{} {} \"{}\"", text("flags"), text("tag"), text("value")),
        "HTTPS" | "SVCB" => format!("{} {} {}", text("priority"), text("target"), text("value")),
        "URI" => format!("{} \"{}\"", text("weight"), text("target")),
        _ => {
            let values = data.as_object().map(|data| data.keys().map(|name| text(name)).collect());
            values.map(|values: Vec<_>| values.join(" ")).unwrap_or_default()
        }
    }
}

/// A whole number; the SDKs may send `1.0`.
fn whole(value: &Value) -> Result<u32, Refusal> {
    let text = value.to_string();
    let digits = text.strip_suffix(".0").unwrap_or(&text);
    digits.parse().map_err(|_| invalid(9020, "Invalid number."))
}

fn invalid(code: u32, message: &str) -> Refusal {
    Refusal::bad(1004, "DNS Validation Error").because(code, message)
}

const KINDS: &[&str] = &[
    "A",
    "AAAA",
    "CAA",
    "CERT",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "LOC",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "SMIMEA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];

const TTL: &str = "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.";

/// Bytes of one record's content.
const CONTENT_MAX: usize = 8_192;
