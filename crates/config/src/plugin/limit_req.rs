//! `limit-req`: a leaky bucket whose overflow waits its turn.

use std::sync::Arc;
use std::time::Duration;

use model::{Bucket, Rate, Tokens};
use rules::plugin::{KeySource, LimitReq};
use rules::variable::{Template, Variable};
use serde_json::Value;

use crate::custody::Custody;
use crate::reader::{
    Object, Reader, boolean, decimal, integer, list, millis, one_of, port, text, unknown,
};

/// Reads the rule. The ledger counts, whatever the policy: the settings of Redis are checked and
/// kept, and have no effect.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<LimitReq> {
    let bucket = bucket(object);
    let key_type = object.optional("key_type", one_of(KEY_TYPES, &[]));
    let combined = key_type.unwrap_or_default();
    let key = object.required("key", |reader, value| key(reader, value, combined));
    let rejected_code = object.optional("rejected_code", integer(200, 599));
    let rejected_msg = object.optional("rejected_msg", text(1, 4096));
    let nodelay = object.optional("nodelay", boolean).unwrap_or_default();
    let allow_degradation = object.optional("allow_degradation", boolean).unwrap_or_default();
    policy(object);
    Some(LimitReq {
        bucket: bucket?,
        key: key?,
        nodelay,
        rejected_code: rejected_code.unwrap_or(REJECTED_CODE),
        rejected_msg: rejected_msg.map(Arc::from),
        allow_degradation,
    })
}

/// The status of a refusal where none is given, as in APISIX.
const REJECTED_CODE: u16 = 503;

/// Whether the key is a text with variables.
const KEY_TYPES: &[(&str, bool)] = &[("var", false), ("var_combination", true)];

/// The bucket holds `burst` requests that wait, and one that passes at once.
fn bucket(object: &mut Object<'_, '_>) -> Option<Bucket> {
    let rate = object.required("rate", |reader, value| {
        let text = decimal(false)(reader, value)?;
        let rate = Rate::parse(&text, Duration::from_secs(1));
        let rate = rate.map_err(|error| reader.fault(error.to_string())).ok()?;
        if rate.num() == 0 {
            reader.fault("expected 0 to be greater than 0");
            return None;
        }
        Some(rate)
    });
    object.required("burst", |reader, value| {
        let text = decimal(false)(reader, value)?;
        // Without a rate the burst itself is still checked.
        let second = Rate::parse("1", Duration::from_secs(1)).ok()?;
        let bucket = Bucket::new(rate.unwrap_or(second), &text, Tokens(1));
        bucket.map_err(|error| reader.fault(error.to_string())).ok().filter(|_| rate.is_some())
    })
}

fn key<'v>(reader: &mut Reader<'v>, value: &'v Value, combined: bool) -> Option<KeySource> {
    let text = text(1, 1024)(reader, value)?;
    if combined {
        let template = Template::parse(text).map_err(|fault| reader.fault(fault.to_string()));
        return template.ok().map(KeySource::Combination);
    }
    let variable = Variable::parse(text);
    if variable.is_none() {
        reader.fault(match text.strip_prefix('$').and_then(Variable::parse) {
            Some(_) => {
                String::from("names a variable without `$`, unless `key_type` is `var_combination`")
            }
            None => unknown("variable", text, VARIABLES.into_iter()),
        });
    }
    variable.map(KeySource::Variable)
}

/// Names that are offered for those that are close to them.
const VARIABLES: [&str; 8] = [
    "remote_addr",
    "consumer_name",
    "consumer_group_id",
    "organisation",
    "run",
    "route_id",
    "host",
    "uri",
];

/// Who counts, in APISIX's words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Local,
    Redis,
    RedisCluster,
}

const POLICIES: &[(&str, Policy)] =
    &[("local", Policy::Local), ("redis", Policy::Redis), ("redis-cluster", Policy::RedisCluster)];

fn policy(object: &mut Object<'_, '_>) {
    let policy = object.optional("policy", one_of(POLICIES, &[])).unwrap_or(Policy::Local);
    object.optional("redis_host", text(2, 256));
    object.optional("redis_port", port);
    object.optional("redis_username", text(1, 256));
    object.optional("redis_password", password);
    object.optional("redis_database", integer::<i64>(0, i64::MAX));
    object.optional("redis_timeout", millis(1));
    for name in ["redis_ssl", "redis_ssl_verify", "redis_cluster_ssl", "redis_cluster_ssl_verify"] {
        object.optional(name, boolean);
    }
    object.optional("redis_keepalive_timeout", millis(1_000));
    object.optional("redis_keepalive_pool", integer::<i64>(1, i64::MAX));
    object.optional("redis_cluster_nodes", list(1, 256, text(2, 100)));
    object.optional("redis_cluster_name", text(1, 256));
    let needed: &[&'static str] = match policy {
        Policy::Local => &[],
        Policy::Redis => &["redis_host"],
        Policy::RedisCluster => &["redis_cluster_nodes", "redis_cluster_name"],
    };
    for name in needed {
        if !object.has(name) {
            object.fault(name, "is required by the policy");
        }
    }
}

fn password<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<()> {
    let text = text(0, 4096)(reader, value)?;
    reader.hold(text, Custody::Seal);
    Some(())
}
