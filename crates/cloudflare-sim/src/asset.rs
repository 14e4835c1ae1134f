//! Static assets of Workers: a session says what is missing, an upload brings it. An upload carries
//! the session's own short-lived JWT in place of an API token.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::clock::later;
use crate::envelope::{Answer, Refusal, Reply};
use crate::id::Ids;
use crate::multipart::parts;
use crate::route::{Guard, Route};
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/accounts/{account_id}/workers/scripts/{script}/assets-upload-session", begin),
    Route::post("/accounts/{account_id}/workers/assets/upload", upload).guarded(Guard::Own),
];

/// Sessions under way, and the assets that are there.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Oldest first.
    sessions: VecDeque<Session>,
    /// Hashes by account. The bytes are not kept.
    known: BTreeSet<(String, String)>,
}

#[derive(Debug)]
struct Session {
    account_id: String,
    /// What an upload must carry.
    token: String,
    /// What a deployment must carry once nothing is missing.
    completion: String,
    missing: BTreeSet<String>,
    ends_at: Timestamp,
}

impl Desk {
    /// A deployment that names assets must carry a finished session's JWT.
    pub(crate) fn check(
        &self,
        call: &Call<'_>,
        metadata: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let Some(jwt) = metadata.get("assets").and_then(|assets| assets.get("jwt")?.as_str())
        else {
            return Ok(());
        };
        let account_id = call.param("account_id");
        let finished = self.sessions.iter().any(|session| {
            session.completion == jwt
                && session.account_id == account_id
                && session.missing.is_empty()
                && call.now < session.ends_at
        });
        if finished { Ok(()) } else { Err(Refusal::bad(10_021, "assets.jwt is not valid")) }
    }

    /// Of [`SESSIONS_MAX`] sessions, the oldest ends.
    fn open(&mut self, session: Session) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_front();
        }
        self.sessions.push_back(session);
    }
}

#[derive(Deserialize)]
struct Draft {
    manifest: BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    hash: String,
}

/// Says which files of the manifest are missing, in buckets to be uploaded one by one.
fn begin(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { manifest } = call.json()?;
    if manifest.len() > FILES_MAX {
        return Err(Refusal::bad(100_305, format!("A Worker has at most {FILES_MAX} assets")));
    }
    let account_id = call.param("account_id").to_owned();
    let World { ids, workers, .. } = world;
    let known = &workers.assets.known;
    let hashes = manifest.into_values().map(|file| file.hash);
    let missing: BTreeSet<_> =
        hashes.filter(|hash| !known.contains(&(account_id.clone(), hash.clone()))).collect();
    let ends_at = later(call.now, SESSION);
    let token = jwt(ids, &account_id, ends_at);
    let completion = jwt(ids, &account_id, ends_at);
    let listed: Vec<_> = missing.iter().cloned().collect();
    let buckets: Vec<_> = listed.chunks(BUCKET).map(<[String]>::to_vec).collect();
    let shown = if missing.is_empty() { &completion } else { &token };
    let answer = Answer::result(json!({ "jwt": shown, "buckets": buckets }));
    workers.assets.open(Session { account_id, token, completion, missing, ends_at });
    Ok(answer)
}

/// Takes a bucket: 202 while files are missing, 201 and the completion JWT when none is.
fn upload(world: &mut World, call: &Call<'_>) -> Reply {
    let authorization = call.header(AUTHORIZATION.as_str()).unwrap_or_default();
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let account_id = call.param("account_id");
    let desk = &mut world.workers.assets;
    let session = desk.sessions.iter_mut().find(|session| {
        session.token == token && session.account_id == account_id && call.now < session.ends_at
    });
    let session = session.ok_or_else(|| Refusal::forbidden(10_000, "Authentication error"))?;
    for part in parts(call.content_type(), &call.body)? {
        room_for("assets", desk.known.len(), ASSETS_MAX)?;
        if session.missing.remove(&part.name) {
            desk.known.insert((account_id.to_owned(), part.name));
        }
    }
    if session.missing.is_empty() {
        let answer = Answer::result(json!({ "jwt": session.completion }));
        return Ok(answer.with_status(StatusCode::CREATED));
    }
    Ok(Answer::result(json!({})).with_status(StatusCode::ACCEPTED))
}

/// Three parts that look like a JWT (RFC 7519). It is compared as a whole; its signature is chance.
fn jwt(ids: &mut Ids, account_id: &str, ends_at: Timestamp) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = json!({ "account_id": account_id, "exp": ends_at.as_second() });
    format!("{}.{}.{}", part(&head), part(&claims), URL_SAFE_NO_PAD.encode(ids.hex32()))
}

/// How long a session lasts: an hour.
const SESSION: Duration = Duration::from_secs(60 * 60);

/// Files uploaded together.
const BUCKET: usize = 50;

/// Files of one Worker, as the real API has it.
const FILES_MAX: usize = 20_000;

const SESSIONS_MAX: usize = 256;

/// Assets known at once; a further one is refused.
const ASSETS_MAX: usize = 200_000;
