//! Accounts: what zones, Workers and stores belong to.
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::id::Ids;
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts", list),
    Route::post("/accounts", create),
    Route::get("/accounts/{account_id}", show),
    Route::put("/accounts/{account_id}", update),
];

/// An account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) name: String,
    created_on: Timestamp,
}

impl Account {
    pub(crate) fn new(ids: &mut Ids, name: &str, now: Timestamp) -> Self {
        Self { id: ids.hex32(), name: name.to_owned(), created_on: now }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "type": "standard",
            "settings": { "enforce_twofactor": false, "abuse_contact_email": null },
            "created_on": stamp(self.created_on),
        })
    }
}

#[derive(Deserialize)]
struct Draft {
    name: String,
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.query.text("name");
    let fits = |account: &&Account| wanted.is_none_or(|name| account.name == name);
    let accounts: Vec<_> = world.accounts.iter().filter(fits).cloned().collect();
    by_page(call, &accounts, PageSize { usual: 20, max: 50 }, Account::to_json)
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { name } = call.json()?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Refusal::bad(1001, "Account name must be between 1 and 160 characters"));
    }
    room_for("accounts", world.accounts.len(), ACCOUNTS_MAX)?;
    let account = Account::new(&mut world.ids, &name, call.now);
    let shown = account.to_json();
    world.accounts.push(account);
    Ok(Answer::result(shown).with_status(StatusCode::CREATED))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(world.account(call)?.to_json()))
}

fn update(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { name } = call.json()?;
    let id = call.param("account_id");
    if let Some(account) = world.accounts.iter_mut().find(|account| account.id == id) {
        account.name = name;
    }
    show(world, call)
}

const ACCOUNTS_MAX: usize = 100;

/// Bytes of an account's name.
const NAME_MAX: usize = 160;
