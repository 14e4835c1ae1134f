//! Tells webhooks that a budget's threshold was reached.
//!
//! The log and the metrics have it in any case; a webhook that cannot be told is logged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ledger::{Crossing, Ledger};
use model::{Clock, Secret, Timestamp};
use rules::Snapshot;
use rules::budget::{Webhook, moment_text};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Tells of the thresholds that a node is the first to reach, until it has stopped.
pub(crate) fn watch(
    ledger: &Ledger,
    clock: &Arc<dyn Clock>,
    node: &str,
    (roots, snapshots): (Arc<RootCertStore>, watch::Receiver<Arc<Snapshot>>),
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let accounts = ledger.own().accounts();
    let crossings = match ledger.fleet() {
        Some(fleet) => fleet.crossings(),
        None => {
            let crossings = accounts.watch(Arc::clone(clock));
            accounts.look(snapshots.borrow().budgets.all());
            Some(crossings)
        }
    };
    let teller = Teller { node: node.to_owned(), roots, clock: Arc::clone(clock) };
    async move {
        if let Some(crossings) = crossings {
            run(crossings, teller, stop).await;
        }
    }
}

/// Who tells webhooks.
#[derive(Clone)]
struct Teller {
    node: String,
    roots: Arc<RootCertStore>,
    clock: Arc<dyn Clock>,
}

/// When the node has stopped, what is under way has [`LAST`].
async fn run(mut crossings: mpsc::Receiver<Crossing>, teller: Teller, stop: CancellationToken) {
    let mut tellings = JoinSet::new();
    loop {
        let crossing = tokio::select! {
            crossing = crossings.recv(), if tellings.len() < TELLINGS_MAX => crossing,
            Some(_) = tellings.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let Some(crossing) = crossing else { break };
        let Some(webhook) = crossing.budget.webhook.clone() else { continue };
        tellings.spawn(tell(webhook, crossing, teller.clone()));
    }
    let last = async { while tellings.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST, last).await.is_err() {
        tracing::warn!("webhooks of budgets were not told before the node stopped");
    }
}

async fn tell(webhook: Webhook, crossing: Crossing, teller: Teller) {
    let body = body(&crossing, &teller.node).to_string();
    let Crossing { row, percent, .. } = crossing;
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        let secret = webhook.secret.as_ref();
        let signature = secret.map(|secret| signature(secret, teller.clock.now(), &body));
        let posted = post(webhook.url.expose(), (&body, signature), &teller.roots);
        let told = tokio::time::timeout(DEADLINE, posted).await;
        let error = match told {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        tracing::warn!(budget = %row.budget, percent, error, "a webhook was not told");
    }
}

/// What a webhook is told. `id` is the same however often it comes.
fn body(crossing: &Crossing, node: &str) -> Value {
    let Crossing { at, budget, row, percent, account } = crossing;
    let text = |amount: model::Amount| amount.text(&budget.unit);
    let period = budget.calendar.at(row.period);
    json!({
        "event": "budget.threshold",
        "id": format!("{}/{}/{}/{percent}", row.budget, row.subject, row.period.as_micros()),
        "at": moment_text(*at),
        "node": node,
        "budget": row.budget.as_str(),
        "subject": row.subject.to_string(),
        "unit": budget.unit.as_str(),
        "amount": text(budget.amount),
        "percent": percent,
        "posted": text(account.posted),
        "left": account.left(budget.amount).map(text),
        "period_end": period.end.map(moment_text),
    })
}

/// What a telling is signed with: the time, so that who keeps one cannot tell it again later, and
/// the HMAC-SHA256 (RFC 2104) of the time, a point and the body.
fn signature(secret: &Secret<String>, now: Timestamp, body: &str) -> String {
    let at = now.as_millis() / 1_000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(tag.as_ref()))
}

async fn post(
    url: &str,
    (body, signature): (&str, Option<String>),
    roots: &Arc<RootCertStore>,
) -> Result<()> {
    let url: Uri = url.parse().context("its address is no URL")?;
    let host = url.host().context("its address names no host")?;
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let authority = url.authority().context("its address names no host")?.as_str();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder();
    if let Some(signature) = signature {
        request = request.header(SIGNATURE, signature);
    }
    let request = request
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let bare = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((bare, port)).await.context("it cannot be reached")?;
    if !is_tls {
        return send(stream, request).await;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(Arc::clone(roots));
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let name = ServerName::try_from(bare.to_owned()).context("its host is no name for TLS")?;
    send(connector.connect(name, stream).await.context("TLS failed")?, request).await
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let response = tokio::select! {
        response = sender.send_request(request) => response?,
        ended = connection => {
            ended?;
            anyhow::bail!("it closed the connection");
        }
    };
    let status = response.status();
    ensure!(status.is_success(), "it answered {}", status.as_u16());
    Ok(())
}

/// Where the signature stands.
const SIGNATURE: &str = "x-tollgate-signature";

/// Webhooks told at once; the others wait in the ledger's queue, which has its own bound.
const TELLINGS_MAX: usize = 16;

/// Before each try. After the last the log has it.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// For one try.
const DEADLINE: Duration = Duration::from_secs(10);

/// For what is under way when the node stops.
const LAST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use model::{Secret, Timestamp};

    use super::signature;

    #[test]
    fn a_signature_is_what_the_page_of_budgets_says() {
        // printf '1795392000.{}' | openssl dgst -sha256 -hmac at-least-eight
        let signed = signature(
            &Secret::new("at-least-eight".to_owned()),
            Timestamp::from_secs(1_795_392_000),
            "{}",
        );
        assert_eq!(
            signed,
            "t=1795392000,v1=542e00f53f81a3952ef8b7abdbc05d1ae3c707f8807fd203f39f61ea51a46e5c"
        );
    }
}
