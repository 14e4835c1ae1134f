//! The exporter: OTLP over gRPC or HTTP.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};

use super::settings::{Protocol, Target};
use crate::Error;

/// Makes the exporter. It connects when there is something to send.
pub(crate) fn build(target: &Target) -> Result<SpanExporter, Error> {
    match target.protocol {
        Protocol::Grpc => over_grpc(target),
        Protocol::HttpProtobuf => over_http(target),
    }
}

fn over_grpc(target: &Target) -> Result<SpanExporter, Error> {
    let headers: HeaderMap = target.headers.iter().cloned().collect();
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(target.endpoint.to_string())
        .with_timeout(target.timeout)
        .with_metadata(MetadataMap::from_headers(headers));
    if target.endpoint.scheme_str() == Some("https") {
        let roots = match &target.certificate {
            Some(path) => vec![roots_from(path)?],
            None => system_roots(),
        };
        let tls = ClientTlsConfig::new().ca_certificates(roots).timeout(target.timeout);
        builder = builder.with_tls_config(tls);
    }
    builder.build().map_err(Error::Exporter)
}

fn over_http(target: &Target) -> Result<SpanExporter, Error> {
    let text = |(name, value): &(http::HeaderName, http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    SpanExporter::builder()
        .with_http()
        .with_endpoint(target.endpoint.to_string())
        .with_timeout(target.timeout)
        .with_headers(target.headers.iter().map(text).collect::<HashMap<_, _>>())
        .build()
        .map_err(Error::Exporter)
}

fn roots_from(path: &Path) -> Result<Certificate, Error> {
    let pem =
        std::fs::read(path).map_err(|cause| Error::Certificate { path: path.to_owned(), cause })?;
    Ok(Certificate::from_pem(pem))
}

/// The roots of the operating system. Those that cannot be read are left out; if none can, the
/// first export says that the collector is not trusted.
fn system_roots() -> Vec<Certificate> {
    let pem = |der: &[u8]| {
        let body = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let found = rustls_native_certs::load_native_certs().certs;
    found.iter().map(|der| Certificate::from_pem(pem(der))).collect()
}
