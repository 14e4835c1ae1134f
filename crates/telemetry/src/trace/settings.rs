//! The variables of the OpenTelemetry specification that we take.
//!
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>. Where the specification says
//! "warn and go on" we refuse to start: an operator who mistypes a sampler wants to know.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;

use crate::context::Sampler;
use crate::{Error, Options};

/// How traces are made and where they go.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) sampler: Sampler,
    pub(crate) queue: QueueSettings,
    pub(crate) resource: Vec<KeyValue>,
}

/// The collector.
pub(crate) struct Target {
    pub(crate) protocol: Protocol,
    /// Complete: over HTTP with the path.
    pub(crate) endpoint: Uri,
    /// Often credentials: never printed.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// For one request to the collector.
    pub(crate) timeout: Duration,
    /// Roots to trust instead of the system's.
    pub(crate) certificate: Option<PathBuf>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// The queue of spans that wait for export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSettings {
    /// Spans that may wait; the next is dropped and counted.
    pub(crate) queue_max: usize,
    /// Spans of one export.
    pub(crate) batch_max: usize,
    /// The longest a span waits for others.
    pub(crate) delay: Duration,
    /// The longest one export may take, retries included.
    pub(crate) timeout: Duration,
}

impl Settings {
    /// Reads the variables; `None` while traces are off.
    ///
    /// # Errors
    /// When a value is not usable. Values are checked even while traces are off.
    pub(crate) fn read(options: &Options<'_>) -> Result<Option<Self>, Error> {
        let lookup = Lookup(options.variable);
        let is_off = lookup.is_true(DISABLED)? | !lookup.exporter_is_otlp()?;
        let sampler = lookup.sampler()?;
        let queue = lookup.queue()?;
        let resource = lookup.resource(options)?;
        let target = lookup.target()?;
        Ok(match target {
            Some(target) if !is_off => Some(Self { target, sampler, queue, resource }),
            Some(_) | None => None,
        })
    }
}

/// Looks variables up; an empty one counts as not set.
struct Lookup<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Lookup<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// The variable for traces, or else the one for all signals.
    fn either(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|name| self.text(name).map(|value| (name, value)))
    }

    fn is_true(&self, name: &'static str) -> Result<bool, Error> {
        match self.text(name).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, format!("must be true or false, not {other:?}"))),
        }
    }

    fn exporter_is_otlp(&self) -> Result<bool, Error> {
        match self.text(EXPORTER).as_deref().map(str::trim) {
            None | Some("otlp") => Ok(true),
            Some("none") => Ok(false),
            Some(other) => Err(wrong(EXPORTER, format!("must be otlp or none, not {other:?}"))),
        }
    }

    fn sampler(&self) -> Result<Sampler, Error> {
        let Some(name) = self.text(SAMPLER) else { return Ok(Sampler::default()) };
        let argument = self.text(SAMPLER_ARG);
        match Sampler::named(name.trim(), argument.as_deref()) {
            Some(Ok(sampler)) => Ok(sampler),
            Some(Err(problem)) => Err(wrong(SAMPLER_ARG, problem)),
            None => Err(wrong(SAMPLER, format!("names a sampler we do not have: {name:?}"))),
        }
    }

    fn queue(&self) -> Result<QueueSettings, Error> {
        let queue_max = self.number(BSP_QUEUE)?.unwrap_or(2_048);
        let batch_max = self.number(BSP_BATCH)?.unwrap_or_else(|| 512.min(queue_max));
        if batch_max > queue_max {
            return Err(wrong(BSP_BATCH, format!("must not be above {BSP_QUEUE}, {queue_max}")));
        }
        let millis = |name, default| -> Result<Duration, Error> {
            Ok(Duration::from_millis(self.number::<u64>(name)?.unwrap_or(default)))
        };
        let delay = millis(BSP_DELAY, 5_000)?;
        let timeout = millis(BSP_TIMEOUT, 30_000)?;
        Ok(QueueSettings { queue_max, batch_max, delay, timeout })
    }

    /// A number of at least one.
    fn number<N: std::str::FromStr + Default + PartialEq>(
        &self,
        name: &'static str,
    ) -> Result<Option<N>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.trim().parse::<N>() {
            Ok(number) if number != N::default() => Ok(Some(number)),
            Ok(_) | Err(_) => {
                Err(wrong(name, format!("must be a whole number above zero, not {text:?}")))
            }
        }
    }

    fn resource(&self, options: &Options<'_>) -> Result<Vec<KeyValue>, Error> {
        let mut attributes = vec![
            KeyValue::new("service.name", "tollgate"),
            KeyValue::new("service.version", options.version.to_owned()),
            KeyValue::new("service.instance.id", options.instance.to_owned()),
        ];
        let given = self.text(RESOURCE).unwrap_or_default();
        for (name, value) in pairs(&given).map_err(|problem| wrong(RESOURCE, problem))? {
            attributes.push(KeyValue::new(name, value));
        }
        if let Some(name) = self.text(SERVICE_NAME) {
            attributes.push(KeyValue::new("service.name", name));
        }
        Ok(attributes)
    }

    fn target(&self) -> Result<Option<Target>, Error> {
        let protocol = self.protocol()?;
        let headers = self.headers()?;
        let timeout = match self.either(TIMEOUT) {
            Some((name, _)) => self.number(name)?.map(Duration::from_millis),
            None => None,
        };
        if let Some((name, value)) = self.either(COMPRESSION)
            && value.trim() != "none"
        {
            return Err(wrong(name, format!("must be none, not {value:?}")));
        }
        let certificate = self.either(CERTIFICATE);
        if let (Protocol::HttpProtobuf, Some((name, _))) = (protocol, &certificate) {
            return Err(wrong(name, "needs the protocol grpc".to_owned()));
        }
        let Some(endpoint) = self.endpoint(protocol)? else { return Ok(None) };
        Ok(Some(Target {
            protocol,
            endpoint,
            headers,
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            certificate: certificate.map(|(_, path)| PathBuf::from(path)),
        }))
    }

    fn protocol(&self) -> Result<Protocol, Error> {
        match self.either(PROTOCOL) {
            None => Ok(Protocol::HttpProtobuf),
            Some((name, value)) => match value.trim() {
                "grpc" => Ok(Protocol::Grpc),
                "http/protobuf" => Ok(Protocol::HttpProtobuf),
                other => Err(wrong(name, format!("must be grpc or http/protobuf, not {other:?}"))),
            },
        }
    }

    /// Over HTTP, the endpoint for traces is taken as it is; to the one for all signals the path
    /// is appended.
    fn endpoint(&self, protocol: Protocol) -> Result<Option<Uri>, Error> {
        let Some((name, value)) = self.either(ENDPOINT) else { return Ok(None) };
        let [for_traces, _] = ENDPOINT;
        let text = match protocol {
            Protocol::HttpProtobuf if name != for_traces => {
                format!("{}/v1/traces", value.trim().trim_end_matches('/'))
            }
            Protocol::HttpProtobuf | Protocol::Grpc => value.trim().to_owned(),
        };
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        // The value is not repeated: it might hold credentials.
        let problem =
            "must be an http:// or https:// address, credentials in OTEL_EXPORTER_OTLP_HEADERS";
        uri.map(Some).ok_or_else(|| wrong(name, problem.to_owned()))
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        let Some((name, text)) = self.either(HEADERS) else { return Ok(Vec::new()) };
        // Values are credentials as a rule, so no error repeats any part of the text.
        let problem = || wrong(name, "must be a list of header=value, percent-encoded".to_owned());
        let pairs = pairs(&text).map_err(|_| problem())?;
        let header = |(key, value): (String, String)| {
            let key = key.parse::<HeaderName>().ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((key, value))
        };
        pairs.into_iter().map(|pair| header(pair).ok_or_else(problem)).collect()
    }
}

fn wrong(variable: &'static str, problem: String) -> Error {
    Error::Variable { variable, problem }
}

/// Reads `key=value,key=value`, percent-encoded (W3C Baggage without properties).
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    members
        .enumerate()
        .map(|(index, member)| {
            let (key, value) = member
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| format!("needs key=value in its entry {}", index + 1))?;
            let value = percent_decoded(value.trim())
                .ok_or_else(|| format!("has a wrong escape in its entry {}", index + 1))?;
            Ok((key.trim().to_owned(), value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const BSP_QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BSP_BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const BSP_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const BSP_TIMEOUT: &str = "OTEL_BSP_EXPORT_TIMEOUT";
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const COMPRESSION: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        let variables = variables.to_vec();
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&Options {
            log: log::Options::default(),
            variable: &variable,
            version: "1",
            instance: "n1",
        })
    }

    fn check_refused(variables: &[(&str, &str)], naming: &str) {
        let error = read(variables).unwrap_err().to_string();
        assert!(error.starts_with(naming), "{variables:?}: {error}");
    }

    fn check_endpoint(variables: &[(&str, &str)], expected: Option<&str>) {
        let settings = read(variables).unwrap();
        let endpoint = settings.map(|settings| settings.target.endpoint.to_string());
        assert_eq!(endpoint.as_deref(), expected, "{variables:?}");
    }

    #[test]
    fn traces_are_off_without_an_endpoint() {
        check_endpoint(&[], None);
        check_endpoint(&[("OTEL_TRACES_EXPORTER", "otlp")], None);
        check_endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None);
    }

    #[test]
    fn traces_can_be_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        check_endpoint(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], None);
        check_endpoint(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], None);
        check_endpoint(
            &[endpoint, ("OTEL_SDK_DISABLED", "false")],
            Some("http://c:4318/v1/traces"),
        );
    }

    #[test]
    fn the_path_is_appended_over_http_and_for_all_signals_only() {
        check_endpoint(
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/a/")],
            Some("https://c/a/v1/traces"),
        );
        check_endpoint(
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/a")],
            Some("https://c/a"),
        );
        check_endpoint(
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
            Some("http://c:4317/"),
        );
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "-1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ] {
            check_refused(&[(name, value)], name);
        }
        let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        check_refused(&ratio, "OTEL_TRACES_SAMPLER_ARG");
    }

    #[test]
    fn no_error_and_no_debug_text_repeats_a_credential() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2\u{7f}"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@c"),
        ] {
            assert!(!read(&[(name, value)]).unwrap_err().to_string().contains("hunter2"));
        }
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
        let settings = read(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2")]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.unwrap().target.headers[0].1, "hunter2");
    }

    #[test]
    fn the_service_name_of_its_own_variable_wins() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,region=eu%2Dwest"),
            ("OTEL_SERVICE_NAME", "b"),
        ]);
        let resource = settings.unwrap().unwrap().resource;
        assert_eq!(resource.last(), Some(&KeyValue::new("service.name", "b")));
        assert!(resource.contains(&KeyValue::new("region", "eu-west")));
    }
}
