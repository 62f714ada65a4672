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

/// Routes that look at more than they show, and what they cost in this world at most.
const DEARER: &[(&str, f64)] = &[];

/// A read costs no more than a unit for each 8 KB that it answers, and one at least, once the process
/// knows its caller and the banks.
#[tokio::test]
async fn a_read_costs_what_it_answers() {
    let world = World::new().await;
    let there = There::with(&world, json!({ "noOfAccount": 5 })).await;
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
        let fair = (f64::from(bytes) / BYTES_PER_UNIT).max(1.0);
        let dearer = DEARER.iter().find(|(path, _)| *path == route.path);
        let most = dearer.map_or(fair, |(_, most)| *most);
        if cost.read_units > most {
            let units = cost.read_units;
            wrong.push(format!(
                "{uri}: {units} units for {bytes} bytes, {most:.2} allowed"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
