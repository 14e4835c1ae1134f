//! The one user, and the accounts they belong to.
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::account::Account;
use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Reply};
use crate::id::Ids;
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/user", show),
    Route::patch("/user", edit),
    Route::get("/memberships", memberships),
];

/// The user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    first_name: String,
    last_name: String,
    created_on: Timestamp,
    modified_on: Timestamp,
}

impl User {
    pub(crate) fn new(ids: &mut Ids, now: Timestamp) -> Self {
        Self {
            id: ids.hex32(),
            email: "user@example.com".to_owned(),
            first_name: "Robin".to_owned(),
            last_name: "Example".to_owned(),
            created_on: now,
            modified_on: now,
        }
    }

    fn to_json(&self, accounts: &[Account]) -> Value {
        let organizations = accounts.iter().map(|account| {
            json!({ "id": account.id, "name": account.name, "status": "member", "roles": [ROLE],
                    "permissions": ["#zone:read", "#zone:edit", "#dns_records:edit"] })
        });
        json!({
            "id": self.id,
            "email": self.email,
            "username": self.email,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "telephone": null,
            "country": null,
            "zipcode": null,
            "two_factor_authentication_enabled": true,
            "two_factor_authentication_locked": false,
            "created_on": stamp(self.created_on),
            "modified_on": stamp(self.modified_on),
            "organizations": organizations.collect::<Vec<_>>(),
            "has_pro_zones": false,
            "has_business_zones": false,
            "has_enterprise_zones": false,
            "suspended": false,
            "betas": [],
        })
    }
}

fn show(world: &mut World, _: &Call<'_>) -> Reply {
    Ok(Answer::result(world.user.to_json(&world.accounts)))
}

fn edit(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let text = |name: &str| wanted.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = text("first_name") {
        world.user.first_name = name;
    }
    if let Some(name) = text("last_name") {
        world.user.last_name = name;
    }
    world.user.modified_on = call.now;
    show(world, call)
}

fn memberships(world: &mut World, call: &Call<'_>) -> Reply {
    by_page(call, &world.accounts, PageSize { usual: 20, max: 50 }, |account| {
        json!({ "id": account.id, "code": "", "status": "accepted", "api_access_enabled": true,
                "roles": [ROLE], "account": account.to_json(),
                "permissions": { "dns_records": { "read": true, "write": true } } })
    })
}

const ROLE: &str = "Super Administrator - All Privileges";
