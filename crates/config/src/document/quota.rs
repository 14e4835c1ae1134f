//! Upstream quotas: what an upstream lets everybody on one credential do.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use model::{AgentId, QuotaId, TeamId, UpstreamId};
use rules::limit::Selector;
use rules::quota::{
    Class, Classes, Per, QUOTA_MAX, Quota, Reach, Room, Rule, SHARE_MAX, WAITING_MAX, WINDOW_MAX,
    WINDOW_MIN, Weights,
};
use serde_json::Value;

use super::limit::interval;
use super::selector::{NAMES_MAX, ON_OUTAGE, selector, selector_links};
use super::{Link, head};
use crate::key::{Key, Kind, is_name, is_segment};
use crate::pointer;
use crate::reader::{Object, Reader, id, integer, one_of, pattern, unique};

/// Reads a quota.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Quota> {
    let quota_id = QuotaId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let reach = object.required("match", reach);
    let per = object.optional("per", one_of(PER, &[]));
    let rule = rule(&mut object);
    let classes = object.optional("classes", classes);
    let weights = object.optional("weights", weights);
    let queue = object.optional("queue", queue);
    let on_outage = object.optional("on_outage", one_of(ON_OUTAGE, &[]));
    object.finish();
    let (room, deadline) = queue.unwrap_or((ROOM, DEADLINE));
    Some(Quota {
        id: quota_id,
        reach: reach?,
        per: per.unwrap_or_default(),
        rule: rule?,
        classes: classes.unwrap_or_default(),
        weights: weights.unwrap_or_default(),
        room,
        deadline,
        on_outage: on_outage.unwrap_or_default(),
    })
}

const PER: &[(&str, Per)] = &[("credential", Per::Credential), ("upstream", Per::Upstream)];

fn reach<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Reach> {
    let mut object = reader.object(value)?;
    let is_empty = !object.has("upstreams") && !object.has("hosts");
    let upstreams = object.optional("upstreams", unique(1, NAMES_MAX, id));
    let hosts = object.optional("hosts", unique(1, NAMES_MAX, pattern((1, 253), host)));
    object.finish();
    if is_empty {
        reader.fault("needs `upstreams` or `hosts`");
    }
    Some(Reach {
        upstreams: upstreams.unwrap_or_default().iter().map(|id| UpstreamId::new(id)).collect(),
        hosts: hosts.unwrap_or_default(),
    })
}

/// A host as the nodes of upstreams name it: in lower case, without brackets.
fn host(text: &str) -> Result<Arc<str>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || text.bytes().all(plain) {
        return Ok(Arc::from(text.to_ascii_lowercase()));
    }
    Err(String::from("expected a host without a port, such as `api.cloudflare.com`"))
}

/// Reads `quota` every `window`, how much of it is reserved, and how it is spread.
fn rule(object: &mut Object<'_, '_>) -> Option<Rule> {
    let most = i64::try_from(QUOTA_MAX).unwrap_or(i64::MAX);
    let quota: Option<u64> = object.required("quota", integer(1, most));
    let window = object.required("window", |reader, value| {
        let window = interval(reader, value)?;
        let bounds = Duration::from_millis(WINDOW_MIN)..=Duration::from_millis(WINDOW_MAX);
        if !bounds.contains(&window) {
            reader.fault("expected a window from 1s to 1d");
            return None;
        }
        Some(window)
    });
    let burst: Option<u64> = object.optional("burst", integer(1, most));
    let reserve = object.optional("reserve", share);
    let block = object.optional("block", interval);
    let (quota, window) = (quota?, window?);
    if burst.is_some_and(|burst| burst > quota) {
        object.fault("burst", "is more than `quota`");
    }
    let reserve = reserve.map_or(0, |share| match share {
        Share::Percent(percent) => quota * percent / 100,
        Share::Calls(calls) => calls,
    });
    if reserve >= quota {
        object.fault("reserve", "leaves nothing of `quota`");
    }
    let burst = burst.unwrap_or_else(|| (quota / 10).max(1));
    Some(Rule::new(quota, window, burst, reserve, block.unwrap_or(BLOCK)))
}

/// A part of a quota.
#[derive(Clone, Copy)]
enum Share {
    Percent(u64),
    Calls(u64),
}

fn share<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Share> {
    if !value.is_string() {
        let most = i64::try_from(QUOTA_MAX).unwrap_or(i64::MAX);
        return integer(0, most)(reader, value).map(Share::Calls);
    }
    let percent = |text: &str| {
        let digits = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        let percent = digits.filter(|percent| *percent < 100);
        percent.ok_or_else(|| String::from("expected a number of calls, or a text such as `10%`"))
    };
    pattern((2, 3), percent)(reader, value).map(Share::Percent)
}

fn classes<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Classes> {
    let mut object = reader.object(value)?;
    let selectors: Vec<(Class, Option<Selector>)> = Class::ALL
        .into_iter()
        .map(|(name, class)| (class, object.optional(name, selector)))
        .collect();
    let otherwise = object.optional("default", one_of(&Class::ALL, &[]));
    let header = object.optional("header", pattern((1, 64), field));
    object.finish();
    let selectors = selectors.into_iter().filter_map(|(class, found)| Some((class, found?)));
    Some(Classes {
        selectors: selectors.collect(),
        otherwise: otherwise.unwrap_or_default(),
        header,
    })
}

fn field(text: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(text).map_err(|_| String::from("is not the name of a header field"))
}

fn weights<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Weights> {
    let mut object = reader.object(value)?;
    let agents =
        object.optional("agents", |reader, value| shares(reader, value, is_name, AgentId::new));
    let teams =
        object.optional("teams", |reader, value| shares(reader, value, is_segment, TeamId::new));
    object.finish();
    Some(Weights { agents: agents.unwrap_or_default(), teams: teams.unwrap_or_default() })
}

/// Reads the shares of names.
fn shares<'v, Id: Eq + Hash>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    is_id: fn(&str) -> bool,
    name: fn(&str) -> Id,
) -> Option<HashMap<Id, u64>> {
    let Value::Object(map) = value else {
        reader.expected("an object of names and whole numbers", value);
        return None;
    };
    if map.len() > NAMES_MAX {
        reader.fault(format!("expected at most {NAMES_MAX} names, got {}", map.len()));
        return None;
    }
    let most = i64::try_from(SHARE_MAX).unwrap_or(i64::MAX);
    let read = |(key, value): (&'v String, &'v Value)| {
        reader.at(key, |reader| {
            if !is_id(key) {
                reader.fault("is not a name that anybody can have");
                return None;
            }
            Some((name(key), integer(1, most)(reader, value)?))
        })
    };
    Some(map.iter().filter_map(read).collect())
}

fn queue<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<(Room, Duration)> {
    let mut object = reader.object(value)?;
    let max = object.optional("max", integer(1, QUEUE_MAX));
    let class_max = object.optional("class_max", integer(1, QUEUE_MAX));
    let deadline = object.optional("deadline", |reader, value| {
        let deadline = interval(reader, value)?;
        if deadline > DEADLINE_MAX {
            reader.fault("expected at most 10m: no client waits for longer");
            return None;
        }
        Some(deadline)
    });
    object.finish();
    let room = Room { agent: max.unwrap_or(ROOM.agent), class: class_max.unwrap_or(ROOM.class) };
    Some((room, deadline.unwrap_or(DEADLINE)))
}

/// The upstreams, routes, agents and teams that a quota names.
pub(crate) fn links(value: &Value) -> Vec<Link> {
    let mut links = Vec::new();
    let upstreams = value.pointer("/match/upstreams").and_then(Value::as_array);
    for (index, item) in upstreams.into_iter().flatten().enumerate() {
        let id = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        let path = pointer::join("/match/upstreams", &index.to_string());
        links.push(Link { path, key: Key::new(Kind::Upstream, id) });
    }
    for (name, _) in Class::ALL {
        let at = format!("/classes/{name}");
        links.extend(value.pointer(&at).into_iter().flat_map(|found| selector_links(found, &at)));
    }
    for (name, kind) in [("agents", Kind::Consumer), ("teams", Kind::ConsumerGroup)] {
        let at = format!("/weights/{name}");
        let named = value.pointer(&at).and_then(Value::as_object);
        links.extend(named.into_iter().flatten().map(|(id, _)| Link {
            path: pointer::join(&at, id),
            key: Key::new(kind, id.as_str()),
        }));
    }
    links
}

/// Calls that may wait where nothing is said: each class leaves the others room.
const ROOM: Room = Room { agent: 100, class: WAITING_MAX / 4 };

/// The most calls of an agent, or of a class, that may be said.
const QUEUE_MAX: i64 = 10_000;

/// The longest wait where nothing is said: less than the patience of an SDK.
const DEADLINE: Duration = Duration::from_secs(10);
const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// Cloudflare's: five minutes.
const BLOCK: Duration = Duration::from_secs(300);
