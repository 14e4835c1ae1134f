//! API tokens: who calls, and the tokens that calls make.
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::id::Ids;
use crate::options::{self, GlobalKey, Permission, TokenStatus};
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/user/tokens", list),
    Route::post("/user/tokens", create),
    Route::get("/user/tokens/verify", verify),
    Route::get("/user/tokens/permission_groups", groups),
    Route::get("/user/tokens/{token_id}", show),
    Route::put("/user/tokens/{token_id}", update),
    Route::delete("/user/tokens/{token_id}", delete),
    Route::put("/user/tokens/{token_id}/value", roll),
    Route::get("/accounts/{account_id}/tokens", list),
    Route::post("/accounts/{account_id}/tokens", create),
    Route::get("/accounts/{account_id}/tokens/verify", verify),
    Route::get("/accounts/{account_id}/tokens/permission_groups", groups),
    Route::get("/accounts/{account_id}/tokens/{token_id}", show),
    Route::put("/accounts/{account_id}/tokens/{token_id}", update),
    Route::delete("/accounts/{account_id}/tokens/{token_id}", delete),
    Route::put("/accounts/{account_id}/tokens/{token_id}/value", roll),
];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's id, or the global key's address.
    pub(crate) id: String,
    pub(crate) permission: Permission,
}

/// Every token, and the global key.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
    global_key: Option<GlobalKey>,
}

#[derive(Debug, Clone)]
struct Token {
    id: String,
    /// The account it belongs to; empty for the user's own.
    owner: String,
    secret: String,
    name: String,
    status: TokenStatus,
    permission: Permission,
    policies: Value,
    condition: Value,
    issued_on: Timestamp,
    modified_on: Timestamp,
    not_before: Option<Timestamp>,
    expires_on: Option<Timestamp>,
}

impl Tokens {
    pub(crate) fn new(
        ids: &mut Ids,
        known: &[options::Token],
        global_key: Option<GlobalKey>,
        now: Timestamp,
    ) -> Self {
        let token = |(index, known): (usize, &options::Token)| Token {
            id: ids.hex32(),
            owner: String::new(),
            secret: known.secret.clone(),
            name: format!("token {}", index + 1),
            status: known.status,
            permission: known.permission,
            policies: starting_policies(known.permission),
            condition: json!({}),
            issued_on: now,
            modified_on: now,
            not_before: None,
            expires_on: known.expires_on,
        };
        Self { tokens: known.iter().enumerate().map(token).collect(), global_key }
    }

    /// Who a request's headers say it is. `verifying` is the call that asks just that, which words
    /// its refusal differently.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
        verifying: bool,
    ) -> Result<Caller, Refusal> {
        if headers.contains_key("x-auth-key") || headers.contains_key("x-auth-email") {
            return self.identify_by_key(headers);
        }
        let Some(authorization) = headers.get(AUTHORIZATION) else {
            let message = "Missing X-Auth-Key, X-Auth-Email or Authorization headers";
            return Err(Refusal::bad(9106, message));
        };
        let secret = authorization.to_str().ok().and_then(bearer).ok_or_else(bad_authorization)?;
        let known = self.tokens.iter().find(|token| token.secret == secret);
        let unknown = || {
            if verifying { bad_token() } else { Refusal::forbidden(9109, "Invalid access token") }
        };
        let token = known.ok_or_else(unknown)?;
        // A token that is not in force may still ask how it stands.
        if token.status_at(now) != TokenStatus::Active && !verifying {
            return Err(unknown());
        }
        Ok(Caller { id: token.id.clone(), permission: token.permission })
    }

    fn identify_by_key(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let key = text("x-auth-key").unwrap_or_default();
        if key.len() < 37 {
            return Err(Refusal::bad(6003, "Invalid request headers")
                .because(6103, "Invalid format for X-Auth-Key header"));
        }
        let email = text("x-auth-email").unwrap_or_default();
        let known = self.global_key.as_ref();
        if known.is_none_or(|known| known.key != key || known.email != email) {
            return Err(Refusal::forbidden(9103, "Unknown X-Auth-Key or X-Auth-Email"));
        }
        Ok(Caller { id: email.to_owned(), permission: Permission::All })
    }

    fn find(&mut self, call: &Call<'_>) -> Result<&mut Token, Refusal> {
        let (owner, id) = (call.param("account_id"), call.param("token_id"));
        let found = self.tokens.iter_mut().find(|token| token.owner == owner && token.id == id);
        found.ok_or_else(|| Refusal::missing(1003, "Invalid API Token: not found"))
    }
}

impl Token {
    fn status_at(&self, now: Timestamp) -> TokenStatus {
        let over = self.expires_on.is_some_and(|end| end <= now);
        let early = self.not_before.is_some_and(|start| now < start);
        match self.status {
            TokenStatus::Active if over => TokenStatus::Expired,
            TokenStatus::Active if early => TokenStatus::Disabled,
            status => status,
        }
    }

    fn to_json(&self, now: Timestamp) -> Value {
        let mut shown = json!({
            "id": self.id,
            "name": self.name,
            "status": word(self.status_at(now)),
            "issued_on": stamp(self.issued_on),
            "modified_on": stamp(self.modified_on),
            "last_used_on": null,
            "policies": self.policies,
        });
        if let Some(shown) = shown.as_object_mut() {
            for (name, at) in [("not_before", self.not_before), ("expires_on", self.expires_on)] {
                if let Some(at) = at {
                    shown.insert(name.to_owned(), stamp(at).into());
                }
            }
            if self.condition.as_object().is_some_and(|condition| !condition.is_empty()) {
                shown.insert("condition".to_owned(), self.condition.clone());
            }
        }
        shown
    }

    /// Takes over what `wanted` says.
    fn apply(&mut self, wanted: &Map<String, Value>) -> Result<(), Refusal> {
        let name = wanted.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        self.name = name.ok_or_else(|| Refusal::bad(1001, "Token name is required"))?.to_owned();
        let policies = wanted.get("policies").and_then(Value::as_array);
        let policies = policies.filter(|policies| !policies.is_empty());
        let policies =
            policies.ok_or_else(|| Refusal::bad(1001, "At least one policy is required"))?;
        self.permission = permission(policies);
        self.policies = policies.iter().map(named).collect();
        self.condition = wanted.get("condition").cloned().unwrap_or_else(|| json!({}));
        self.not_before = time(wanted, "not_before")?;
        self.expires_on = time(wanted, "expires_on")?;
        match wanted.get("status").and_then(Value::as_str) {
            Some("disabled") => self.status = TokenStatus::Disabled,
            Some("active") => self.status = TokenStatus::Active,
            _ => {}
        }
        Ok(())
    }
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let owner = call.param("account_id");
    let tokens: Vec<_> =
        world.tokens.tokens.iter().filter(|token| token.owner == owner).cloned().collect();
    by_page(call, &tokens, PageSize { usual: 20, max: 50 }, |token| token.to_json(call.now))
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    room_for("tokens", world.tokens.tokens.len(), TOKENS_MAX)?;
    let owner = call.param("account_id").to_owned();
    let prefix = prefix(&owner);
    let mut token = Token {
        id: world.ids.hex32(),
        owner,
        secret: world.ids.secret(prefix),
        name: String::new(),
        status: TokenStatus::Active,
        permission: Permission::ReadOnly,
        policies: json!([]),
        condition: json!({}),
        issued_on: call.now,
        modified_on: call.now,
        not_before: None,
        expires_on: None,
    };
    token.apply(&wanted)?;
    let mut shown = token.to_json(call.now);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("value".to_owned(), token.secret.clone().into());
    }
    world.tokens.tokens.push(token);
    Ok(Answer::result(shown))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.tokens.find(call)?.to_json(call.now)))
}

fn update(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let token = world.tokens.find(call)?;
    let mut changed = token.clone();
    changed.apply(&wanted)?;
    changed.modified_on = call.now;
    *token = changed;
    Ok(Answer::result(token.to_json(call.now)))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let id = world.tokens.find(call)?.id.clone();
    world.tokens.tokens.retain(|token| token.id != id);
    Ok(Answer::result(json!({ "id": id })))
}

/// Makes a new secret; the old one is worthless from now on.
fn roll(world: &mut World, call: &Call<'_>) -> Reply {
    let secret = world.ids.secret(prefix(call.param("account_id")));
    let token = world.tokens.find(call)?;
    token.secret.clone_from(&secret);
    token.modified_on = call.now;
    Ok(Answer::result(secret))
}

fn verify(world: &mut World, call: &Call<'_>) -> Reply {
    let asked = world.tokens.tokens.iter().find(|token| token.id == call.token);
    let token = asked.ok_or_else(bad_token)?;
    let status = token.status_at(call.now);
    let shown = json!({ "id": token.id, "status": word(status) });
    match status {
        TokenStatus::Active => {
            Ok(Answer::remarked(shown, 10_000, "This API Token is valid and active"))
        }
        TokenStatus::Disabled | TokenStatus::Expired => {
            Ok(Answer::remarked(shown, 10_001, "This API Token is not active"))
        }
    }
}

fn groups(_: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.query.text("name");
    let fits = |(_, name, _): &&(&str, &str, &str)| wanted.is_none_or(|wanted| wanted == *name);
    let shown = GROUPS
        .iter()
        .filter(fits)
        .map(|(id, name, scope)| json!({ "id": id, "name": name, "scopes": [scope] }));
    Ok(Answer::result(shown.collect::<Vec<_>>()))
}

/// The secret in an `Authorization`, if it looks like one.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, secret) = authorization.split_once(' ')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = scheme.eq_ignore_ascii_case("bearer")
        && (SECRET_MIN..=SECRET_MAX).contains(&secret.len())
        && secret.bytes().all(plain);
    good.then_some(secret)
}

fn bad_authorization() -> Refusal {
    Refusal::bad(6003, "Invalid request headers")
        .because(6111, "Invalid format for Authorization header")
}

fn bad_token() -> Refusal {
    Refusal::new(http::StatusCode::UNAUTHORIZED, 1000, "Invalid API Token")
}

fn prefix(owner: &str) -> &'static str {
    if owner.is_empty() { "cfut_" } else { "cfat_" }
}

fn word(status: TokenStatus) -> &'static str {
    match status {
        TokenStatus::Active => "active",
        TokenStatus::Disabled => "disabled",
        TokenStatus::Expired => "expired",
    }
}

fn time(wanted: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = wanted.get(name).and_then(Value::as_str) else { return Ok(None) };
    let bad = |_| Refusal::bad(1001, format!("{name} is not a valid time"));
    text.parse().map(Some).map_err(bad)
}

/// A token may write if one of its groups says more than "Read".
fn permission(policies: &[Value]) -> Permission {
    let ids = policies.iter().filter_map(|policy| policy.get("permission_groups")?.as_array());
    let mut ids = ids.flatten().filter_map(|group| group.get("id")?.as_str());
    let writes =
        |wanted: &str| GROUPS.iter().any(|(id, name, _)| *id == wanted && !name.ends_with("Read"));
    if ids.any(writes) { Permission::All } else { Permission::ReadOnly }
}

/// A policy whose groups carry their names, as the API answers.
fn named(policy: &Value) -> Value {
    let mut policy = policy.clone();
    let groups = policy.get_mut("permission_groups").and_then(Value::as_array_mut);
    for group in groups.into_iter().flatten() {
        let id = group.get("id").and_then(Value::as_str).unwrap_or_default();
        let name = GROUPS.iter().find(|(known, _, _)| *known == id).map(|(_, name, _)| *name);
        if let (Some(group), Some(name)) = (group.as_object_mut(), name) {
            group.insert("name".to_owned(), name.into());
        }
    }
    policy
}

fn starting_policies(permission: Permission) -> Value {
    let reads = |name: &str| permission == Permission::All || name.ends_with("Read");
    let groups = GROUPS.iter().filter(|(_, name, _)| reads(name));
    let groups: Vec<_> = groups.map(|(id, name, _)| json!({ "id": id, "name": name })).collect();
    json!([{ "id": "f267e341f3dd4697bd3b9f71dd96247f", "effect": "allow",
             "resources": { "com.cloudflare.api.account.*": "*" }, "permission_groups": groups }])
}

/// Permission groups: id, name, scope. A few of the real list's kinds.
const GROUPS: &[(&str, &str, &str)] = &[
    ("c8fed203ed3043cba015a93ad1616f1f", "Zone Read", "com.cloudflare.api.account.zone"),
    ("e6d2666161e84845a636613608cee8d5", "Zone Write", "com.cloudflare.api.account.zone"),
    ("82e64a83756745bbbb1c9c2701bf816b", "DNS Read", "com.cloudflare.api.account.zone"),
    ("4755a26eedb94da69e1066d98aa820be", "DNS Write", "com.cloudflare.api.account.zone"),
    ("e17beae8b8cb423a99b1730f21238bed", "Cache Purge", "com.cloudflare.api.account.zone"),
    ("1a71c399035b4950a1bd1466bbe4f420", "Workers Scripts Read", "com.cloudflare.api.account"),
    ("e086da7e2179491d91ee5f35b3ca210a", "Workers Scripts Write", "com.cloudflare.api.account"),
    ("8b47d2786a534c08a1f94ee8f9f599ef", "Workers KV Storage Read", "com.cloudflare.api.account"),
    ("f7f0eda5697f475c90846e879bab8666", "Workers KV Storage Write", "com.cloudflare.api.account"),
    ("b4992e1108244f5d8bfbd5744320c2e1", "Workers R2 Storage Read", "com.cloudflare.api.account"),
    ("bf7481a1826f439697cb59a20b22293e", "Workers R2 Storage Write", "com.cloudflare.api.account"),
    ("c1fde68c7bcc44588cbb6ddbc16d6480", "Account Settings Read", "com.cloudflare.api.account"),
    ("1af1fa2adc104452b74a9a3364202f20", "Account Settings Write", "com.cloudflare.api.account"),
    ("0cc3a61731504c89b99ec1be78b77aa0", "API Tokens Read", "com.cloudflare.api.user"),
    ("686d18d5ac6c441c867cbf6771e58a0a", "API Tokens Write", "com.cloudflare.api.user"),
];

/// Tokens in all: fifty a user, as the real quota is, and room for an account's.
const TOKENS_MAX: usize = 550;

/// Bytes of a secret. Old tokens have 40; a test's may be shorter.
const SECRET_MIN: usize = 16;
const SECRET_MAX: usize = 256;
