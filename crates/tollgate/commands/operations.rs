//! The operations of an API: searched by words, and explained call by call.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use http::uri::PathAndQuery;
use rules::operation::{Api, Catalogue, Cost, Explanation, Loss, Rival, Template, Unknown, Verb};
use rules::target::Target;
use serde_json::{Map, Value, json};

use crate::args::{Explain, Find, Output};
use crate::commands::name::Misused;

/// Lists the calls that hold every word; finding none is a failure.
pub(crate) fn find(find: &Find) -> Result<ExitCode> {
    let catalogue = Catalogue::cloudflare();
    let words: Vec<String> =
        find.words.iter().flat_map(|text| text.split_whitespace()).map(str::to_lowercase).collect();
    let mut found: Vec<(bool, &Template, String)> = Vec::new();
    for template in catalogue.templates() {
        let path = format!("{}{}", catalogue.base(), catalogue.path_of(template));
        let text = text_of(template, &path).to_lowercase();
        if words.iter().all(|word| text.contains(word)) {
            // Those that are named so stand first.
            let is_named = words.iter().all(|word| template.operation.contains(&**word));
            found.push((!is_named, template, path));
        }
    }
    found.sort_by_key(|(is_not_named, template, _)| (*is_not_named, template.operation));
    let ended = if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    let mut out = std::io::stdout();
    if find.output == Output::Json {
        let list: Vec<Value> = found
            .iter()
            .map(|(_, template, path)| Value::Object(as_json(template, path)))
            .collect();
        writeln!(out, "{}", json!({ "total": list.len(), "list": list }))?;
        return Ok(ended);
    }
    if found.is_empty() {
        bail!("no operation holds {}", quoted(&words));
    }
    let mut table = Table::new();
    let head = ["OPERATION", "METHOD", "PATH", "EFFECT", "COST", "DANGERS"];
    table.load_style(presets::NOTHING).set_header(head);
    for (_, template, path) in &found {
        let verb = template.verb.as_str();
        let (effect, cost) = (template.effect.as_str(), cost_of(template));
        table.add_row([template.operation, verb, path, effect, cost, &dangers(template)]);
    }
    writeln!(out, "{table}")?;
    Ok(ended)
}

/// What the words are searched in.
fn text_of(template: &Template, path: &str) -> String {
    let Template { operation, aliases, verb, scope, effect, note, .. } = template;
    let (verb, scope, effect) = (verb.as_str(), scope.as_str(), effect.as_str());
    let (cost, dangers) = (cost_of(template), dangers(template));
    let old = if template.deprecated.is_some() { "deprecated" } else { "" };
    [*operation, aliases, verb, path, scope, effect, cost, &dangers, old, note].join("\n")
}

/// Says which operation a call is.
pub(crate) fn explain(explain: &Explain) -> Result<()> {
    let catalogue = Catalogue::cloudflare();
    let method = method(&explain.method)?;
    let (path, hints) = read_path(&explain.path, catalogue.base())?;
    let Ok(sent) = PathAndQuery::try_from(&*path) else {
        bail!(Misused(format!("`{path}` is not a path")));
    };
    let target = Target::from_path_and_query(sent)
        .map_err(|fault| Misused(format!("`{path}`: {fault}; the gate refuses such a request")))?;
    let explanation = catalogue.explain(method, &target);
    let mut out = std::io::stdout();
    match explain.output {
        Output::Json => writeln!(out, "{}", explained(catalogue, &explanation, &hints))?,
        Output::Text => {
            out.write_all(told(catalogue, Verb::of(method), &explanation, &hints).as_bytes())?;
        }
    }
    Ok(())
}

/// A method as calls have it.
pub(crate) fn method(text: &str) -> Result<&str> {
    if text.starts_with('/') || text.contains("://") {
        bail!(Misused(format!("`{text}` is a path: the method comes first, as in GET {text}")));
    }
    if http::Method::from_bytes(text.as_bytes()).is_err() {
        bail!(Misused(format!("`{text}` is not a method")));
    }
    if text.chars().any(|letter| letter.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        bail!(Misused(format!("`{text}` is not a method; did you mean {upper}?")));
    }
    Ok(text)
}

/// The path of a call, and what was made of what stands there.
pub(crate) fn read_path(text: &str, base: &str) -> Result<(String, Vec<String>)> {
    let mut hints = Vec::new();
    let path = match text.split_once("://") {
        Some((scheme, rest)) => path_of_url(scheme, rest)?,
        None if text.starts_with('/') => text.to_owned(),
        None => format!("/{text}"),
    };
    let mut path = without_fragment(&path).to_owned();
    let is_below = |path: &str| path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    if let Some(rest) = path.split_once(base).map(|(_, rest)| rest)
        && !is_below(&path)
        && rest.starts_with('/')
    {
        hints.push(format!("what stands before {base} was left out"));
        path = format!("{base}{rest}");
    } else if !is_below(&path) {
        hints.push(format!("{base} was put in front; the API has no other paths"));
        path = format!("{base}{path}");
    }
    if path.contains('{') {
        hints.push(format!("each {{NAME}} was read as {ANY_ID}"));
        path = filled(&path);
    }
    Ok((path, hints))
}

fn path_of_url(scheme: &str, rest: &str) -> Result<String> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if !matches!(scheme, "http" | "https") || Api::of_host(&host).is_none() {
        bail!(Misused(format!(
            "nothing is known of the API at {scheme}://{host}; for a gate's own URL, give the path \
             that its upstream gets, such as /client/v4/zones"
        )));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn without_fragment(path: &str) -> &str {
    path.split('#').next().unwrap_or_default()
}

/// The path with a fitting value for each `{NAME}`.
fn filled(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((_, beyond)) = after.split_once('}') else { break };
        filled.push_str(ANY_ID);
        rest = beyond;
    }
    filled.push_str(rest);
    filled
}

fn explained(catalogue: &Catalogue, explanation: &Explanation<'_, '_>, hints: &[String]) -> Value {
    let Explanation { answer, guards, rivals } = explanation;
    let (mut value, parameters) = match answer {
        Ok(call) => {
            let path = format!("{}{}", catalogue.base(), catalogue.path_of(call.template));
            let parameters: Map<String, Value> =
                call.parameters().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            (as_json(call.template, &path), parameters)
        }
        Err(Unknown { effect, why }) => {
            let mut value = Map::new();
            value.insert("operation".to_owned(), json!(Unknown::NAME));
            value.insert("effect".to_owned(), json!(effect.as_str()));
            value.insert("why".to_owned(), json!(why.to_string()));
            (value, Map::new())
        }
    };
    let guards = guards.iter().map(|guard| (guard.parameter.clone(), json!(guard.words)));
    let others = rivals.iter().map(|rival| {
        json!({
            "operation": rival.template.operation,
            "method": rival.template.verb.as_str(),
            "path": format!("{}{}", catalogue.base(), rival.path),
            "lost": rival.loss.to_string(),
        })
    });
    value.extend([
        ("known".to_owned(), json!(answer.is_ok())),
        ("parameters".to_owned(), Value::Object(parameters)),
        ("guards".to_owned(), Value::Object(guards.collect())),
        ("others".to_owned(), Value::Array(others.collect())),
        ("hints".to_owned(), json!(hints)),
    ]);
    Value::Object(value)
}

fn as_json(template: &Template, path: &str) -> Map<String, Value> {
    let dangers: Vec<&str> = template.dangers.iter().map(|danger| danger.as_str()).collect();
    let listed =
        |text: &'static str| text.split(',').filter(|name| !name.is_empty()).collect::<Vec<&str>>();
    let ends = template.deprecated.filter(|until| !until.is_empty());
    let members = [
        ("operation", json!(template.operation)),
        ("aliases", json!(listed(template.aliases))),
        ("method", json!(template.verb.as_str())),
        ("path", json!(path)),
        ("scope", json!(template.scope.as_str())),
        ("effect", json!(template.effect.as_str())),
        ("cost", json!(template.cost.as_str())),
        ("dangers", json!(dangers)),
        ("deprecated", json!(template.deprecated.is_some())),
        ("ends", json!(ends)),
        ("note", json!(template.note)),
        ("secrets", json!(listed(template.secrets))),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn told(
    catalogue: &Catalogue,
    asked: Option<Verb>,
    explanation: &Explanation<'_, '_>,
    hints: &[String],
) -> String {
    let Explanation { answer, guards, rivals } = explanation;
    let mut lines: Vec<String> = hints.iter().map(|hint| format!("({hint})")).collect();
    let mut say = |name: &str, text: &str| lines.push(format!("  {name:<12} {text}"));
    let head = match answer {
        Ok(call) => {
            let template = call.template;
            let path = catalogue.path_of(template);
            say("call", &format!("{} {}{path}", template.verb.as_str(), catalogue.base()));
            for (name, value) in call.parameters() {
                say("parameter", &format!("{name} = {value}"));
            }
            say("scope", template.scope.as_str());
            say("effect", template.effect.as_str());
            say("cost", cost_of(template));
            say("dangers", &dangers(template));
            match template.deprecated {
                Some("") => say("deprecated", "yes"),
                Some(until) => say("deprecated", &format!("it ends {until}")),
                None => {}
            }
            let secrets = template.secrets.replace(',', ", ");
            for (name, text) in
                [("also named", template.aliases), ("note", template.note), ("hides", &secrets)]
            {
                if !text.is_empty() {
                    say(name, text);
                }
            }
            for guard in guards {
                say("because", &format!("{} is {}", guard.parameter, guard.words));
            }
            template.operation
        }
        Err(Unknown { effect, why }) => {
            say("effect", &format!("{}, by its method", effect.as_str()));
            say("because", &why.to_string());
            Unknown::NAME
        }
    };
    // Of other methods only those that take the very path; the rest fails as theirs do.
    let told =
        |rival: &&Rival<'_>| rival.loss == Loss::Method || asked == Some(rival.template.verb);
    for rival in rivals.iter().filter(told) {
        let (verb, path) = (rival.template.verb.as_str(), &rival.path);
        let (operation, loss) = (rival.template.operation, &rival.loss);
        say("not", &format!("{operation} ({verb} {}{path}): {loss}", catalogue.base()));
    }
    lines.insert(hints.len(), head.to_owned());
    lines.push(String::new());
    lines.join("\n")
}

fn cost_of(template: &Template) -> &'static str {
    if template.cost == Cost::None { "-" } else { template.cost.as_str() }
}

fn dangers(template: &Template) -> String {
    let dangers: Vec<&str> = template.dangers.iter().map(|danger| danger.as_str()).collect();
    if dangers.is_empty() { "-".to_owned() } else { dangers.join(", ") }
}

fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(" and ")
}

/// What stands for an identifier that is not given: it has the shape of every parameter.
const ANY_ID: &str = "00000000000000000000000000000000";
