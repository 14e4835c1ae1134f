//! One connection of a member: what it says is judged before the service sees it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status, async_trait};
use wire::cluster::peer_server::Peer;
use wire::cluster::refusal::Reason;
use wire::cluster::{
    Answer, Envelope, Greeting, GreetingAnswer, Refusal, Reply, answer, greeting_answer,
};

use super::hush::Hush;
use super::kind::{from_wire, is_for_all, refusal, to_wire};
use super::{Local, PROTOCOL, PROTOCOL_MIN, Roster, Standing};
use crate::tls::names;
use crate::{Message, MessageKind, PeerName, Service};

/// Who answers, and whom.
pub(super) struct Office {
    pub(super) local: Local,
    pub(super) service: Arc<dyn Service>,
    pub(super) roster: Arc<dyn Roster>,
    pub(super) hush: Hush,
    /// The largest body.
    pub(super) most: usize,
}

/// A connection whose client has shown a certificate of the cluster's authority.
pub(super) struct Session {
    pub(super) office: Arc<Office>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) client: SocketAddr,
    /// The first name that the certificate was found to hold.
    pub(super) proved: OnceLock<PeerName>,
}

#[async_trait]
impl Peer for Session {
    async fn hello(&self, request: Request<Greeting>) -> Result<Response<GreetingAnswer>, Status> {
        let answer = match self.greet(&request.into_inner()) {
            Ok(greeting) => greeting_answer::Answer::Greeting(greeting),
            Err(refusal) => greeting_answer::Answer::Refusal(self.logged(refusal)),
        };
        Ok(Response::new(GreetingAnswer { answer: Some(answer) }))
    }

    async fn call(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let envelope = request.into_inner();
        let answer = match self.judge(envelope) {
            Ok(call) => self.answer(call).await,
            Err(refusal) => answer::Answer::Refusal(self.logged(refusal)),
        };
        Ok(Response::new(Answer { answer: Some(answer) }))
    }
}

/// A message that may be answered. Only [`Session::judge`] makes one.
struct Call {
    from: PeerName,
    message: Message,
    deadline: Duration,
}

impl Session {
    fn greet(&self, greeting: &Greeting) -> Result<Greeting, Refusal> {
        let local = &self.office.local;
        let from = self.speaker(&greeting.cluster, &greeting.from, greeting.to)?;
        self.check_standing(&from, greeting.from_id, None)?;
        if greeting.protocol_min > PROTOCOL {
            return Err(newer(greeting.protocol_min));
        }
        Ok(Greeting {
            cluster: local.cluster.0.to_vec().into(),
            from: local.name.to_string(),
            from_id: local.id,
            to: local.id,
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn judge(&self, envelope: Envelope) -> Result<Call, Refusal> {
        let from = self.speaker(&envelope.cluster, &envelope.from, envelope.to)?;
        if envelope.protocol > PROTOCOL {
            return Err(newer(envelope.protocol));
        }
        if envelope.protocol < PROTOCOL_MIN {
            let spoken = envelope.protocol;
            let why = format!("protocol {spoken} is too old, this node speaks from {PROTOCOL_MIN}");
            return Err(refusal(Reason::Unspecified, why));
        }
        let bytes = envelope.body.len();
        if bytes > self.office.most {
            let why = format!("{bytes} bytes are over the bound of {}", self.office.most);
            return Err(refusal(Reason::Unspecified, why));
        }
        let kind = envelope.kind;
        let unknown = || {
            let why = format!("this release knows no messages of kind {kind}");
            Refusal { reason: Reason::Newer.into(), why, known: PROTOCOL }
        };
        let message = from_wire(kind, envelope.version, envelope.body).ok_or_else(unknown)?;
        self.check_standing(&from, envelope.from_id, Some(message.kind))?;
        let deadline = Duration::from_millis(envelope.deadline_ms.into()).min(DEADLINE_MAX);
        Ok(Call { from, message, deadline })
    }

    /// Who speaks, to this node of this cluster.
    fn speaker(&self, cluster: &Bytes, from: &str, to: u64) -> Result<PeerName, Refusal> {
        let local = &self.office.local;
        if cluster[..] != local.cluster.0[..] {
            let found = hex::encode(cluster.get(..16).unwrap_or(cluster));
            let why = format!("this is cluster {}, not {found}", local.cluster);
            return Err(refusal(Reason::Cluster, why));
        }
        if to != ANY_NODE && to != local.id {
            let why = format!("this is node {} ({}), not node {to}", local.id, local.name);
            return Err(refusal(Reason::OtherNode, why));
        }
        if let Some(proved) = self.proved.get().filter(|proved| proved.as_str() == from) {
            return Ok(proved.clone());
        }
        if !names(&self.certificate, from) {
            let from: String = from.chars().take(NAME_CHARS_SHOWN).collect();
            let why = format!("the certificate is not of a node called {from:?}");
            return Err(refusal(Reason::Name, why));
        }
        let name = PeerName::new(from);
        // A certificate that holds several names is read again for the others.
        let _first = self.proved.set(name.clone());
        Ok(name)
    }

    /// A greeting has no kind: what may follow it is judged then.
    fn check_standing(
        &self,
        from: &PeerName,
        id: u64,
        kind: Option<MessageKind>,
    ) -> Result<(), Refusal> {
        match self.office.roster.standing(from, id) {
            Standing::Member => Ok(()),
            Standing::Unknown if kind.is_none_or(is_for_all) => Ok(()),
            Standing::Unknown => {
                let why = format!("node {from} is not known to be a member");
                Err(refusal(Reason::Unknown, why))
            }
            Standing::Left => {
                Err(refusal(Reason::Left, format!("node {from} has left the cluster")))
            }
        }
    }

    async fn answer(&self, call: Call) -> answer::Answer {
        let Call { from, message, deadline } = call;
        let answered =
            tokio::time::timeout(deadline, self.office.service.answer(&from, message)).await;
        match answered {
            Ok(Ok(reply)) if reply.body.len() > self.office.most => {
                let bytes = reply.body.len();
                let why = format!("an answer of {bytes} bytes is over the bound");
                answer::Answer::Refusal(self.logged(refusal(Reason::Unanswered, why)))
            }
            Ok(Ok(Message { kind, version, body })) => {
                answer::Answer::Reply(Reply { kind: to_wire(kind).into(), version, body })
            }
            Ok(Err(refused)) => answer::Answer::Refusal(refusal(Reason::Unspecified, refused.why)),
            Err(_) => answer::Answer::Refusal(refusal(Reason::Unanswered, "not answered in time")),
        }
    }

    fn logged(&self, refusal: Refusal) -> Refusal {
        let who = self.client.ip().to_string();
        if self.office.hush.may_say(&who, &refusal.why) {
            tracing::warn!(client = %self.client, why = %refusal.why, "message of a peer refused");
        }
        refusal
    }
}

fn newer(found: u32) -> Refusal {
    let why = format!("protocol {found} is newer than {PROTOCOL}, the newest this release knows");
    Refusal { reason: Reason::Newer.into(), why, known: PROTOCOL }
}

/// Meant by a caller that knows a node's name and not its id.
const ANY_NODE: u64 = 0;

/// The longest that an answer is worked on, whatever the caller says.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// As much of a name that nobody has checked as the log shows.
const NAME_CHARS_SHOWN: usize = 64;
