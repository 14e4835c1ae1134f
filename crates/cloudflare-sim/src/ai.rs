//! Workers AI: a model that counts to as many tokens as it is allowed.
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::envelope::{Answer, Refusal, Reply};
use crate::probe::sse;
use crate::route::Route;
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/accounts/{account_id}/ai/run/{model...}", run),
    Route::get("/accounts/{account_id}/ai/models/search", models),
];

/// `prompt` or `messages`, `max_tokens`, `stream`. A token of the prompt is four bytes.
fn run(_: &mut World, call: &Call<'_>) -> Reply {
    let model = call.decoded("model");
    if !MODELS.contains(&model.as_str()) {
        return Err(Refusal::bad(7000, format!("No such model {model} or task")));
    }
    let wanted = call.object()?;
    let prompt = prompt_bytes(&wanted).ok_or_else(no_prompt)?.div_ceil(4);
    let asked = wanted.get("max_tokens").and_then(Value::as_u64).unwrap_or(8);
    let completion = asked.clamp(1, TOKENS_MAX);
    let usage = json!({ "prompt_tokens": prompt, "completion_tokens": completion,
                        "total_tokens": completion + u64::try_from(prompt).unwrap_or(u64::MAX) });
    if wanted.get("stream").and_then(Value::as_bool) == Some(true) {
        let words =
            (1..=completion).map(|n| event(&json!({ "response": format!("{n} "), "p": "" })));
        let last = event(&json!({ "response": "", "usage": usage }));
        return Ok(sse(words.chain(std::iter::once(last)), Duration::ZERO));
    }
    let response: Vec<_> = (1..=completion).map(|n| n.to_string()).collect();
    Ok(Answer::result(json!({ "response": response.join(" "), "tool_calls": [], "usage": usage })))
}

fn models(_: &mut World, call: &Call<'_>) -> Reply {
    let search = call.query.text("search").unwrap_or_default();
    let shown = MODELS.iter().filter(|name| name.contains(search)).map(|name| {
        json!({ "id": name, "name": name, "task": { "name": "Text Generation" }, "tags": [] })
    });
    Ok(Answer::result(shown.collect::<Vec<_>>()))
}

fn prompt_bytes(wanted: &Map<String, Value>) -> Option<usize> {
    if let Some(prompt) = wanted.get("prompt").and_then(Value::as_str) {
        return Some(prompt.len());
    }
    let messages = wanted.get("messages")?.as_array()?;
    let texts = messages.iter().filter_map(|message| message.get("content")?.as_str());
    Some(texts.map(str::len).sum())
}

fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

fn no_prompt() -> Refusal {
    Refusal::bad(
        5006,
        "Error: oneOf at '/' not met, 0 matches: required properties at '/' are \
                        'prompt' or 'messages'",
    )
}

const MODELS: &[&str] = &[
    "@cf/meta/llama-3.1-8b-instruct",
    "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
    "@cf/mistral/mistral-7b-instruct-v0.1",
    "@cf/openai/gpt-oss-120b",
];

/// Tokens of one answer.
const TOKENS_MAX: u64 = 4_096;
