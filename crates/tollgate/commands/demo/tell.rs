//! What the demo tells people to try.

use std::path::Path;

use super::node::Node;
use super::upstream::{API_HOST, TOKEN_VARIABLE, Upstream};

/// What is told when everything is up.
pub(super) fn tell(
    data: &Path,
    upstream: &Upstream,
    nodes: &[Node],
    (admin_key, token): (&str, &str),
) -> String {
    let [first, others @ ..] = nodes else { return String::new() };
    let (http, admin, metrics) = (first.text("http"), first.text("admin"), first.text("metrics"));
    let behind = match &upstream.sim {
        Some(sim) => format!("the stand-in for {API_HOST} at {}", sim.address()),
        None => format!("{API_HOST} itself, with the token of ${TOKEN_VARIABLE}"),
    };
    let doors: Vec<String> =
        nodes.iter().map(|node| format!("http://{}", node.text("http"))).collect();
    let own = if others.is_empty() { "node" } else { first.text("name") };
    let audit = data.join(own).join("audit/audit.jsonl");
    let audit = audit.display();
    let call = format!("http://{http}/ai-cloudflare/client/v4");
    let mut text = format!(
        "tollgate carries agents' calls at {} to {behind}.\n\
         In another terminal:\n\n\
         export TOKEN={token}\n\n\
         # A call goes through; the agent never sees the real credential.\n\
         curl -i -H \"Authorization: Bearer $TOKEN\" {call}/user/tokens/verify\n\n\
         # Of twenty at once, six are served in turn, ten a second; the rest get 429.\n\
         seq 20 | xargs -P 20 -I{{}} curl -s -o /dev/null -w '%{{http_code}}\\n' \
         -H \"Authorization: Bearer $TOKEN\" {call}/zones | sort | uniq -c\n\n\
         # What was recorded of them.\n\
         tail -n 3 {audit}\n\n\
         # The rules, and the numbers.\n\
         curl -H \"X-API-KEY: {admin_key}\" http://{admin}/apisix/admin/routes\n\
         curl -s http://{metrics}/metrics | grep tollgate_requests\n\n",
        doors.join(", ")
    );
    if let Some(second) = others.first() {
        text.push_str(&several(nodes, second, (admin_key, admin)));
    }
    text.push_str("Ctrl-C ends it.");
    text
}

/// What there is to try with several nodes.
fn several(nodes: &[Node], second: &Node, (admin_key, admin): (&str, &str)) -> String {
    let pid = |node: &Node| node.announced.get("pid").map(ToString::to_string).unwrap_or_default();
    let processes: Vec<String> = nodes
        .iter()
        .map(|node| format!("{} is process {}", node.text("name"), pid(node)))
        .collect();
    let admin_2 = second.text("admin");
    let program = std::env::current_exe().map(|path| path.display().to_string());
    let program = program.unwrap_or_else(|_| "tollgate".to_owned());
    let key = format!("curl -H \"X-API-KEY: {admin_key}\"");
    format!(
        "# The nodes hold one document: written at the second, read at the first.\n\
         {key} -X PUT -d '{{\"rate\":2,\"burst\":5,\"per\":\"agent\"}}' \
         'http://{admin_2}/admin/limits/mine?wait=all' -i\n\
         {key} http://{admin}/admin/limits/mine\n\n\
         # Who leads, and who is behind. Kill whom you like: {}.\n\
         TOLLGATE_ADMIN_KEY={admin_key} {program} cluster status --server http://{admin_2}\n\n",
        processes.join(", ")
    )
}
