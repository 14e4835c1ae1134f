//! What stands where Cloudflare's API is asked for, and the route that leads there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cloudflare_sim::Sim;
use serde_json::{Value, json};

use crate::{listen, serve};

/// What stands where Cloudflare's API is asked for.
pub(super) struct Upstream {
    /// `None` for the real one.
    pub(super) sim: Option<Sim>,
    pub(super) ca: Option<PathBuf>,
    pub(super) token: String,
}

/// The real API where there is a token for it; else the stand-in, over TLS under its own CA.
pub(super) async fn upstream(data: &Path) -> Result<Upstream> {
    if let Some(token) = serve::variable(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
        return Ok(Upstream { sim: None, ca: None, token });
    }
    let made = rcgen::generate_simple_self_signed(vec![API_HOST.to_owned()])
        .context("cannot make the stand-in's certificate")?;
    let ca = data.join("stand-in.pem");
    listen::write_private(&ca, made.cert.pem().as_bytes())?;
    let tls = cloudflare_sim::Tls {
        chain_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    };
    let options = cloudflare_sim::Options { tls: Some(tls), ..cloudflare_sim::Options::default() };
    let sim = Sim::start(options).await.context("cannot start the stand-in")?;
    let token = cloudflare_sim::DEFAULT_TOKEN.to_owned();
    Ok(Upstream { sim: Some(sim), ca: Some(ca), token })
}

/// The article's route as printed. The real credential belongs to the API's host, on the node.
pub(super) fn article_route() -> Value {
    json!({
        "uri": "/ai-cloudflare/*",
        "name": "AI Agent Cloudflare Proxy",
        "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
        "upstream": {
            "type": "roundrobin",
            "nodes": { "api.cloudflare.com:443": 1 },
            "scheme": "https",
        },
        "plugins": {
            "limit-req": {
                "rate": 10, "burst": 5, "key": "remote_addr",
                "rejected_code": 429, "allow_degradation": true,
            },
            "proxy-rewrite": { "regex_uri": ["^/ai-cloudflare/(.*)", "/$1"] },
            "jwt-auth": {},
            "syslog": { "host": "127.0.0.1", "port": 514, "log_format": "json" },
        },
    })
}

pub(super) const API_HOST: &str = "api.cloudflare.com";
pub(super) const TOKEN_VARIABLE: &str = "CLOUDFLARE_API_TOKEN";
