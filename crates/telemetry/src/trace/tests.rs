//! Traces with real collectors: one that works, one that is away, one that hangs.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span as Received;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Request, Response, Status as GrpcStatus};
use tracing::Dispatch;

use super::*;
use crate::{Telemetry, log};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Hands on what it is sent.
struct Collector(mpsc::Sender<(Option<String>, ExportTraceServiceRequest)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, GrpcStatus> {
        let key = request.metadata().get("x-key").map(|value| value.to_str().unwrap().to_owned());
        self.0.send((key, request.into_inner())).await.unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Telemetry that sends to an address, with further variables.
fn build(address: SocketAddr, variables: &[(&str, &str)]) -> (Dispatch, Telemetry) {
    let endpoint = format!("http://{address}");
    let variable = |name: &str| {
        let given = variables.iter().find(|(key, _)| *key == name);
        let usual = match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.as_str()),
            "OTEL_BSP_SCHEDULE_DELAY" => Some("5"),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-key=hunter2"),
            _ => None,
        };
        given.map(|(_, value)| *value).or(usual).map(str::to_owned)
    };
    let options = Options {
        log: log::Options::default(),
        variable: &variable,
        version: "1.2.3",
        instance: "n1",
    };
    let output = log::Output { writer: Box::new(std::io::sink()), is_terminal: false };
    crate::build(&options, output).unwrap()
}

/// A span of a request, below the parent of [`PARENT`].
fn span(name: &'static str) -> Span {
    let parent = TraceContext::parse(PARENT.as_bytes()).unwrap();
    Span {
        name: name.into(),
        kind: Kind::Server,
        context: parent.child(SpanId::from_random(7), true),
        parent: Parent::Remote(parent.span_id),
        started: UNIX_EPOCH + Duration::from_secs(1),
        ended: UNIX_EPOCH + Duration::from_secs(2),
        attributes: vec![KeyValue::new("http.response.status_code", 429)],
        error: Some("limit.exceeded".into()),
    }
}

async fn received(
    collected: &mut mpsc::Receiver<(Option<String>, ExportTraceServiceRequest)>,
) -> (Received, Vec<String>) {
    let (key, request) = timeout(WAIT_MAX, collected.recv()).await.unwrap().unwrap();
    assert_eq!(key.as_deref(), Some("hunter2"));
    let [group] = request.resource_spans.try_into().unwrap();
    let attributes = group.resource.unwrap().attributes;
    let mut resource: Vec<String> = attributes.into_iter().map(|pair| pair.key).collect();
    resource.sort_unstable();
    let [scope] = group.scope_spans.try_into().unwrap();
    let [span] = scope.spans.try_into().unwrap();
    (span, resource)
}

/// A collector over gRPC, and what it receives.
fn serve(
    listener: TcpListener,
    tasks: &mut JoinSet<()>,
) -> mpsc::Receiver<(Option<String>, ExportTraceServiceRequest)> {
    let (sender, collected) = mpsc::channel(16);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(sender)))
        .serve_with_incoming(incoming);
    tasks.spawn(async move { server.await.unwrap() });
    collected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_span_arrives_over_grpc_below_its_parent() {
    let mut tasks = JoinSet::new();
    let (listener, address) = listen().await;
    let mut collected = serve(listener, &mut tasks);
    let (_dispatch, telemetry) = build(address, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    telemetry.spans().unwrap().finish(span("GET /zones"));
    let (span, resource) = received(&mut collected).await;
    assert_eq!(span.name, "GET /zones");
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(span.span_id, 7_u64.to_be_bytes());
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (1_000_000_000, 2_000_000_000)
    );
    assert_eq!(span.status.unwrap().message, "limit.exceeded");
    assert_eq!(resource, ["service.instance.id", "service.name", "service.version"]);
    telemetry.shutdown(WAIT_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_of_tracing_keeps_the_parent_it_adopts() {
    let mut tasks = JoinSet::new();
    let (listener, address) = listen().await;
    let mut collected = serve(listener, &mut tasks);
    let (dispatch, telemetry) = build(address, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let parent = TraceContext::parse(PARENT.as_bytes()).unwrap();
    let own = tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("change");
        adopt(&span, &parent);
        context_of(&span).unwrap()
    });
    let (span, _) = received(&mut collected).await;
    assert_eq!(own.trace_id, parent.trace_id);
    assert_eq!(span.trace_id, parent.trace_id.get().to_be_bytes());
    assert_eq!(span.parent_span_id, parent.span_id.get().to_be_bytes());
    assert_eq!(span.span_id, own.span_id.get().to_be_bytes());
    telemetry.shutdown(WAIT_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_span_arrives_over_http() {
    let (listener, address) = listen().await;
    let (_dispatch, telemetry) = build(address, &[]);
    telemetry.spans().unwrap().finish(span("GET /zones"));
    let (mut stream, _) = timeout(WAIT_MAX, listener.accept()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    let has = |seen: &[u8], what: &[u8]| seen.windows(what.len()).any(|window| window == what);
    while !has(&seen, b"limit.exceeded") {
        let mut piece = [0; 4_096];
        let length = timeout(WAIT_MAX, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(length > 0);
        seen.extend_from_slice(&piece[..length]);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    assert!(seen.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
    assert!(has(&seen, b"content-type: application/x-protobuf\r\n"));
    assert!(has(&seen, b"x-key: hunter2\r\n"));
    assert!(has(&seen, &0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()));
    telemetry.shutdown(WAIT_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_sends_what_waits() {
    let mut tasks = JoinSet::new();
    let (listener, address) = listen().await;
    let mut collected = serve(listener, &mut tasks);
    let variables =
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let (_dispatch, telemetry) = build(address, &variables);
    telemetry.spans().unwrap().finish(span("last"));
    telemetry.shutdown(WAIT_MAX).await;
    assert_eq!(received(&mut collected).await.0.name, "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_is_sent_before_its_delay() {
    let mut tasks = JoinSet::new();
    let (listener, address) = listen().await;
    let mut collected = serve(listener, &mut tasks);
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    let (_dispatch, telemetry) = build(address, &variables);
    telemetry.spans().unwrap().finish(span("first"));
    assert_eq!(received(&mut collected).await.0.name, "first");
    telemetry.shutdown(WAIT_MAX).await;
}

/// What a collector that does not work costs: nothing but the spans.
async fn check_lost(address: SocketAddr, protocol: &str) {
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
    ];
    let (_dispatch, telemetry) = build(address, &variables);
    let (spans, counts) = (telemetry.spans().unwrap(), telemetry.counts.clone());
    let lasting = async {
        for _ in 0..100 {
            spans.finish(span("lost"));
        }
        telemetry.shutdown(Duration::from_millis(100)).await;
    };
    timeout(WAIT_MAX, lasting).await.expect("neither spans nor the shutdown wait for a collector");
    assert_eq!((counts.sent.get(), counts.dropped.get()), (0, 100), "{protocol}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_its_data() {
    for protocol in ["grpc", "http/protobuf"] {
        let (listener, address) = listen().await;
        drop(listener);
        check_lost(address, protocol).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_nothing_but_its_data() {
    for protocol in ["grpc", "http/protobuf"] {
        let (_listener, address) = listen().await;
        check_lost(address, protocol).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_runtime_of_one_thread_does_not_hang_either() {
    let (_listener, address) = listen().await;
    check_lost(address, "grpc").await;
}

#[tokio::test]
async fn what_is_not_sampled_goes_nowhere() {
    let (_listener, address) = listen().await;
    let (_dispatch, telemetry) = build(address, &[("OTEL_BSP_MAX_QUEUE_SIZE", "1")]);
    let spans = telemetry.spans().unwrap();
    let mut unsampled = span("quiet");
    unsampled.context.sampled = false;
    (0..10).for_each(|_| spans.finish(unsampled.clone()));
    assert_eq!(telemetry.counts.dropped.get(), 0);
}

/// The longest a test waits for what must happen.
const WAIT_MAX: Duration = Duration::from_secs(20);
