//! Tokens of agents, signed where the secret is.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use model::{Clock as _, SystemClock};
use serde_json::json;

use crate::args::{Mint, Output};

/// Prints a token.
pub(crate) fn mint(mint: &Mint) -> Result<()> {
    let token = sign(&mint.key, &mint.secret, mint.ttl, mint.run.as_deref())?;
    match mint.output {
        Output::Text => writeln!(std::io::stdout(), "{token}")?,
        Output::Json => writeln!(std::io::stdout(), "{}", json!({ "token": token }))?,
    }
    Ok(())
}

/// An HS256 token for the agent whose key and secret these are.
pub(crate) fn sign(key: &str, secret: &str, ttl: Duration, run: Option<&str>) -> Result<String> {
    let now = SystemClock::start().now().as_secs();
    let mut claims = json!({ "key": key, "iat": now, "exp": now.saturating_add(ttl.as_secs()) });
    if let (Some(run), Some(claims)) = (run, claims.as_object_mut()) {
        claims.insert("run".to_owned(), json!(run));
    }
    let header = Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .context("cannot sign the token")
}
