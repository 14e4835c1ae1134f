//! What a zone's plan costs, and which plans there are.
use serde_json::{Value, json};

use crate::call::Call;
use crate::envelope::{Answer, Refusal, Reply};
use crate::price::{Cents, Charge};
use crate::route::Route;
use crate::world::World;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/zones/{zone_id}/available_plans", plans),
    Route::get("/zones/{zone_id}/available_plans/{plan_id}", plan),
    Route::get("/zones/{zone_id}/available_rate_plans", rate_plans),
    Route::get("/zones/{zone_id}/subscription", subscription),
    Route::put("/zones/{zone_id}/subscription", subscribe),
    Route::post("/zones/{zone_id}/subscription", subscribe),
];

/// A plan a zone may be on. Prices are whole dollars a month.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    id: &'static str,
    key: &'static str,
    name: &'static str,
    price: u32,
}

impl Plan {
    pub(crate) fn to_json(&self, subscribed: bool) -> Value {
        json!({ "id": self.id, "name": self.name, "price": self.price, "currency": "USD",
                "frequency": if self.price == 0 { "" } else { "monthly" },
                "is_subscribed": subscribed, "can_subscribe": !subscribed,
                "legacy_id": self.key, "legacy_discount": false, "externally_managed": false })
    }

    fn rate_json(&self) -> Value {
        json!({ "id": self.key, "name": self.name, "currency": "USD", "duration": 1,
                "frequency": "monthly",
                "components": [{ "name": "zones", "default": 1, "unit_price": self.price }] })
    }
}

/// The plan of this id or legacy id.
fn find(id: &str) -> Option<&'static Plan> {
    PLANS.iter().find(|plan| plan.id == id || plan.key == id)
}

fn plans(world: &mut World, call: &Call<'_>) -> Reply {
    let current = world.zone(call)?.plan;
    let shown = PLANS.iter().map(|plan| plan.to_json(plan == current));
    Ok(Answer::result(shown.collect::<Vec<_>>()))
}

fn plan(world: &mut World, call: &Call<'_>) -> Reply {
    let current = world.zone(call)?.plan;
    let plan = find(call.param("plan_id")).ok_or_else(unknown)?;
    Ok(Answer::result(plan.to_json(plan == current)))
}

fn rate_plans(world: &mut World, call: &Call<'_>) -> Reply {
    world.zone(call)?;
    Ok(Answer::result(PLANS.iter().map(Plan::rate_json).collect::<Vec<_>>()))
}

fn subscription(world: &mut World, call: &Call<'_>) -> Reply {
    let zone = world.zone(call)?;
    let plan = zone.plan;
    Ok(Answer::result(json!({
        "id": zone.id,
        "state": "Paid",
        "price": plan.price,
        "currency": "USD",
        "frequency": "monthly",
        "rate_plan": { "id": plan.key, "public_name": plan.name, "currency": "USD",
                       "scope": "zone", "sets": [], "is_contract": false,
                       "externally_managed": false },
    })))
}

/// Puts the zone on the plan that the body names.
fn subscribe(world: &mut World, call: &Call<'_>) -> Reply {
    let wanted = call.object()?;
    let id = wanted.get("rate_plan").and_then(|plan| plan.get("id")?.as_str()).unwrap_or_default();
    put_on(world, call, id)?;
    subscription(world, call)
}

/// Puts the call's zone on another plan and charges its first month.
pub(crate) fn put_on(world: &mut World, call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    let plan = find(id).ok_or_else(unknown)?;
    let zone = world.zone(call)?;
    if plan == zone.plan {
        return Ok(());
    }
    let what = format!("{} plan of {}", plan.name, zone.name);
    let account_id = zone.account.id.clone();
    if plan.price > 0 {
        world.registrar.charge(Charge {
            at: call.now,
            account: account_id,
            what,
            periods: 1,
            amount: Cents::dollars(plan.price),
            token: call.token.clone(),
        })?;
    }
    world.zone(call)?.plan = plan;
    Ok(())
}

fn unknown() -> Refusal {
    Refusal::missing(1015, "Invalid plan identifier")
}

/// Every zone begins with it.
pub(crate) const FREE: &Plan = &FREE_PLAN;

const FREE_PLAN: Plan =
    Plan { id: "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", key: "free", name: "Free Website", price: 0 };

/// List prices of 2026-10, in whole dollars a month, paid monthly.
static PLANS: [Plan; 3] = [
    FREE_PLAN,
    Plan { id: "b1047348b6fb4f65a8d5c5e5a0a5e9c1", key: "pro", name: "Pro Website", price: 25 },
    Plan {
        id: "94f3b7b768b0458b56d2cac4fe5ec0f9",
        key: "business",
        name: "Business Website",
        price: 250,
    },
];
