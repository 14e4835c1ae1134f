//! The analytics API: GraphQL, whose errors come with 200 and without the envelope.
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Reply};
use crate::route::Route;
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[Route::post("/graphql", ask).reading()];

#[derive(Deserialize)]
struct Question {
    query: String,
    #[serde(default)]
    variables: Value,
}

/// Answers queries of `viewer` with nothing measured, and every other with an error.
fn ask(_: &mut World, call: &Call<'_>) -> Reply {
    let Ok(Question { query, variables }) = call.json() else {
        return Ok(wrong(call, "parse error: the body is no GraphQL question"));
    };
    let known = |field: &&str| query.contains(*field);
    if query.trim_start().starts_with("mutation") {
        return Ok(wrong(call, "mutations are not supported"));
    }
    if !query.contains("viewer") {
        return Ok(wrong(call, "unknown field: the root has viewer and cost"));
    }
    if let Some(tag) = variables.get("zoneTag").and_then(Value::as_str)
        && tag.len() != 32
    {
        return Ok(wrong(call, "zone tag is not valid"));
    }
    let scopes = ["zones", "accounts"].into_iter().filter(known);
    let viewer: serde_json::Map<_, _> = scopes.map(|scope| (scope.to_owned(), json!([]))).collect();
    let data = json!({ "data": { "viewer": viewer }, "errors": null });
    Ok(Answer::json(StatusCode::OK, &data))
}

fn wrong(call: &Call<'_>, message: &str) -> Answer {
    let error = json!({ "message": message, "path": null,
                        "extensions": { "timestamp": stamp(call.now) } });
    Answer::json(StatusCode::OK, &json!({ "data": null, "errors": [error] }))
}
