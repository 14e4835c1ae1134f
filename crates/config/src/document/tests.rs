//! What documents may and may not hold.

use proptest::prelude::*;
use serde_json::{Value, json};

mod money;

use super::{check, read, seals};
use crate::key::{Key, Kind};

/// The route of the article this product was asked for in, exactly as printed.
pub(crate) const ARTICLE: &str = r#" { "uri": "/ai-cloudflare/*", "name": "AI Agent Cloudflare Proxy", "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"], "upstream": { "type": "roundrobin", "nodes": { "api.cloudflare.com:443": 1 }, "scheme": "https" }, "plugins": { "limit-req": { "rate": 10, "burst": 5, "key": "remote_addr", "rejected_code": 429, "allow_degradation": true }, "proxy-rewrite": { "regex_uri": ["^/ai-cloudflare/(.*)", "/$1"] }, "jwt-auth": {}, "syslog": { "host": "127.0.0.1", "port": 514, "log_format": "json" } } }"#;

/// The faults of a document, each as `path: message`, or the start of it.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_kind(kind: Kind, id: &str, value: Value, expected: &[&str]) {
    let faults: Vec<String> =
        check(kind, Some(id), &value).iter().map(ToString::to_string).collect();
    let matches = faults.len() == expected.len()
        && faults.iter().zip(expected).all(|(fault, start)| fault.starts_with(start));
    assert!(matches, "{value}\nfound {faults:#?}\nexpected {expected:#?}");
}

/// A route with an upstream and these further members.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_route(members: Value, expected: &[&str]) {
    let mut value = json!({"uri": "/a", "upstream": {"nodes": {"a:80": 1}}});
    for (name, member) in members.as_object().unwrap() {
        value[name] = member.clone();
    }
    check_kind(Kind::Route, "1", value, expected);
}

/// A route with this one plugin.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_plugin(name: &str, plugin: Value, expected: &[&str]) {
    check_route(json!({"plugins": {name: plugin}}), expected);
}

/// An upstream with a node and these further members.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_upstream(members: Value, expected: &[&str]) {
    let mut value = json!({"nodes": {"a:80": 1}});
    for (name, member) in members.as_object().unwrap() {
        value[name] = member.clone();
    }
    check_kind(Kind::Upstream, "1", value, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_consumer(plugins: Value, expected: &[&str]) {
    check_kind(Kind::Consumer, "alice", json!({"plugins": plugins}), expected);
}

#[test]
fn the_article_s_route_is_taken_exactly_as_printed() {
    let value = serde_json::from_str(ARTICLE).unwrap();
    check_kind(Kind::Route, "cloudflare-ai-agent", value, &[]);
}

#[test]
fn a_route_must_name_paths_and_something_to_do() {
    check_kind(
        Kind::Route,
        "1",
        json!({}),
        &["needs an `upstream`, an `upstream_id` or `plugins`", "/uri: is required, or `uris`"],
    );
    check_kind(Kind::Route, "1", json!([]), &["expected an object, got an array"]);
    check_kind(Kind::Route, "1", json!({"uri": "/a", "upstream_id": 7}), &[]);
    check_kind(Kind::Route, "1", json!({"uri": "/a", "plugins": {}}), &[]);
    check_route(json!({"upstream_id": "1"}), &["/upstream_id: excludes `upstream`"]);
}

#[test]
fn every_field_of_a_route_is_checked() {
    check_route(
        json!({
            "uri": "a", "name": "", "desc": 1, "labels": {"a b": "c d", "n": 1}, "methods": ["GET", "get"],
            "host": "a*", "hosts": ["b", "b"], "remote_addr": "1.2.3", "priority": 1.5,
            "vars": [["arg_x", "==", "1"], ["nothing", "=", "1"]], "timeout": {"connect": 0, "send": 1},
            "status": 2, "enable_websocket": "yes", "filter_func": "x", "script": "x", "service_id": "1",
            "plugin_config_id": "1", "prioritty": 1,
        }),
        &[
            "/desc: expected a string, got a number",
            "/enable_websocket: expected a boolean, got a string",
            "/filter_func: is refused: code",
            "/host: may hold `*` at its beginning only",
            "/hosts: excludes `host`",
            "/hosts/1: stands in the list already",
            "/labels/a b: may hold only no white space",
            "/labels/n: expected a string, got a number",
            "/methods/1: expected `GET`, `POST`",
            "/name: is too short",
            "/plugin_config_id: is not served yet",
            "/prioritty: unknown field `prioritty`; did you mean `priority`?",
            "/priority: expected an integer, got 1.5",
            "/remote_addr: is neither an IP address nor a network",
            "/script: is refused: code",
            "/service_id: is not served yet",
            "/status: expected 2 to be at most 1",
            "/timeout/connect: expected 0 to be greater than 0",
            "/timeout/read: is required",
            "/uri: expected a path that starts with `/`",
            "/vars/1/0: unknown variable `nothing`",
            "/vars/1/1: the operator must be one of",
        ],
    );
}

#[test]
fn an_id_is_the_one_the_resource_is_written_under() {
    check_route(json!({"id": "1"}), &[]);
    check_route(json!({"id": 1}), &[]);
    check_route(json!({"id": "2"}), &["/id: is not the id that the resource is written under"]);
    let route = json!({"uri": "/a", "plugins": {}});
    check_kind(Kind::Route, "a/b", route.clone(), &["/id: may hold only 1 to 64"]);
    check_kind(Kind::Route, &"a".repeat(65), route.clone(), &["/id: may hold only 1 to 64"]);
    check_kind(Kind::Route, "..", route, &["/id: may hold only 1 to 64"]);
    check_kind(Kind::Consumer, "a.b", json!({}), &["/username: may hold only letters"]);
    check_kind(Kind::Consumer, "a", json!({"username": "b"}), &["/username: is not the name"]);
    assert_eq!(check(Kind::Consumer, None, &json!({})).len(), 1);
}

#[test]
fn what_apisix_has_and_this_release_has_not_is_refused_by_name() {
    check_upstream(
        json!({
            "type": "chash", "hash_on": "vars", "key": "uri", "checks": {}, "scheme": "kafka",
            "service_name": "a", "discovery_type": "dns",
            "tls": {"client_cert": "x", "client_key": "x", "verify": true},
        }),
        &[
            "/checks: is not served yet",
            "/discovery_type: is not served yet",
            "/hash_on: is not served yet",
            "/key: is not served yet",
            "/scheme: `kafka` is not served yet",
            "/service_name: is not served yet",
            "/tls/client_cert: is not served yet",
            "/tls/client_key: is not served yet",
            "/type: `chash` is not served yet",
        ],
    );
    check_plugin(
        "limit-count",
        json!({}),
        &["/plugins/limit-count: the plugin `limit-count` is not"],
    );
    check_plugin(
        "limit-rep",
        json!({}),
        &["/plugins/limit-rep: unknown plugin `limit-rep`; did you mean `limit-req`?"],
    );
}

#[test]
fn every_field_of_an_upstream_is_checked() {
    check_upstream(
        json!({
            "nodes": [{"host": "a b", "weight": -1}, {"port": 0, "weight": 1, "hots": "a"}],
            "pass_host": "rewrite", "retries": -1, "retry_timeout": -1, "keepalive_pool": {"size": 0},
            "timeout": 5, "trusted": 1, "credential": {"header": "Host", "secret": 1},
        }),
        &[
            "/credential/header: `host` belongs to the connection",
            "/credential/secret: expected a string",
            "/keepalive_pool/size: expected 0 to be at least 1",
            "/nodes/0/host: is neither a host name nor an IP address",
            "/nodes/0/weight: expected -1 to be at least 0",
            "/nodes/1/host: is required",
            "/nodes/1/hots: unknown field `hots`; did you mean `host`?",
            "/nodes/1/port: expected 0 to be at least 1",
            "/retries: expected -1 to be at least 0",
            "/retry_timeout: expected -1 to be at least 0",
            "/timeout: expected an object, got a number",
            "/trusted: expected a boolean",
            "/upstream_host: `upstream_host` can't be empty when `pass_host` is `rewrite`",
        ],
    );
    check_upstream(json!({"nodes": {"a:b": 1}}), &["/nodes/a:b: has no port"]);
    check_upstream(json!({"nodes": 1}), &["/nodes: expected an object or an array"]);
    check_upstream(json!({"upstream_host": "a"}), &["/upstream_host: needs `pass_host`"]);
    check_upstream(json!({"credential": "a\nb"}), &["/credential: holds what no header field"]);
    check_upstream(json!({"credential": "$env://CF"}), &[]);
    let passing =
        json!({"credential": "$env://CF", "pass_host": "pass", "nodes": {"a.example": 1}});
    check_upstream(passing, &["/pass_host: would send the credential to whatever host"]);
    for members in [
        json!({"credential": "$env://CF", "pass_host": "node", "nodes": {"a.example": 1}}),
        json!({"credential": "$env://CF", "pass_host": "pass", "nodes": {"192.0.2.1": 1}}),
        json!({"pass_host": "pass", "nodes": {"a.example": 1}}),
        json!({"api": "cloudflare"}),
        json!({"api": "none"}),
    ] {
        check_upstream(members, &[]);
    }
    check_upstream(
        json!({"credential": "$secret://aws/1/a/b"}),
        &["/credential: the secret manager `aws`"],
    );
    check_upstream(json!({"api": "Cloudflare"}), &["/api: "]);
}

#[test]
fn a_node_stands_once_however_it_is_spelt() {
    let check_nodes =
        |nodes: Value, expected: &[&str]| check_upstream(json!({"nodes": nodes}), expected);
    check_nodes(json!({"a:80": 1, "a:81": 1, "b": 1}), &[]);
    let twice = "names the node a:80 a second time";
    check_nodes(
        json!({"a:80": 1, "A:80": 1, "a": 0}),
        &[&format!("/nodes/A:80: {twice}"), &format!("/nodes/a: {twice}")],
    );
    check_nodes(
        json!({"[::1]:80": 1, "::1": 1}),
        &["/nodes/::1: names the node [::1]:80 a second"],
    );
    let node = |host: &str, port: u16, priority: i8| json!({"host": host, "port": port, "weight": 1, "priority": priority, "metadata": {"a": 1}});
    check_nodes(json!([node("a", 80, 0), node("a", 81, 0), node("b", 80, 0)]), &[]);
    check_nodes(
        json!([node("a", 80, 0), {"host": "", "weight": 1}, node("A", 80, -1)]),
        &["/nodes/1/host: is too short", &format!("/nodes/2: {twice}")],
    );
}

#[test]
fn limit_req_is_checked() {
    let full = json!({
        "rate": 0.5, "burst": 0, "key": "$consumer_name $remote_addr", "key_type": "var_combination",
        "policy": "redis", "redis_host": "127.0.0.1", "redis_port": 6379, "redis_username": "u",
        "redis_password": "p", "redis_database": 1, "redis_timeout": 1000, "redis_ssl": true,
        "redis_ssl_verify": false, "redis_keepalive_timeout": 10000, "redis_keepalive_pool": 100,
        "nodelay": true, "allow_degradation": false, "rejected_code": 503, "rejected_msg": "no",
        "_meta": {"disable": true},
    });
    check_plugin("limit-req", full, &[]);
    let cluster = json!({"rate": 1, "burst": 1, "key": "uri", "policy": "redis-cluster"});
    check_plugin(
        "limit-req",
        cluster,
        &[
            "/plugins/limit-req/redis_cluster_name: is required by the policy",
            "/plugins/limit-req/redis_cluster_nodes: is required by the policy",
        ],
    );
    check_plugin(
        "limit-req",
        json!({"rate": 0, "burst": -1, "key": "remote_adr", "rejected_code": 199, "rejected_msg": ""}),
        &[
            "/plugins/limit-req/burst: expected -1 to be at least 0",
            "/plugins/limit-req/key: unknown variable `remote_adr`; did you mean `remote_addr`?",
            "/plugins/limit-req/rate: expected 0 to be greater than 0",
            "/plugins/limit-req/rejected_code: expected 199 to be at least 200",
            "/plugins/limit-req/rejected_msg: is too short",
        ],
    );
    check_plugin(
        "limit-req",
        json!({"rate": "1", "key": "$uri", "brst": 1}),
        &[
            "/plugins/limit-req/brst: unknown field `brst`; did you mean `burst`?",
            "/plugins/limit-req/burst: is required",
            "/plugins/limit-req/key: names a variable without `$`",
            "/plugins/limit-req/rate: expected a number, got a string",
        ],
    );
}

#[test]
fn proxy_rewrite_is_checked() {
    let at = |text: &str| format!("/plugins/proxy-rewrite{text}");
    check_plugin(
        "proxy-rewrite",
        json!({}),
        &[&at(": expect object to have at least 1 properties")],
    );
    check_plugin(
        "proxy-rewrite",
        json!({"regex_uri": ["^/a"]}),
        &[&at("/regex_uri: The length of regex_uri should be an even number")],
    );
    check_plugin(
        "proxy-rewrite",
        json!({
            "uri": "a", "regex_uri": ["(", "/$1"], "host": "a/b", "method": "CONNECT",
            "headers": {"set": {"a b": "c", "Host": "x", "x": "a\nb", "y": true}, "remove": ["Te"]},
        }),
        &[
            &at("/headers/remove/0: `te` belongs to the connection"),
            &at("/headers/set/Host: `host` belongs to the connection"),
            &at("/headers/set/a b: invalid field character in header"),
            &at("/headers/set/x: invalid value character in header"),
            &at("/headers/set/y: expected a string or a number"),
            &at("/host: may hold only"),
            &at("/method: unknown value `CONNECT`"),
            &at("/regex_uri/0: invalid regex_uri((, /$1): error: unclosed group"),
            &at("/uri: expected a path"),
        ],
    );
    let headers =
        json!({"headers": {"X-Agent": "$consumer_name", "Authorization": "Bearer $env://A"}});
    check_plugin("proxy-rewrite", headers, &[]);
}

#[test]
fn a_pattern_of_a_rewrite_has_a_bound_in_size_and_depth() {
    let check_pattern = |pattern: &str, expected: Option<&str>| {
        let expected = expected.map(|why| {
            format!("/plugins/proxy-rewrite/regex_uri/0: invalid regex_uri({pattern}, /): {why}")
        });
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check_plugin("proxy-rewrite", json!({"regex_uri": [pattern, "/"]}), &expected);
    };
    let nested = |depth| format!("{}a{}", "(?:".repeat(depth), ")".repeat(depth));
    check_pattern("^/a{1000}$", None);
    check_pattern("(?:a{1000}){100}", Some("compiles to over 1048576 bytes"));
    check_pattern("\\w{1000}", Some("compiles to over 1048576 bytes"));
    check_pattern(&nested(64), None);
    check_pattern(&nested(65), Some("error: exceed the maximum number of nested"));
}

#[test]
fn the_other_plugins_are_checked() {
    check_plugin(
        "jwt-auth",
        json!({"header": "a b", "claims_to_verify": ["exp", "iat"], "store_in_ctx": true, "secret": "s"}),
        &[
            "/plugins/jwt-auth/claims_to_verify/1: expected `exp` or `nbf`",
            "/plugins/jwt-auth/header: is not the name of a header",
            "/plugins/jwt-auth/secret: belongs in the plugin of a consumer",
            "/plugins/jwt-auth/store_in_ctx: is not served yet",
        ],
    );
    check_plugin(
        "key-auth",
        json!({"hide_credentials": 1}),
        &["/plugins/key-auth/hide_credentials"],
    );
    check_plugin(
        "syslog",
        json!({"host": "", "port": 65536, "sock_type": "udp", "tls": true, "log_format": "xml"}),
        &[
            "/plugins/syslog/host: is too short",
            "/plugins/syslog/log_format: expected an object, or `json`",
            "/plugins/syslog/port: expected 65536 to be at most 65535",
            "/plugins/syslog/tls: needs `sock_type` to be `tcp`",
        ],
    );
    check_plugin(
        "file-logger",
        json!({"log_format": {"a": "$nothing", "b": {"c": 1}}, "match": 1}),
        &[
            "/plugins/file-logger/log_format/a: unknown variable `$nothing`",
            "/plugins/file-logger/log_format/b/c: expected a string or an object",
            "/plugins/file-logger/match: expected an array, got a number",
            "/plugins/file-logger/path: is required",
        ],
    );
    check_plugin(
        "request-id",
        json!({"algorithm": "snowflake", "range_id": {"length": 5}}),
        &["/plugins/request-id/algorithm: unknown value", "/plugins/request-id/range_id/length"],
    );
    check_plugin(
        "key-auth",
        json!({"_meta": {"priority": 1, "pre_function": "x", "filter": 1, "error_response": 1}}),
        &[
            "/plugins/key-auth/_meta/error_response: expected a string or an object",
            "/plugins/key-auth/_meta/filter: an expression must be an array",
            "/plugins/key-auth/_meta/pre_function: is refused: code",
            "/plugins/key-auth/_meta/priority: is refused: plugins run in one order",
        ],
    );
}

#[test]
fn a_match_is_a_list_of_lists_of_conditions() {
    let check_match = |value: Value, expected: &[&str]| {
        check_plugin("file-logger", json!({"path": "a", "match": value}), expected);
    };
    let (one, other) = (json!(["arg_a", "==", "1"]), json!(["arg_b", "==", "2"]));
    check_match(json!([[one, other], [one]]), &[]);
    check_match(json!([["OR", one, other], []]), &[]);
    check_match(json!([]), &[]);
    check_match(json!([one]), &[]);
    let bare = "is a condition where a list of conditions belongs";
    let at = |index: u8| format!("/plugins/file-logger/match/{index}: {bare}");
    check_match(json!([one, other]), &[&at(0), &at(1)]);
    check_match(json!([[one], other]), &[&at(1)]);
    check_match(
        json!([[["nothing", "==", "1"]], 7]),
        &[
            "/plugins/file-logger/match/0/0/0: unknown variable `nothing`",
            "/plugins/file-logger/match/1: an expression must be an array",
        ],
    );
}

#[test]
fn a_plugin_that_is_switched_off_may_hold_anything() {
    let off = json!({"disable": true});
    for name in crate::plugin_names() {
        check_plugin(name, json!({"_meta": off}), &[]);
        let wrong = json!({
            "_meta": {"disable": true, "priority": 1, "filter": 7}, "key": {"a": ["$env://A"]},
            "rate": "x", "port": -1, "regex_uri": ["(", "$env://A"], "nonsense": "$nonsense",
        });
        check_plugin(name, wrong, &[]);
    }
    check_consumer(json!({"jwt-auth": {"_meta": off}, "key-auth": {"_meta": off, "x": 1}}), &[]);
    check_kind(
        Kind::Credential,
        "alice/one",
        json!({"plugins": {"key-auth": {"_meta": off}}}),
        &[],
    );
}

#[test]
fn only_true_switches_a_plugin_off() {
    for value in [json!(false), json!("true"), json!(1), json!(null)] {
        let plugin = json!({"host": "a", "_meta": {"disable": value}});
        let faults =
            check(Kind::Route, Some("1"), &json!({"uri": "/a", "plugins": {"syslog": plugin}}));
        assert!(faults.iter().any(|fault| fault.path == "/plugins/syslog/port"), "{faults:?}");
    }
    check_plugin(
        "syslog",
        json!({"_meta": {"disabled": true}}),
        &[
            "/plugins/syslog/_meta/disabled: unknown field `disabled`; did you mean `disable`?",
            "/plugins/syslog/host: is required",
            "/plugins/syslog/port: is required",
        ],
    );
}

#[test]
fn where_a_plugin_may_not_stand_it_may_not_stand_switched_off() {
    let off = json!({"_meta": {"disable": true}});
    check_plugin("limit-count", off.clone(), &["/plugins/limit-count: the plugin `limit-count`"]);
    check_kind(
        Kind::ConsumerGroup,
        "dns",
        json!({"plugins": {"jwt-auth": off}}),
        &["/plugins/jwt-auth: has no effect in a team"],
    );
}

#[test]
fn what_proves_an_agent_is_checked() {
    let at = |text: &str| format!("/plugins/jwt-auth/{text}");
    check_consumer(json!({"jwt-auth": {"key": "a", "secret": "s"}, "key-auth": {"key": "k"}}), &[]);
    check_consumer(
        json!({"jwt-auth": {"key": "a"}}),
        &[&at("secret: property \"secret\" is required")],
    );
    check_consumer(
        json!({"jwt-auth": {"secret": "?", "base64_secret": true, "exp": 0, "private_key": "x"}}),
        &[
            &at("exp: expected 0 to be at least 1"),
            &at("key: is required"),
            &at("private_key: is not needed"),
            &at("secret: base64_secret required but the secret is not in base64 format"),
        ],
    );
    check_consumer(
        json!({"jwt-auth": {"key": "a", "algorithm": "RS256"}}),
        &[&at("public_key: missing valid public key")],
    );
    check_consumer(
        json!({"jwt-auth": {"key": "a", "algorithm": "ES512", "public_key": "x"}}),
        &[&at("public_key: is not a PEM public key for ES512")],
    );
    check_consumer(
        json!({"jwt-auth": {"key": "a", "algorithm": "none"}}),
        &[&at("algorithm: unknown algorithm `none`")],
    );
    check_kind(
        Kind::Credential,
        "alice/one",
        json!({"plugins": {"limit-req": {}, "key-auth": {"key": "k"}}}),
        &[
            "/plugins: a credential holds exactly one plugin",
            "/plugins/limit-req: only supports auth type plugins in consumer credential",
        ],
    );
    check_kind(
        Kind::ConsumerGroup,
        "dns",
        json!({"plugins": {"jwt-auth": {}}}),
        &["/plugins/jwt-auth: has no effect in a team"],
    );
}

#[test]
fn a_team_has_two_names_and_an_agent_one_team() {
    let check_agent = |value, expected: &[&str]| check_kind(Kind::Consumer, "bob", value, expected);
    check_agent(json!({"team": "dns"}), &[]);
    check_agent(json!({"group_id": "dns"}), &[]);
    check_agent(json!({"group_id": "dns", "team": "dns"}), &[]);
    check_agent(json!({"group_id": 7, "team": "7"}), &[]);
    let other = "/team: is another team than `group_id`";
    check_agent(json!({"group_id": "dns", "team": "web"}), &[other]);
    check_agent(json!({"group_id": "dns", "team": "a b"}), &["/team: may hold only letters"]);
    let excluded = "/organisation: excludes a team";
    check_agent(json!({"team": "dns", "organisation": "acme"}), &[excluded]);
    check_agent(json!({"group_id": "dns", "organisation": "acme"}), &[excluded]);
}

#[test]
fn a_limit_is_checked() {
    let full = json!({
        "per": "agent", "match": {"routes": ["1"], "agents": ["a"], "teams": [7], "methods": ["GET"]},
        "rate": "0.25", "interval": "5m", "burst": 3, "mode": "leased", "on_outage": "allow", "shadow": true, "desc": "d",
    });
    check_kind(Kind::Limit, "1", full, &[]);
    check_kind(
        Kind::Limit,
        "1",
        json!({"per": "user", "rate": "x", "burst": 0.5, "interval": "5", "mode": "lease", "on_outage": "panic",
               "match": {"agents": [], "methods": ["get"], "team": ["x"]}}),
        &[
            "/burst: expected 0.5 to be at least 1: a smaller bucket admits nothing",
            "/interval: expected a whole number from 1 with a unit: `ms`, `s`, `m`, `h` or `d`; or",
            "/match/agents: expected at least 1 items",
            "/match/methods/0: expected `GET`",
            "/match/team: unknown field `team`; did you mean `teams`?",
            "/mode: unknown value `lease`",
            "/on_outage: unknown value `panic`",
            "/per: unknown value `user`",
            "/rate: is not a decimal number of tokens",
        ],
    );
    check_kind(Kind::Limit, "1", json!({"per": "run", "rate": 1e300}), &["/rate: is too large"]);
}

#[test]
fn an_upstream_quota_is_checked() {
    let full = json!({
        "match": {"upstreams": ["cf", 7], "hosts": ["api.cloudflare.com"]}, "per": "upstream",
        "quota": 1200, "window": "5m", "burst": 60, "reserve": "10%", "block": "10m",
        "classes": {"interactive": {"teams": ["chat"]}, "automation": {"routes": ["1"]},
                    "bulk": {"agents": ["a"]}, "default": "bulk", "header": "x-class"},
        "weights": {"agents": {"a": 3}, "teams": {"dns": 2}},
        "queue": {"max": 10, "deadline": "2s"}, "on_outage": "allow", "desc": "d",
    });
    check_kind(Kind::UpstreamQuota, "1", full, &[]);
    let faults = &[
        "/block: expected a whole number from 1",
        "/burst: expected 0 to be at least 1",
        "/classes/bulk/agents: expected at least 1 items",
        "/classes/default: unknown value `high`",
        "/classes/header: is not the name of a header field",
        "/classes/urgent: unknown field `urgent`",
        "/match: needs `upstreams` or `hosts`",
        "/match/routes: unknown field `routes`",
        "/on_outage: unknown value `panic`",
        "/per: unknown value `agent`",
        "/queue/deadline: expected at most 10m",
        "/queue/max: expected 0 to be at least 1",
        "/quota: expected an integer",
        "/reserve: expected a number of calls",
        "/weights/agents/a: expected 101 to be at most 100",
        "/weights/agents/a b: is not a name",
        "/weights/teams: expected an object",
        "/window: expected a window from 1s to 1d",
    ];
    let value = json!({
        "match": {"routes": ["1"]}, "per": "agent", "quota": "x", "window": "2d", "burst": 0,
        "reserve": "x%", "block": "x", "weights": {"agents": {"a": 101, "a b": 1}, "teams": []},
        "classes": {"urgent": {}, "default": "high", "header": "a b", "bulk": {"agents": []}},
        "queue": {"max": 0, "deadline": "11m"}, "on_outage": "panic",
    });
    check_kind(Kind::UpstreamQuota, "1", value, faults);
    let with = |name: &str, value: Value| {
        let mut quota = json!({"match": {"hosts": ["a"]}, "quota": 10, "window": 60});
        quota[name] = value;
        quota
    };
    let check = |name: &str, value: Value, expected: &str| {
        check_kind(Kind::UpstreamQuota, "1", with(name, value), &[expected]);
    };
    check("burst", json!(11), "/burst: is more than `quota`");
    check("reserve", json!(10), "/reserve: leaves nothing of `quota`");
    check("match", json!({"hosts": ["a:443"]}), "/match/hosts/0: expected a host without a port");
    check("quota", json!(10_000_001), "/quota: expected 10000001 to be at most 10000000");
}

#[test]
fn a_zone_is_checked() {
    let id = "023e105f4ecef8ad9ca31a8372d0c353";
    check_kind(Kind::Zone, "example.com", json!({"zone_id": id, "account_id": id}), &[]);
    let faults = ["/account_id: is too short", "/zone_id: expected 32 hexadecimal digits"];
    let wrong = json!({"zone_id": id.to_uppercase(), "account_id": "1"});
    check_kind(Kind::Zone, "example.com", wrong, &faults);
    check_kind(Kind::Zone, "Example.com", json!({"zone_id": id}), &["/id: a zone's name"]);
}

#[test]
fn every_fault_of_a_policy_has_its_line() {
    let text = "permit (principal, action, resource);\n\
        forbid (principal, action == Action::\"dns.record.list\", resource);\n\
        forbid (principal, action, resource) when { context.bdy has x };";
    let faults = ["/text: line 2:38: there is no action", "/text: line 3:45: attribute `bdy`"];
    check_kind(Kind::Policy, "1", json!({"text": text}), &faults);
    check_kind(Kind::Policy, "1", json!({"text": ""}), &["/text: is too short"]);
    let (whole, _) = text.split_once('\n').unwrap();
    check_kind(Kind::Policy, "1", json!({"text": whole, "disabled": true, "desc": "d"}), &[]);
}

/// A limit of one token with these further members.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_limit(members: Value, expected: &[&str]) {
    let mut value = json!({"per": "run", "rate": 1});
    for (name, member) in members.as_object().unwrap() {
        value[name] = member.clone();
    }
    check_kind(Kind::Limit, "1", value, expected);
}

#[test]
fn an_interval_is_a_number_of_seconds_or_a_text_with_a_unit() {
    for interval in
        [json!(300), json!(0.5), json!(0.001), json!(31_622_400), json!("5m"), json!("1ms")]
    {
        check_limit(json!({"interval": interval}), &[]);
    }
    check_limit(json!({"interval": 0}), &["/interval: expected 0 to be greater than 0"]);
    check_limit(json!({"interval": -1}), &["/interval: expected -1 to be at least 0"]);
    check_limit(json!({"interval": 0.0009}), &["/interval: expected 0.0009 to be at least 0.001"]);
    check_limit(json!({"interval": 31_622_401}), &["/interval: is longer than"]);
    check_limit(json!({"interval": "367d"}), &["/interval: is longer than 366 days"]);
    check_limit(json!({"interval": "0s"}), &["/interval: expected a whole number from 1"]);
    check_limit(json!({"interval": "300"}), &["/interval: expected a whole number from 1 with"]);
    check_limit(json!({"interval": true}), &["/interval: expected a number of seconds or a text"]);
}

#[test]
fn a_burst_holds_at_least_one_token() {
    for burst in [json!(1), json!("1"), json!(1.5)] {
        check_limit(json!({"burst": burst}), &[]);
    }
    for burst in [json!(0), json!("0"), json!(0.999), json!("0.5")] {
        check_limit(json!({"burst": burst}), &["/burst: expected 0"]);
    }
    check_limit(json!({"burst": -1}), &["/burst: expected -1 to be at least 0"]);
    check_limit(json!({"burst": "x"}), &["/burst: is not a decimal number of tokens"]);
}

#[test]
fn a_secret_manager_is_checked() {
    let good = json!({"uri": "https://vault:8200", "prefix": "kv/apisix", "token": "$env://VAULT"});
    check_kind(Kind::Secret, "vault/1", good.clone(), &[]);
    check_kind(
        Kind::Secret,
        "aws/1",
        good.clone(),
        &["the secret manager `aws` is not served yet"],
    );
    check_kind(
        Kind::Secret,
        "1",
        good,
        &["names no secret manager", "/id: names nothing that it belongs to"],
    );
    check_kind(
        Kind::Secret,
        "vault/1",
        json!({"uri": "ftp://a", "prefix": "a/../b", "token": "$secret://vault/2/a/b"}),
        &[
            "/prefix: is not a path inside a vault",
            "/token: may not lie in a vault itself",
            "/uri: expected `http://HOST`",
        ],
    );
}

#[test]
fn a_reference_stands_only_where_it_is_resolved() {
    check_route(json!({"desc": "see $env://TOKEN"}), &[]);
    check_route(
        json!({"labels": {"a": "$env://A"}}),
        &["/labels/a: holds a reference to a secret"],
    );
    check_plugin(
        "key-auth",
        json!({"realm": "$sealed://v1/a/b"}),
        &["/plugins/key-auth/realm: holds a sealed secret"],
    );
}

#[test]
fn a_secret_in_a_header_is_found() {
    let value = json!({"plugins": {"proxy-rewrite": {"headers": {
        "set": {"Authorization": "Bearer x", "X-Plain": "y", "Cookie": "a $env://A"},
    }}}});
    let places: Vec<String> =
        seals(Kind::Route, &value).into_iter().map(|seal| seal.pointer).collect();
    assert_eq!(places, ["/plugins/proxy-rewrite/headers/set/Authorization"]);
}

/// JSON made of the words that documents are made of, so that it comes close to one.
fn document() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "uri",
        "/a/*",
        "plugins",
        "upstream",
        "nodes",
        "a:80",
        "jwt-auth",
        "key",
        "secret",
        "limit-req",
        "rate",
        "burst",
        "remote_addr",
        "proxy-rewrite",
        "regex_uri",
        "headers",
        "set",
        "$1",
        "(",
        "vars",
        "==",
        "syslog",
        "host",
        "port",
        "log_format",
        "json",
        "match",
        "per",
        "agent",
        "interval",
        "1s",
        "$env://A",
        "$secret://vault/1/a/b",
        "$sealed://v1/x/y",
        "credential",
        "_meta",
        "id",
        "1",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let members = prop::collection::vec((words.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| {
                let pairs = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_the_check_panic(value in document(), plugin in document()) {
        for kind in Kind::ALL {
            for id in [None, Some("1"), Some("vault/1")] {
                drop(check(*kind, id, &value));
            }
            let whole = json!({"uri": "/a", "plugins": {"limit-req": plugin, "proxy-rewrite": plugin,
                "syslog": plugin, "jwt-auth": plugin, "request-id": plugin}, "upstream": plugin});
            drop(check(*kind, Some("1"), &whole));
            seals(*kind, &whole);
        }
    }

    #[test]
    fn what_the_check_takes_can_be_read(value in document()) {
        for kind in Kind::ALL {
            if check(*kind, Some("1"), &value).is_empty() {
                prop_assert!(read(&Key::new(*kind, "1"), &value).is_ok());
            }
        }
    }
}

#[test]
fn a_rule_about_answers_is_checked() {
    let full = json!({
        "match": {"operations": ["user.tokens.create"], "teams": ["ops"]}, "desc": "d",
        "reveal": ["result.value"], "redact": ["result.*.email"], "refuse": "never",
        "rewrite": [{"field": "result.url", "from": "wss://tail.example/", "to": "wss://g.example/t/"}],
    });
    check_kind(Kind::Response, "1", full, &[]);
    check_kind(Kind::Response, "1", json!({"match": {}, "reveal": ["*"]}), &[]);
    check_kind(Kind::Response, "1", json!({"match": {}}), &["does nothing: it needs `reveal`"]);
    let value = json!({
        "match": {"operations": ["user.token.create"]}, "reveal": "*", "redact": ["a..b", "a", "a"],
        "rewrite": [{"field": "a", "from": "https://api.example", "to": "ftp://x/"}, {"field": "b"}],
        "refuse": "", "hide": [],
    });
    let faults = &[
        "/hide: unknown field",
        "/match/operations/0: unknown operation",
        "/redact/0: expected up to 16 names",
        "/refuse: is too short",
        "/reveal: expected",
        "/rewrite/0/from: expected the beginning of a URL",
        "/rewrite/0/to: expected the beginning of a URL",
        "/rewrite/1/from: is required",
        "/rewrite/1/to: is required",
    ];
    check_kind(Kind::Response, "1", value, faults);
}
