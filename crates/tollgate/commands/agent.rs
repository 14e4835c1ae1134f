//! Agents, made with a secret that is shown once.

use std::io::Write as _;

use anyhow::{Context as _, Result, anyhow};
use http::{Method, StatusCode};
use model::{Entropy as _, SystemEntropy};
use serde_json::{Value, json};

use crate::args::{Create, Output, Server};
use crate::commands::{client, token};

/// Makes an agent and prints its secret and a token.
pub(crate) async fn create(create: Create) -> Result<()> {
    let Create { name, team, ttl, server } = create;
    let put = put(&server, &name, team.as_deref(), client::If::New).await;
    let secret = put.map_err(|error| match error.downcast_ref::<client::Refused>() {
        Some(no) if no.status == StatusCode::PRECONDITION_FAILED => {
            anyhow!("the agent {name} exists already")
        }
        _ => error,
    })?;
    let token = token::sign(&name, &secret, ttl, None)?;
    let mut out = std::io::stdout();
    match server.output {
        Output::Json => {
            let answer = json!({ "agent": name, "key": name, "secret": secret, "token": token });
            writeln!(out, "{answer}")?;
        }
        Output::Text => {
            writeln!(out, "agent   {name}\nkey     {name}\nsecret  {secret}\ntoken   {token}")?;
            writeln!(out, "\nThe secret is shown only now. Further tokens:")?;
            writeln!(out, "  TOLLGATE_AGENT_SECRET={secret} tollgate token mint --key {name}")?;
        }
    }
    Ok(())
}

/// Puts an agent with a fresh HS256 secret, and returns the secret.
pub(crate) async fn put(
    server: &Server,
    name: &str,
    team: Option<&str>,
    condition: client::If,
) -> Result<String> {
    let secret = random_text::<32>()?;
    let mut agent: Value = json!({
        "username": name,
        "plugins": { "jwt-auth": { "key": name, "secret": secret, "algorithm": "HS256" } },
    });
    if let (Some(team), Some(agent)) = (team, agent.as_object_mut()) {
        agent.insert("group_id".to_owned(), json!(team));
    }
    let path = format!("/admin/agents/{name}");
    client::ask_if(server, Method::PUT, &path, Some(&agent), condition).await?;
    Ok(secret)
}

/// Random bytes in hexadecimal, for keys and secrets.
pub(crate) fn random_text<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    SystemEntropy.fill(&mut bytes).context("cannot read random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
