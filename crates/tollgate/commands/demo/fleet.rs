//! The demo's nodes: one alone, or several that form a cluster.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cluster::token::JoinToken;
use cluster::{Home, Sign};
use http::Method;
use model::{Clock as _, NodeName, SystemClock};
use serde_json::{Value, json};

use super::node::{Node, Plan};
use super::upstream::Upstream;
use crate::args::{Demo, Ports};
use crate::commands::client;

/// Starts all nodes; those that are not members yet join the first.
pub(super) async fn start(demo: &Demo, upstream: &Upstream, admin_key: &str) -> Result<Vec<Node>> {
    let plans = Plan::all(demo);
    let Some((first, others)) = plans.split_first() else { bail!("there is no node to start") };
    if !others.is_empty() && Home::read(&first.data)?.is_none() {
        Home::found(&first.data, &sign(demo, first)?, SystemClock::start().now())?;
    }
    let mut nodes = Vec::with_capacity(plans.len());
    nodes.push(Node::start(demo, upstream, admin_key, first).await?);
    // Members first: without a majority of them nobody else can be let in.
    let (members, new): (Vec<&Plan>, Vec<&Plan>) =
        others.iter().partition(|plan| is_member(&plan.data));
    for plan in members {
        nodes.push(Node::start(demo, upstream, admin_key, plan).await?);
    }
    for plan in new {
        join(demo, &nodes, plan).await?;
        nodes.push(Node::start(demo, upstream, admin_key, plan).await?);
    }
    if let (Some(first), false) = (nodes.first(), others.is_empty()) {
        let names: Vec<&str> = nodes.iter().map(|node| node.text("name")).collect();
        let body = json!({ "promote": names });
        client::ask(&first.server(), Method::POST, "/admin/cluster/vote", Some(&body)).await?;
    }
    nodes.sort_by(|a, b| a.text("name").cmp(b.text("name")));
    Ok(nodes)
}

fn is_member(data: &Path) -> bool {
    matches!(Home::read(data), Ok(Some(_)))
}

/// Makes a data directory that of a new member.
async fn join(demo: &Demo, nodes: &[Node], plan: &Plan) -> Result<()> {
    let member = nodes.first().context("there is nobody to join")?;
    let path = "/admin/cluster/tokens";
    let answer = client::ask(&member.server(), Method::POST, path, Some(&json!({}))).await?;
    let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
    let token = JoinToken::parse(token)?;
    Home::join(&plan.data, &sign(demo, plan)?, member.text("cluster"), &token).await?;
    Ok(())
}

/// Who a new node is to be. Its address stays the same when the demo is started again.
fn sign(demo: &Demo, plan: &Plan) -> Result<Sign> {
    let port = match demo.ports {
        Ports::Fixed => plan.port(9480),
        Ports::Auto => free_port()?,
    };
    let name = NodeName::new(&format!("node-{}", plan.number + 1));
    Ok(Sign { name, address: format!("127.0.0.1:{port}"), brought: None })
}

fn free_port() -> Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(probe.local_addr().context("a listener has no address")?.port())
}
