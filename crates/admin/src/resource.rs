//! Reads and writes of single resources.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use cluster::ProposeError;
use config::{
    Applied, Change, Command, Effect, EffectKind, Expect, Key, Kind, Rejected, Stamp, Stored,
};
use http::{Method, StatusCode};
use model::Revision;
use serde_json::{Value, json};

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer, read, revised, tag, written};
use crate::list::Wanted;
use crate::patch;
use crate::target::check_method;

impl Desk {
    /// All resources of a kind, or those of one parent: lists them, or writes one of them.
    pub(crate) async fn collection(
        &self,
        call: &Call,
        kind: Kind,
        parent: Option<&str>,
        body: Body,
    ) -> Result<Response, Failure> {
        check_method(kind, &call.method)?;
        match call.method {
            Method::GET | Method::HEAD => self.list(call, kind, parent).await,
            Method::POST => self.create(call, kind, body).await,
            Method::PUT => {
                let value = body::required(body).await?;
                let id = own_id(kind, &value)?.ok_or_else(|| Failure::bad(missing_id(kind)))?;
                let id = match parent {
                    Some(parent) => format!("{parent}/{id}"),
                    None => id,
                };
                self.put(call, Key::new(kind, id), value).await
            }
            Method::PATCH | Method::DELETE => Err(Failure::bad(missing_id(kind))),
            _ => Err(Failure::NotFound("not found".to_owned())),
        }
    }

    /// One resource.
    pub(crate) async fn one(&self, call: &Call, key: Key, body: Body) -> Result<Response, Failure> {
        check_method(key.kind, &call.method)?;
        match call.method {
            Method::GET | Method::HEAD => self.show(call, &key).await,
            Method::PUT => {
                let mut value = body::required(body).await?;
                check_own_id(&key, &value)?;
                if let (Kind::Consumer, Value::Object(members)) = (key.kind, &mut value) {
                    // The path has said it already.
                    members.entry("username").or_insert_with(|| Value::from(key.id.clone()));
                }
                self.put(call, key, value).await
            }
            Method::PATCH => self.patch(call, key, &[], body).await,
            Method::DELETE => self.delete(call, key).await,
            Method::POST => Err(not_needed(key.kind)),
            _ => Err(Failure::NotFound("not found".to_owned())),
        }
    }

    /// A value inside a resource: it can be patched, and that is all, as in APISIX.
    pub(crate) async fn inside(
        &self,
        call: &Call,
        key: Key,
        path: &[String],
        body: Body,
    ) -> Result<Response, Failure> {
        check_method(key.kind, &call.method)?;
        match call.method {
            Method::PATCH => self.patch(call, key, path, body).await,
            _ => Err(Failure::NotFound("not found".to_owned())),
        }
    }

    async fn list(
        &self,
        call: &Call,
        kind: Kind,
        parent: Option<&str>,
    ) -> Result<Response, Failure> {
        let wanted = Wanted::read(kind, &call.query)?;
        let state = self.newest(call).await?;
        if let (Kind::Credential, Some(consumer)) = (kind, parent)
            && state.get(&Key::new(Kind::Consumer, consumer)).is_none()
        {
            return Err(Failure::consumer_missing());
        }
        Ok(answer(StatusCode::OK, &wanted.list(&state, kind, parent)))
    }

    async fn show(&self, call: &Call, key: &Key) -> Result<Response, Failure> {
        let state = self.newest(call).await?;
        let stored = state.get(key).ok_or(Failure::KeyNotFound)?;
        call.precondition.check_read(stored.modified)?;
        if call.precondition.is_known(stored.modified) {
            return Ok(tag(StatusCode::NOT_MODIFIED.into_response(), stored.modified));
        }
        Ok(tag(answer(StatusCode::OK, &read(key, stored)), stored.modified))
    }

    async fn create(&self, call: &Call, kind: Kind, body: Body) -> Result<Response, Failure> {
        let value = body::required(body).await?;
        if own_id(kind, &value)?.is_some() {
            return Err(not_needed(kind));
        }
        if !call.precondition.is_empty() {
            return Err(Failure::bad("a resource that is yet to be named has no entity tag"));
        }
        let applied = self.make(call, self.command(call, Change::Create { kind, value })).await?;
        Ok(written_answer(call, &applied, StatusCode::CREATED))
    }

    async fn put(&self, call: &Call, key: Key, value: Value) -> Result<Response, Failure> {
        let expect = self.expect(call, &key).await?;
        let put = Change::Put { key, value, expect, stamp: Stamp::Now };
        let applied = self.make(call, self.command(call, put)).await?;
        Ok(written_answer(call, &applied, StatusCode::OK))
    }

    async fn delete(&self, call: &Call, key: Key) -> Result<Response, Failure> {
        let expect = self.expect(call, &key).await?;
        let shown = json!({"deleted": "1", "key": key.path()});
        let delete = Change::Delete { key, expect };
        let applied = self.make(call, self.command(call, delete)).await?;
        Ok(revised(call, &applied, answer(StatusCode::OK, &shown)))
    }

    /// Reads, patches and writes; whoever was faster makes it read again.
    async fn patch(
        &self,
        call: &Call,
        key: Key,
        path: &[String],
        body: Body,
    ) -> Result<Response, Failure> {
        let given = body::json(body, body::RESOURCE_BYTES_MAX).await?;
        let given = given.ok_or_else(|| Failure::bad("missing configurations"))?;
        if path.is_empty() && !given.is_object() {
            return Err(Failure::bad("invalid request body: expected an object"));
        }
        for _ in 0..PATCH_TRIES_MAX {
            let state = self.newest(call).await?;
            let found = state.get(&key);
            let asked = call.precondition.expect(found)?;
            let stored = found.ok_or(Failure::KeyNotFound)?;
            let value = patched(stored, &key, path, given.clone())?;
            let expect = Expect::Modified(stored.modified);
            let put = Change::Put { key: key.clone(), value, expect, stamp: Stamp::Given };
            match self.try_make(call, self.command(call, put)).await {
                Err(ProposeError::Rejected(Rejected::Stale { .. })) if asked == Expect::Any => {}
                made => return Ok(written_answer(call, &made?, StatusCode::OK)),
            }
        }
        Err(Failure::Unavailable("value changed before overwritten".to_owned()))
    }

    /// What the request's conditions ask of the resource.
    async fn expect(&self, call: &Call, key: &Key) -> Result<Expect, Failure> {
        if call.precondition.is_empty() {
            return Ok(Expect::Any);
        }
        let state = self.newest(call).await?;
        call.precondition.expect(state.get(key))
    }

    fn command(&self, call: &Call, change: Change) -> Command {
        Command { at: self.clock.now(), base: None, force: call.force, changes: vec![change] }
    }
}

/// The resource with the patch in it; its time of change moves unless the patch sets it.
fn patched(stored: &Stored, key: &Key, path: &[String], given: Value) -> Result<Value, Failure> {
    let mut value = Value::clone(&stored.value);
    let sets_time = match path {
        [] => given.get("update_time").is_some(),
        [name] => name == "update_time",
        _ => false,
    };
    if path.is_empty() {
        patch::merge(&mut value, given);
    } else {
        patch::replace(&mut value, path, given)?;
    }
    check_own_id(key, &value)?;
    if let (false, Value::Object(members)) = (sets_time, &mut value) {
        members.shift_remove("update_time");
    }
    Ok(value)
}

/// The answer to a write of one resource, with its tag.
fn written_answer(call: &Call, applied: &Applied, usual: StatusCode) -> Response {
    let (status, body, modified) = outcome(&call.method, applied, usual);
    let answer = answer(status, &body);
    // The tag of a state that never was must not be sent back.
    if call.dry_run { answer } else { revised(call, applied, tag(answer, modified)) }
}

/// What a write left behind. Where another was there before this could be said, that is left out:
/// the other's state must not be taken for this one's.
fn outcome(method: &Method, applied: &Applied, usual: StatusCode) -> (StatusCode, Value, Revision) {
    let Some(Effect { key, kind, stored }) = applied.effects.first() else {
        return (usual, json!({}), applied.revision);
    };
    let made = *kind == EffectKind::Created && method == Method::PUT;
    let status = if made { StatusCode::CREATED } else { usual };
    let modified = stored.as_ref().map_or(applied.revision, |stored| stored.modified);
    (status, written(key, stored.as_ref()), modified)
}

/// The id that a body holds; numbers are read as text, as in APISIX.
fn own_id(kind: Kind, value: &Value) -> Result<Option<String>, Failure> {
    match value.get(id_member(kind)) {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(_) => Err(Failure::bad(wrong_id(kind))),
    }
}

fn check_own_id(key: &Key, value: &Value) -> Result<(), Failure> {
    match own_id(key.kind, value)? {
        Some(id) if id != key.own_id() && id != key.id && !key.id.ends_with(&format!("/{id}")) => {
            Err(Failure::bad(wrong_id(key.kind)))
        }
        _ => Ok(()),
    }
}

const fn id_member(kind: Kind) -> &'static str {
    match kind {
        Kind::Consumer => "username",
        Kind::Secret
        | Kind::Upstream
        | Kind::Route
        | Kind::ConsumerGroup
        | Kind::Credential
        | Kind::Limit
        | Kind::UpstreamQuota
        | Kind::Response
        | Kind::Zone
        | Kind::Policy
        | Kind::Price
        | Kind::Budget => "id",
    }
}

fn missing_id(kind: Kind) -> String {
    match kind {
        Kind::Consumer => "missing consumer username".to_owned(),
        kind => format!("missing {} id", kind.words()),
    }
}

fn wrong_id(kind: Kind) -> String {
    match kind {
        Kind::Consumer => "wrong username".to_owned(),
        kind => format!("wrong {} id", kind.words()),
    }
}

fn not_needed(kind: Kind) -> Failure {
    Failure::bad(format!("wrong {} id, do not need it", kind.words()))
}

/// How often a PATCH without conditions is tried against faster writers, before it is 503.
const PATCH_TRIES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::{Applied, Effect, EffectKind, Key, Kind, Stored};
    use http::{Method, StatusCode};
    use model::Revision;
    use serde_json::json;

    use super::outcome;

    #[test]
    fn a_write_is_told_with_what_it_left_and_without_what_another_made_of_it() {
        let (put, post) = (Method::PUT, Method::POST);
        let (created, ok) = (StatusCode::CREATED, StatusCode::OK);
        let at = Revision::new;
        let value = Arc::new(json!({"id": "a"}));
        let left = Stored { value, created: at(3), modified: at(5) };
        for (method, usual, kind, stored, status, modified) in [
            (&put, ok, EffectKind::Created, Some(left.clone()), created, 5),
            (&put, ok, EffectKind::Unchanged, Some(left.clone()), ok, 5),
            (&put, ok, EffectKind::Created, None, created, 7),
            (&put, ok, EffectKind::Updated, None, ok, 7),
            (&post, created, EffectKind::Created, None, created, 7),
        ] {
            let effect = Effect { key: Key::new(Kind::Upstream, "a"), kind, stored };
            let is_known = effect.stored.is_some();
            let applied = Applied { revision: at(7), effects: vec![effect] };
            let (told, body, tag) = outcome(method, &applied, usual);
            assert_eq!((told, tag), (status, at(modified)), "{method} {kind:?} {is_known}");
            assert_eq!(body["key"], "/apisix/upstreams/a");
            assert_eq!(body.get("value").is_some(), is_known);
        }
    }
}
