//! The members of the cluster: shown, let in, given the vote, let go.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use cluster::{Invitation, Member, MembershipError, Place};
use http::StatusCode;
use model::NodeName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer};

/// What is asked of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Makes a join token.
    Token,
    Vote,
    Leave,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    /// The only name that may use it.
    node: Option<String>,
    /// The member whose place is taken.
    replaces: Option<String>,
    /// Seconds.
    ttl: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Vote {
    promote: Vec<String>,
    demote: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    names: Vec<String>,
    #[serde(default)]
    force: bool,
}

impl Desk {
    /// Changes the members, or makes a token for a new one.
    pub(crate) async fn members(
        &self,
        call: &Call,
        deed: Deed,
        body: Body,
    ) -> Result<Response, Failure> {
        if call.dry_run {
            return Err(Failure::bad("the members cannot be changed as a dry run"));
        }
        let asked = match deed {
            Deed::Token => self.invite(read(body).await?).await,
            Deed::Vote => self.vote(read(body).await?).await,
            Deed::Leave => self.leave(read(body).await?).await,
        };
        let (holder, about) = (&call.holder, &call.about);
        match &asked {
            Ok(_) if deed == Deed::Token => {
                tracing::info!(holder, about, "a join token was made");
            }
            Ok(_) => tracing::info!(holder, about, "the members were changed"),
            Err(failure) => {
                let why = failure.message();
                tracing::info!(holder, about, why, "the members were not changed");
            }
        }
        asked
    }

    async fn invite(&self, Invite { node, replaces, ttl }: Invite) -> Result<Response, Failure> {
        let place = match (node, replaces) {
            (None, None) => Place::Any,
            (Some(node), None) => Place::Named(NodeName::new(&node)),
            (None, Some(member)) => Place::Of(NodeName::new(&member)),
            (Some(_), Some(_)) => return Err(Failure::bad("give `node` or `replaces`, not both")),
        };
        let life = match ttl {
            None => TOKEN_LIFE,
            Some(0) => return Err(Failure::bad("invalid ttl: should be seconds, from 1")),
            Some(seconds) => Duration::from_secs(seconds),
        };
        // A node that is cut off might not know the members of today.
        self.cluster.read().await.map_err(|cause| Failure::Unavailable(cause.to_string()))?;
        let Invitation { token, expires, members } = self.cluster.invite(place, life)?;
        let members: Vec<Value> = members
            .iter()
            .map(|peer| json!({"name": peer.name, "address": peer.address}))
            .collect();
        let body =
            json!({"token": token.expose(), "expires": expires.as_secs(), "members": members});
        Ok(answer(StatusCode::CREATED, &body))
    }

    async fn vote(&self, Vote { promote, demote }: Vote) -> Result<Response, Failure> {
        self.cluster.vote(names(&promote), names(&demote)).await?;
        Ok(self.roll().await)
    }

    async fn leave(&self, Leave { names: gone, force }: Leave) -> Result<Response, Failure> {
        self.cluster.leave(names(&gone), force).await?;
        Ok(self.roll().await)
    }

    async fn roll(&self) -> Response {
        answer(StatusCode::OK, &json!({"members": shown(&self.cluster.members().await)}))
    }
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let value = body::required(body).await?;
    serde_json::from_value(value)
        .map_err(|cause| Failure::bad(format!("invalid request body: {cause}")))
}

fn names(names: &[String]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::new(name)).collect()
}

/// The members as operators see them. The lag counts entries of the log, from the newest one that
/// any of them has applied.
pub(crate) fn shown(members: &[Member]) -> Vec<Value> {
    let newest = members.iter().filter_map(|member| Some(member.said.as_ref().ok()?.applied)).max();
    let newest = newest.unwrap_or_default();
    members.iter().map(|member| one(member, newest)).collect()
}

fn one(Member { peer, votes, said }: &Member, newest: u64) -> Value {
    let cluster::Peer { id, name, address } = peer;
    match said {
        Ok(said) => json!({
            "name": name,
            "id": id,
            "address": address,
            "votes": votes,
            "role": said.role.as_str(),
            "revision": said.revision,
            "live": said.live,
            "applied": said.applied,
            "lag": newest.saturating_sub(said.applied),
            "ready": said.why_not_ready.is_empty(),
            "why_not_ready": said.why_not_ready,
            "why_not_writable": said.why_not_writable,
            "release": said.release,
        }),
        Err(why) => json!({
            "name": name, "id": id, "address": address, "votes": votes, "error": why,
        }),
    }
}

impl From<MembershipError> for Failure {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Refused { why } => Self::bad(why),
            MembershipError::Unavailable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

/// Of a token whose life nobody has named.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
