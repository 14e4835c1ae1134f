//! The addresses of Cloudflare's network: the one path that asks for no credential.
use serde_json::json;

use crate::call::Call;
use crate::envelope::{Answer, Reply};
use crate::route::{Guard, Route};
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[Route::get("/ips", list).guarded(Guard::Open)];

fn list(_: &mut World, _: &Call<'_>) -> Reply {
    Ok(Answer::result(json!({
        "ipv4_cidrs": ["173.245.48.0/20", "103.21.244.0/22", "104.16.0.0/13"],
        "ipv6_cidrs": ["2400:cb00::/32", "2606:4700::/32"],
        "etag": "38f79d050aa027e3be3865e495dcc9bc",
    })))
}
