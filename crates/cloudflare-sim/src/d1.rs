//! D1: databases that can be made and asked, and know no rows.
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::stamp;
use crate::envelope::{Answer, Refusal, Reply};
use crate::paging::{PageSize, by_page};
use crate::route::Route;
use crate::world::{World, room_for};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/accounts/{account_id}/d1/database", list),
    Route::post("/accounts/{account_id}/d1/database", create),
    Route::get("/accounts/{account_id}/d1/database/{database_id}", show),
    Route::delete("/accounts/{account_id}/d1/database/{database_id}", delete),
    Route::post("/accounts/{account_id}/d1/database/{database_id}/query", query),
];

/// A database.
#[derive(Debug)]
pub(crate) struct Database {
    account: String,
    uuid: String,
    name: String,
    created_at: Timestamp,
}

impl Database {
    fn to_json(&self) -> Value {
        json!({ "uuid": self.uuid, "name": self.name, "version": "production", "num_tables": 0,
                "file_size": 0, "created_at": stamp(self.created_at) })
    }
}

#[derive(Deserialize)]
struct Draft {
    name: String,
}

#[derive(Deserialize)]
struct Question {
    sql: String,
}

fn list(world: &mut World, call: &Call<'_>) -> Reply {
    let account = call.param("account_id");
    let name = call.query.text("name");
    let fits = |database: &&Database| {
        database.account == account && name.is_none_or(|name| database.name == name)
    };
    let found: Vec<_> = world.databases.iter().filter(fits).collect();
    by_page(call, &found, PageSize { usual: 20, max: 1_000 }, |database| database.to_json())
}

fn create(world: &mut World, call: &Call<'_>) -> Reply {
    let Draft { name } = call.json()?;
    let account = call.param("account_id").to_owned();
    let mut all = world.databases.iter();
    if all.any(|database| database.account == account && database.name == name) {
        return Err(Refusal::bad(7502, "A database with that name already exists"));
    }
    room_for("databases", world.databases.len(), DATABASES_MAX)?;
    let database = Database { account, uuid: world.ids.uuid(), name, created_at: call.now };
    let shown = database.to_json();
    world.databases.push(database);
    Ok(Answer::result(shown))
}

fn find<'w>(world: &'w World, call: &Call<'_>) -> Result<&'w Database, Refusal> {
    let (account, uuid) = (call.param("account_id"), call.param("database_id"));
    let mut all = world.databases.iter();
    let found = all.find(|database| database.account == account && database.uuid == uuid);
    found.ok_or_else(|| Refusal::missing(7404, "The database could not be found"))
}

fn show(world: &mut World, call: &Call<'_>) -> Reply {
    Ok(Answer::result(find(world, call)?.to_json()))
}

fn delete(world: &mut World, call: &Call<'_>) -> Reply {
    let uuid = find(world, call)?.uuid.clone();
    world.databases.retain(|database| database.uuid != uuid);
    Ok(Answer::result(Value::Null))
}

/// One empty result for each statement. `rows_read` and `rows_written` are what a price is made of:
/// one row for a statement that reads, one for a statement that writes.
fn query(world: &mut World, call: &Call<'_>) -> Reply {
    find(world, call)?;
    let Question { sql } = call.json()?;
    let statements = sql.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    let results: Vec<_> = statements.take(STATEMENTS_MAX).map(answered).collect();
    if results.is_empty() {
        return Err(Refusal::bad(7500, "No SQL statements detected"));
    }
    Ok(Answer::result(results))
}

fn answered(statement: &str) -> Value {
    let verb = statement.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let reads = matches!(verb.as_str(), "select" | "explain" | "pragma" | "with");
    json!({ "results": [], "success": true,
            "meta": { "served_by": "v3-prod", "duration": 0.1, "changes": 0, "last_row_id": 0,
                      "changed_db": !reads, "size_after": 8192,
                      "rows_read": u32::from(reads), "rows_written": u32::from(!reads) } })
}

const DATABASES_MAX: usize = 1_000;

/// Statements answered in one call; the rest is not looked at.
const STATEMENTS_MAX: usize = 1_000;
