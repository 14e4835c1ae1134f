//! Traces, from the call to the collector; and collectors that are away.

use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::harness::secure::runtime;
use crate::harness::{ANY, Gate, Origin, PATIENCE, Refusing, Setup, get, listener, wait_for};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;

/// A collector over gRPC that hands on what it gets.
struct Collector {
    /// `host:port`.
    address: String,
    spans: mpsc::Receiver<ExportTraceServiceRequest>,
    /// Its end is the collector's.
    _runtime: tokio::runtime::Runtime,
}

struct Desk(mpsc::SyncSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Desk {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.try_send(request.into_inner()).map_err(|_| Status::resource_exhausted("full"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start() -> Self {
        let runtime = runtime();
        let (sender, spans) = mpsc::sync_channel(64);
        let bound = runtime.block_on(tokio::net::TcpListener::bind(ANY));
        let listener = bound.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Desk(sender)))
            .serve_with_incoming(incoming);
        runtime.spawn(server);
        Self { address, spans, _runtime: runtime }
    }

    /// As many spans as asked for, each with its resource's names and values.
    fn wait(&self, count: usize) -> Vec<(Span, String)> {
        let mut found = Vec::new();
        while found.len() < count {
            let request = self.spans.recv_timeout(PATIENCE).expect("spans in time");
            for group in request.resource_spans {
                let resource = format!("{:?}", group.resource);
                let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                found.extend(spans.map(|span| (span, resource.clone())));
            }
        }
        found
    }
}

/// A gate that sends its spans to an address, in front of an upstream.
fn start(address: &str, variables: &[(&str, &str)]) -> Gate {
    let endpoint = format!("http://{address}");
    let own = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=planted-collector-key"),
    ];
    Gate::with(&Setup { variables: &[&own, variables].concat(), ..Setup::default() })
}

fn route(gate: &Gate, origin: &Origin) {
    let upstream = origin.upstream();
    gate.put("routes/all", &json!({ "uri": "/*", "upstream": upstream }));
}

fn call(gate: &Gate, path: &str, flags: &str) -> u16 {
    let context = format!("traceparent: 00-{TRACE:032x}-{PARENT:016x}-{flags}");
    get(&gate.http, path, &[&context]).status()
}

#[test]
fn each_sampled_call_is_a_span_of_its_callers_trace_over_grpc() {
    let (collector, origin) = (Collector::start(), Origin::start());
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_RESOURCE_ATTRIBUTES", "region=eu-test"),
    ];
    let gate = start(&collector.address, &variables);
    assert_eq!(call(&gate, "/nowhere", "01"), 404);
    route(&gate, &origin);
    // The caller does not sample this one.
    assert_eq!(call(&gate, "/unseen", "00"), 200);
    assert_eq!(call(&gate, "/seen", "01"), 200);
    let spans = collector.wait(2);
    for (span, resource) in &spans {
        assert_eq!(span.trace_id, TRACE.to_be_bytes());
        assert_eq!(span.parent_span_id, PARENT.to_be_bytes());
        assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{span:?}");
        assert!(resource.contains("eu-test") && resource.contains("tollgate"), "{resource}");
    }
    let texts: Vec<_> = spans.iter().map(|(span, _)| format!("{span:?}")).collect();
    assert!(texts[0].contains("route.not_found") && texts[0].contains("404"), "{}", texts[0]);
    assert!(texts[1].contains("/seen") && texts[1].contains("\"GET all\""), "{}", texts[1]);
    // What the upstream saw is the span's own place.
    let arrival = origin.arrivals().pop().unwrap();
    let context = arrival.field("traceparent").unwrap().to_owned();
    let own = spans[1].0.span_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(context, format!("00-{TRACE:032x}-{own}-01"));
}

#[test]
fn spans_that_wait_are_sent_when_the_node_stops() {
    let (collector, origin) = (Collector::start(), Origin::start());
    let variables =
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut gate = start(&collector.address, &variables);
    route(&gate, &origin);
    for _ in 0..10 {
        assert_eq!(call(&gate, "/", "01"), 200);
    }
    assert!(gate.stop().status.success(), "{}", gate.log());
    assert_eq!(collector.wait(10).len(), 10);
}

#[test]
fn a_call_is_a_span_over_http_too() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    let (collector, origin) = (Origin::answering(move |_| ok.to_owned()), Origin::start());
    let gate = start(&collector.node(), &[("OTEL_BSP_SCHEDULE_DELAY", "50")]);
    route(&gate, &origin);
    assert_eq!(call(&gate, "/seen", "01"), 200);
    let export = wait_for("an export", || collector.arrivals().pop());
    assert_eq!(export.target(), "/v1/traces");
    assert_eq!(export.field("content-type"), Some("application/x-protobuf"));
    assert_eq!(export.field("x-key"), Some("planted-collector-key"));
    for wanted in [&TRACE.to_be_bytes()[..], &PARENT.to_be_bytes(), b"/seen", b"tollgate"] {
        assert!(export.body.windows(wanted.len()).any(|window| window == wanted), "{wanted:?}");
    }
    wait_for("the count", || gate.numbers().contains("trace_spans_sent_total 1").then_some(()));
    assert!(!gate.log().contains("planted"));
}

/// Calls are answered, and the node stops in time and well.
fn check_costs_nothing(address: &str, protocol: &str) {
    let origin = Origin::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8"),
    ];
    let mut gate = start(address, &variables);
    route(&gate, &origin);
    for n in 0..100 {
        assert_eq!(call(&gate, &format!("/{n}"), "01"), 200);
    }
    let dropped = || {
        let numbers = gate.numbers();
        let line = numbers.lines().find(|line| line.contains("trace_spans_dropped_total "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    wait_for("spans that are given up", || dropped().filter(|count| *count > 0));
    let ended = gate.stop();
    assert!(ended.status.success(), "{}", gate.log());
    assert!(ended.after < STOP_MAX, "the stop took {:?}", ended.after);
    assert!(!gate.log().contains("planted"), "{}", gate.log());
}

#[test]
fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    let gone = Refusing::start();
    check_costs_nothing(&gone.node(), "grpc");
    check_costs_nothing(&gone.node(), "http/protobuf");
}

#[test]
fn a_collector_that_hangs_costs_nothing_but_its_spans() {
    // The system takes connections for it; it never reads.
    let silent = listener();
    let address = silent.local_addr().unwrap().to_string();
    check_costs_nothing(&address, "grpc");
    check_costs_nothing(&address, "http/protobuf");
}

/// A node gives three seconds to its last spans; the rest is for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(20);
