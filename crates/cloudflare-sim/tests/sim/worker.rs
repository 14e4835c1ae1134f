//! The calls of a deployment, in their order.
use serde_json::{Value, json};

use crate::client::{Ask, Came, House};

const SCRIPT: &str = "/accounts/{account}/workers/scripts/hello";

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, text): &(&str, &str)| {
        format!(
            "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n{text}\r\n"
        )
    };
    format!("{}--x--\r\n", parts.iter().map(part).collect::<String>())
}

async fn put(house: &House, metadata: &Value) -> Came {
    let body = form(&[("metadata", &metadata.to_string()), ("main.js", "export default {}")]);
    let ask = Ask::new(&format!("PUT {SCRIPT}?excludeScript=true"));
    house.ask(ask.bytes("multipart/form-data; boundary=x", body)).await
}

/// Uploads with this metadata and compares the verdict.
async fn check(metadata: &Value, verdict: &str) {
    let came = put(&House::new().await, metadata).await;
    assert_eq!(came.verdict(), verdict, "{}", came.text());
}

#[tokio::test]
async fn an_upload_names_a_module_it_brings() {
    check(&json!({ "main_module": "main.js" }), "200").await;
    check(&json!({ "main_module": "other.js" }), "400 10021").await;
    check(&json!({}), "400 10021").await;
    check(&json!({ "main_module": "main.js", "assets": { "jwt": "made.up.jwt" } }), "400 10021")
        .await;
    let inherits = json!({ "main_module": "main.js",
                           "bindings": [{ "name": "X", "type": "inherit" }] });
    check(&inherits, "400 10021").await;
}

#[tokio::test]
async fn a_module_may_be_named_by_its_file_alone() {
    let house = House::new().await;
    let body = "--x\r\ncontent-disposition: form-data; name=\"files\"; filename=\"main.js\"\r\n\r\n\
                export default {}\r\n--x\r\ncontent-disposition: form-data; name=\"metadata\"\r\n\r\n\
                {\"main_module\": \"main.js\"}\r\n--x--\r\n";
    let ask = Ask::new(&format!("PUT {SCRIPT}")).bytes("multipart/form-data; boundary=x", body);
    assert_eq!(house.ask(ask).await.verdict(), "200");
    assert_eq!(house.ask(Ask::new(&format!("GET {SCRIPT}"))).await.text(), "export default {}");
}

#[tokio::test]
async fn a_new_worker_is_told_by_its_codes() {
    let house = House::new().await;
    let service = "GET /accounts/{account}/workers/services/hello";
    assert_eq!(house.ask(Ask::new(service)).await.verdict(), "404 10090");
    let deployments = format!("GET {SCRIPT}/deployments");
    assert_eq!(house.ask(Ask::new(&deployments)).await.verdict(), "404 10007");
    put(&house, &json!({ "main_module": "main.js" })).await;
    assert_eq!(house.ask(Ask::new(service)).await.verdict(), "200");
    let listed = house.ask(Ask::new(&deployments)).await.result();
    assert_eq!(listed["deployments"][0]["versions"][0]["percentage"], 100);
}

#[tokio::test]
async fn assets_are_uploaded_once_and_deployed_with_their_jwt() {
    let house = House::new().await;
    let manifest = json!({ "manifest": { "/a": { "hash": "aa", "size": 1 },
                                         "/b": { "hash": "bb", "size": 1 } } });
    let session = Ask::new(&format!("POST {SCRIPT}/assets-upload-session")).json(&manifest);
    let begun = house.ask(session.clone()).await.result();
    assert_eq!(begun["buckets"], json!([["aa", "bb"]]));
    let jwt = format!("Bearer {}", begun["jwt"].as_str().unwrap());
    let upload = |parts: &[(&str, &str)]| {
        Ask::new("POST /accounts/{account}/workers/assets/upload?base64=true")
            .bytes("multipart/form-data; boundary=x", form(parts))
            .header("authorization", &jwt)
    };
    assert_eq!(house.ask(upload(&[("aa", "QQ==")])).await.verdict(), "202");
    let stranger = upload(&[("bb", "Qg==")]).header("authorization", "Bearer made.up.jwt");
    assert_eq!(house.ask(stranger).await.verdict(), "403 10000");
    let done = house.ask(upload(&[("bb", "Qg==")])).await;
    assert_eq!(done.verdict(), "201");
    let metadata = json!({ "main_module": "main.js", "assets": { "jwt": done.result()["jwt"] } });
    assert_eq!(put(&house, &metadata).await.verdict(), "200");
    assert_eq!(house.ask(session).await.result()["buckets"], json!([]));
}

#[tokio::test]
async fn a_secret_survives_a_deployment_and_is_never_shown() {
    let house = House::new().await;
    put(&house, &json!({ "main_module": "main.js" })).await;
    let secret = json!({ "name": "KEY", "text": "hidden", "type": "secret_text" });
    house.ask(Ask::new(&format!("PUT {SCRIPT}/secrets")).json(&secret)).await;
    put(&house, &json!({ "main_module": "main.js", "keep_bindings": ["secret_text"] })).await;
    let shown = house.ask(Ask::new(&format!("GET {SCRIPT}/settings"))).await;
    assert_eq!(shown.result()["bindings"], json!([{ "name": "KEY", "type": "secret_text" }]));
}

#[tokio::test]
async fn a_deployment_shares_all_of_the_traffic_among_known_versions() {
    let house = House::new().await;
    put(&house, &json!({ "main_module": "main.js" })).await;
    let versions = house.ask(Ask::new(&format!("GET {SCRIPT}/versions"))).await.result();
    let id = versions["items"][0]["id"].clone();
    for (version_id, percentage, verdict) in
        [(id.clone(), 100, "200"), (id, 99, "400 10021"), (json!("none"), 100, "400 10021")]
    {
        let body = json!({ "strategy": "percentage",
            "versions": [{ "version_id": version_id, "percentage": percentage }] });
        let came = house.ask(Ask::new(&format!("POST {SCRIPT}/deployments")).json(&body)).await;
        assert_eq!(came.verdict(), verdict);
    }
}

#[tokio::test]
async fn a_deleted_script_leaves_no_route_behind() {
    let house = House::new().await;
    put(&house, &json!({ "main_module": "main.js" })).await;
    house.ask(Ask::new(&format!("PUT {SCRIPT}/routes")).json(&json!(["example.com/*"]))).await;
    let delete = "DELETE /accounts/{account}/workers/services/hello?force=true";
    assert_eq!(house.ask(Ask::new(delete)).await.verdict(), "200");
    assert_eq!(house.ask(Ask::new("GET /zones/{zone}/workers/routes")).await.result(), json!([]));
    assert_eq!(house.ask(Ask::new(delete)).await.verdict(), "404 10007");
}

#[tokio::test]
async fn a_script_has_the_routes_it_was_given_last() {
    let house = House::new().await;
    put(&house, &json!({ "main_module": "main.js" })).await;
    let publish = async |routes: Value| {
        let ask = Ask::new(&format!("PUT {SCRIPT}/routes")).json(&routes);
        house.ask(ask).await.verdict()
    };
    assert_eq!(publish(json!(["a.example.com/*", { "pattern": "b.example.com/*" }])).await, "200");
    assert_eq!(publish(json!(["*.example.com/*"])).await, "200");
    assert_eq!(publish(json!(["example.net/*"])).await, "400 10020");
    let routes = house.ask(Ask::new("GET /zones/{zone}/workers/routes")).await.result();
    assert_eq!(routes.as_array().unwrap().len(), 1);
    assert_eq!(routes[0]["pattern"], "*.example.com/*");
}
