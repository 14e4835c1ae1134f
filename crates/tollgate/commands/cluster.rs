//! Clusters: founded and joined on a data directory, everything else asked of a member.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster::tls::Passport;
use cluster::token::JoinToken;
use cluster::{Home, HomeError, Sign};
use comfy_table::{Table, presets};
use http::Method;
use model::{Clock as _, NodeName, SystemClock};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::args::cluster::{
    Cluster, Demote, Init, Invite, Join, Leave, Papers, Promote, Replace, Site, Status,
};
use crate::args::{Output, Server};
use crate::commands::client;
use crate::listen;
use crate::settings::{self, Unusable};

/// Does what is asked.
pub(crate) async fn run(command: Cluster) -> Result<()> {
    match command {
        Cluster::Init(Init { site }) => init(&site),
        Cluster::Join(Join { site, member, token }) => join(&site, &member, &token).await,
        Cluster::Token(Invite { node, ttl, server }) => {
            let asked = json!({ "node": node });
            invite(&server, asked, ttl).await
        }
        Cluster::Replace(Replace { name, ttl, server }) => {
            invite(&server, json!({ "replaces": name }), ttl).await
        }
        Cluster::Promote(Promote { names, demote, server }) => {
            change(&server, "vote", &json!({ "promote": names, "demote": demote })).await
        }
        Cluster::Demote(Demote { names, server }) => {
            change(&server, "vote", &json!({ "demote": names })).await
        }
        Cluster::Leave(Leave { names, force, server }) => {
            change(&server, "leave", &json!({ "names": names, "force": force })).await
        }
        Cluster::Status(Status { server }) => {
            let found = client::ask(&server, Method::GET, "/admin/status", None).await?;
            show(&server, &found)
        }
    }
}

/// Makes a data directory that of a founder.
fn init(site: &Site) -> Result<()> {
    let (data, sign) = sign(site)?;
    let home = Home::found(&data, &sign, SystemClock::start().now()).map_err(judged)?;
    let mut out = std::io::stdout();
    match site.output {
        Output::Json => writeln!(out, "{}", place(&home))?,
        Output::Text => {
            let Home { name, address, .. } = &home;
            writeln!(out, "{} is that of the first node, {name}, at {address}", data.display())?;
            writeln!(out, "\nStart it, and let others join by a token that it makes:")?;
            writeln!(out, "  tollgate run --data {}\n  tollgate cluster token", data.display())?;
        }
    }
    Ok(())
}

/// Makes a data directory that of a new member.
async fn join(site: &Site, member: &str, token: &str) -> Result<()> {
    let (data, sign) = sign(site)?;
    let token = JoinToken::parse(token).context(Unusable)?;
    let (home, members) = Home::join(&data, &sign, member, &token).await.map_err(judged)?;
    let mut out = std::io::stdout();
    match site.output {
        Output::Json => writeln!(out, "{}", place(&home))?,
        Output::Text => {
            let Home { name, address, .. } = &home;
            let count = members.len();
            writeln!(out, "{name} at {address} is a member now, one of {count}; start it:")?;
            writeln!(out, "  tollgate run --data {}", data.display())?;
        }
    }
    Ok(())
}

/// What was given is to blame, or something else is.
fn judged(cause: HomeError) -> anyhow::Error {
    let is_given = matches!(
        &cause,
        HomeError::Name(_)
            | HomeError::Address { .. }
            | HomeError::OtherName { .. }
            | HomeError::Tls(_)
    );
    let error = anyhow::Error::new(cause);
    if is_given { error.context(Unusable) } else { error }
}

/// What a program reads of a member's place.
fn place(home: &Home) -> Value {
    json!({ "name": home.name.as_str(), "address": home.address })
}

/// Who the node is to be, and where its data lies.
fn sign(site: &Site) -> Result<(std::path::PathBuf, Sign)> {
    let read = || -> Result<_> {
        let settings::Site { data, node, address } = settings::site(site)?;
        let address =
            address.context("--address HOST:PORT is needed: where peers reach the node")?;
        let brought = brought(&site.papers)?;
        Ok((data, Sign { name: NodeName::new(&node), address, brought }))
    };
    read().context(Unusable)
}

fn brought(papers: &Papers) -> Result<Option<Passport>> {
    let Papers { authority: Some(authority), cert: Some(cert), key: Some(key) } = papers else {
        return Ok(None);
    };
    Ok(Some(Passport {
        chain: listen::certificates(cert)?,
        key: PrivateKeyDer::Pkcs8(pkcs8(key)?),
        authorities: listen::certificates(authority)?,
    }))
}

fn pkcs8(path: &Path) -> Result<PrivatePkcs8KeyDer<'static>> {
    let read = PrivatePkcs8KeyDer::from_pem_file(path);
    read.with_context(|| format!("cannot read a private key in PKCS #8 from {}", path.display()))
}

/// Prints a join token.
async fn invite(server: &Server, mut asked: Value, ttl: Duration) -> Result<()> {
    if let Some(asked) = asked.as_object_mut() {
        asked.insert("ttl".to_owned(), json!(ttl.as_secs()));
    }
    let path = "/admin/cluster/tokens";
    let answer = client::ask(server, Method::POST, path, Some(&asked)).await?;
    let mut out = std::io::stdout();
    match server.output {
        Output::Json => writeln!(out, "{answer}")?,
        // Alone on its line, so that a shell can take it.
        Output::Text => {
            let token = answer.get("token").and_then(Value::as_str);
            writeln!(out, "{}", token.context("the answer holds no token")?)?;
        }
    }
    Ok(())
}

/// Changes the members, and shows them.
async fn change(server: &Server, what: &str, body: &Value) -> Result<()> {
    let path = format!("/admin/cluster/{what}");
    let answer = client::ask(server, Method::POST, &path, Some(body)).await?;
    show(server, &answer)
}

fn show(server: &Server, answer: &Value) -> Result<()> {
    let members = answer.get("members").and_then(Value::as_array);
    let Some(members) = members else { bail!("the answer holds no members") };
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        writeln!(out, "{}", json!({ "members": members }))?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "NAME", "ROLE", "VOTES", "REVISION", "LIVE", "LAG", "READY", "RELEASE", "ADDRESS",
    ]);
    for member in members {
        table.add_row(COLUMNS.map(|name| cell(member.get(name).unwrap_or(&Value::Null))));
    }
    writeln!(out, "{table}")?;
    for member in members {
        let name = member.get("name").map(cell).unwrap_or_default();
        let reasons = member.get("why_not_ready").and_then(Value::as_array).into_iter().flatten();
        let error = member.get("error").into_iter().filter(|error| !error.is_null());
        let unwritable = member.get("why_not_writable").into_iter().filter(|why| !why.is_null());
        for why in error.chain(reasons).chain(unwritable) {
            writeln!(out, "{name}: {}", cell(why))?;
        }
    }
    Ok(())
}

/// A value as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "?".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const COLUMNS: [&str; 9] =
    ["name", "role", "votes", "revision", "live", "lag", "ready", "release", "address"];
