//! What reads cost: units that the table counted, against the bytes that were answered.

use axum::http::{Method, StatusCode};
use okra_api::{Access, ROUTES};
use serde_json::json;

use crate::{
    recipes::There,
    world::{KEY, World},
};

/// Bytes that one read unit pays for: 8 KB, read eventually.
const BYTES_PER_UNIT: f64 = 8192.0;

/// Accounts of the world's customer.
const ACCOUNTS: u32 = 5;

/// Units that a route may cost beyond what it answers, and why.
fn beyond(path: &str) -> f64 {
    // The rows of an account are a partition, and each that is looked through costs half a unit at least.
    let rows = 0.5 * f64::from(ACCOUNTS);
    // A list over the app looks at links and heads, half a unit at least for each.
    let list = 1.0;
    let (family, call) = path.rsplit_once('/').unwrap_or(("", path));
    match (family, call) {
        ("transactions" | "transaction", "byOptions") => rows + list,
        ("transactions" | "transaction" | "records/transactions", _)
        | ("products", "transactions" | "total-debits-credits")
        | ("products/all" | "products/transactions" | "products/record", _)
        | ("products/records/credit-debit" | "products/spending-patterns", _) => rows,
        ("auth", "getByBank" | "getByDate" | "byOptions" | "getByOptions")
        | ("balance", "byOptions")
        | ("products", "auths" | "records")
        | ("products/auth", "get")
        | ("webhooks", "list") => list,
        // Head, history, due entries and consent.
        ("products/records", "get") => 2.5,
        // The heads of their records, which say whether they are connected.
        ("products", "balances") => 0.5,
        // Its accounts.
        ("customers", "get") => 0.5,
        // The last refresh on demand is read strongly: whoever was just told of one finds it.
        ("", "callback") => 1.0,
        ("jobs", "get") => 0.5,
        // Which records there are is read strongly, each has a list of its own, and each URL its health.
        ("data-sync", "list") => 2.0,
        // The row, its account, and the feed.
        ("history", _) => 0.5,
        // The entry, and what is known of each endpoint.
        ("events", "deliveries") => 3.0,
        _ => 0.0,
    }
}

/// A read costs no more than a unit for each 8 KB that it answers, and one at least, once the process
/// knows its caller and the banks.
#[tokio::test]
async fn a_read_costs_what_it_answers() {
    let world = World::new().await;
    let there = There::with(&world, json!({ "noOfAccount": ACCOUNTS })).await;
    let key = format!("Bearer {KEY}");
    let mut wrong = Vec::new();
    for route in ROUTES {
        if route.access == Access::Open || route.changes() {
            continue;
        }
        let body = there.recipe(route.path).unwrap().body.to_string();
        let uri = format!("/v2/{}", route.path);
        let call = async || {
            world
                .call(Method::POST, &uri, Some(&key), body.clone())
                .await
        };
        call().await;
        let before = world.environment.store.capacity();
        let answer = call().await;
        let cost = world.environment.store.capacity() - before;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text);
        assert!(cost.write_units < 0.01, "{uri} writes");
        let bytes = u32::try_from(answer.text.len()).unwrap();
        let most = (f64::from(bytes) / BYTES_PER_UNIT).max(1.0) + beyond(route.path);
        if cost.read_units > most {
            let units = cost.read_units;
            wrong.push(format!(
                "{uri}: {units} units for {bytes} bytes, {most:.2} allowed"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The call that is made most: half a unit, however many accounts the customer has.
#[tokio::test]
async fn a_customers_balances_cost_half_a_unit() {
    let world = World::new().await;
    for accounts in [1, ACCOUNTS] {
        let login = json!({ "noOfAccount": accounts });
        let linked = world.refreshed_with(login).await;
        let body = json!({ "customer": linked.customer() });
        let by_customer = "balance/getByCustomer";
        world.post(by_customer, body.clone()).await.data();
        let before = world.environment.store.capacity();
        let balances = world.post(by_customer, body).await.data();
        let cost = world.environment.store.capacity() - before;
        let count = balances["balance"].as_array().unwrap().len();
        assert_eq!(u32::try_from(count), Ok(accounts));
        let units = cost.read_units;
        assert!((units - 0.5).abs() < 0.01, "{units} units");
    }
}
