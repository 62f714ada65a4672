//! No page of the dashboard leads to another app's data: each route of its table is requested with the ids of another
//! app, and each form is submitted with them.

use axum::http::StatusCode;
use okra_queue::Queue;
use okra_store::Consistency;
use okra_web::DASHBOARD;
use serde_json::{Value, json};

use crate::{
    recipes::{Fixture, OWN_BANK_NAME},
    signed::DashboardClient,
    visitor::{build_world, post_to_api},
    world::{APP_KEY, ApiWorld, CUSTOMER_NAME, OTHER_KEY},
};

/// What an app gets that requests another app's data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ForeignOutcome {
    /// There is no such thing.
    NotFound,
    /// A page or a change of its own.
    OwnPage,
}

/// How a route is requested: what is sent, what another app gets, and whether it removes what other routes need.
struct RouteRecipe {
    fields: Vec<(&'static str, String)>,
    foreign_outcome: ForeignOutcome,
    teardown_order: u8,
}

const HOOK_URL: &str = "https://ours.example/hook";

fn route_recipe(method: &str, path: &str, there: &Fixture) -> RouteRecipe {
    use ForeignOutcome::{NotFound, OwnPage};
    let url = || vec![("url", HOOK_URL.to_owned())];
    let search = vec![("customer", there.linked.customer_id())];
    let revoked = vec![("id", there.key.clone())];
    let settings = vec![
        ("products", "balance".to_owned()),
        ("payload", "full".to_owned()),
        ("rate", "50".to_owned()),
    ];
    let new = vec![("url", "https://new.example/hook".to_owned())];
    let created = [new, settings.clone()].concat();
    let sync = vec![
        ("interval", "one_hour".to_owned()),
        ("products", "balance".to_owned()),
    ];
    let ended = vec![("id", there.subscription.clone())];
    let replay = vec![
        ("since", "2026-03-15T00:00".to_owned()),
        ("until", "2026-03-15T12:00".to_owned()),
        ("which", "all".to_owned()),
    ];
    let resume = vec![("resume", "false".to_owned())];
    let path = path.trim_start_matches("/dashboard");
    let (fields, foreign, ends) = match (method, path) {
        ("get", "" | "/" | "/live" | "/sign-in" | "/webhooks" | "/banks" | "/keys") => {
            (vec![], OwnPage, 0)
        }
        ("get", "/records") => (search, OwnPage, 0),
        ("get", "/records/{record}" | "/records/{record}/live" | "/webhooks/{endpoint}") => {
            (vec![], NotFound, 0)
        }
        ("get", "/records/{record}/changes/{seq}" | "/events/{event}") => (vec![], NotFound, 0),
        ("get", "/deliveries" | "/deliveries/live") => (url(), OwnPage, 0),
        ("get", "/deliveries/{event}") => (url(), NotFound, 0),
        ("post", "/deliveries/{event}/resend") => (url(), NotFound, 0),
        ("post", "/records/{record}/refresh") => (vec![], NotFound, 0),
        ("post", "/records/{record}/interval") => (sync, NotFound, 0),
        ("post", "/records/{record}/sync/end") => (ended, NotFound, 1),
        ("post", "/webhooks") => (created, OwnPage, 0),
        ("post", "/webhooks/secret" | "/keys/public" | "/keys/origins") => (vec![], OwnPage, 0),
        (
            "post",
            "/webhooks/{endpoint}/rotate"
            | "/webhooks/{endpoint}/ping"
            | "/webhooks/{endpoint}/enable"
            | "/webhooks/{endpoint}/disable",
        ) => (vec![], NotFound, 0),
        ("post", "/webhooks/{endpoint}") => (settings, NotFound, 0),
        ("post", "/webhooks/{endpoint}/replays") => (replay, NotFound, 0),
        ("post", "/webhooks/{endpoint}/replays/{replay}") => (resume, NotFound, 1),
        ("post", "/webhooks/{endpoint}/remove") => (vec![], NotFound, 2),
        ("post", "/keys/revoke") => (revoked, NotFound, 3),
        ("post", "/keys/rotate") => (vec![], OwnPage, 4),
        // Nobody's, or the end of the session itself.
        ("post", "/sign-in" | "/sign-out") => (vec![], OwnPage, u8::MAX),
        _ => panic!("{method} {path} of the dashboard has no recipe"),
    };
    RouteRecipe {
        fields,
        foreign_outcome: foreign,
        teardown_order: ends,
    }
}

/// All that the app of [`APP_KEY`] has.
async fn dump_app_state(world: &ApiWorld, there: &Fixture) -> String {
    let store = &world.environment.store;
    let record = there.linked.record_id();
    let head = store
        .find_head(record, Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    let app = store.find_app(head.app).await.unwrap().unwrap();
    let listed =
        async |path: &str, body: Value| post_to_api(world, path, body).await.success_data();
    let event = format!("evt_{record}_1");
    format!(
        "{head:?} {app:?} {:?} {} {} {} {}",
        store.list_subscriptions(record).await.unwrap(),
        listed("webhooks/list", json!({})).await,
        listed("keys/list", json!({})).await,
        listed("webhooks/replay/list", json!({})).await,
        listed("events/deliveries", json!({ "event_id": event })).await,
    )
}

/// The routes with their recipes, those that end something last.
fn ordered_routes(there: &Fixture) -> Vec<(&'static str, &'static str, RouteRecipe)> {
    let mut routes: Vec<_> = DASHBOARD
        .iter()
        .map(|(method, path)| (*method, *path, route_recipe(method, path, there)))
        .filter(|(_, _, recipe)| recipe.teardown_order < u8::MAX)
        .collect();
    routes.sort_by_key(|(_, _, recipe)| recipe.teardown_order);
    routes
}

fn fill_path(path: &str, there: &Fixture) -> String {
    let record = there.linked.record_id().to_string();
    path.replace("{record}", &record)
        .replace("{endpoint}", &there.endpoint)
        .replace("{event}", &format!("evt_{record}_1"))
        .replace("{replay}", &there.replay)
        .replace("{seq}", "1")
}

#[tokio::test]
async fn no_page_leads_to_another_apps_data() {
    let world = build_world().await;
    let there = Fixture::new(&world).await;
    let foreign = DashboardClient::sign_in(&world, OTHER_KEY).await;
    world.take_chunks().await;
    let queues = &world.environment.queues;
    while !queues
        .receive_messages(Queue::Deliver, 10, 0)
        .await
        .unwrap()
        .is_empty()
    {}
    let before = dump_app_state(&world, &there).await;
    let linked = &there.linked;
    let secrets = [
        CUSTOMER_NAME.to_owned(),
        OWN_BANK_NAME.to_owned(),
        linked.nuban(),
        linked.account_id(),
        there.transaction.clone(),
        there.key.clone(),
        there.subscription.clone(),
        "ours.example/sync".to_owned(),
    ];
    for (method, path, recipe) in ordered_routes(&there) {
        let path = fill_path(path, &there);
        let response = foreign.send_form(method, &path, &recipe.fields).await;
        let context = format!("{method} {path}: {} {}", response.status, response.text);
        match recipe.foreign_outcome {
            ForeignOutcome::NotFound => {
                assert_eq!(response.status, StatusCode::NOT_FOUND, "{context}");
            }
            ForeignOutcome::OwnPage => assert!(
                response.status.is_success() || response.status.is_redirection(),
                "{context}"
            ),
        }
        for secret in &secrets {
            assert!(!response.text.contains(secret), "{secret} in {context}");
        }
        // A page names a URL only where the request named it.
        let named = recipe.fields.iter().any(|(_, value)| value == HOOK_URL);
        assert!(named || !response.text.contains(HOOK_URL), "{context}");
        assert_eq!(dump_app_state(&world, &there).await, before, "{context}");
        for chunk in world.take_chunks().await {
            let ours = |record| record == linked.record_id();
            assert!(
                !chunk.records.iter().any(|it| ours(it.key.record)),
                "{context}"
            );
        }
        for message in queues
            .receive_messages(Queue::Deliver, 10, 0)
            .await
            .unwrap()
        {
            assert!(
                !message.body.contains(&linked.record_id().to_string()),
                "{context}"
            );
        }
    }
}

/// The same requests are good ones of the app whose the ids are, so that what another meets is due to
/// whose they are.
#[tokio::test]
async fn every_page_is_there_for_its_own_app() {
    let world = build_world().await;
    let there = Fixture::new(&world).await;
    let own = DashboardClient::sign_in(&world, APP_KEY).await;
    for (method, path, recipe) in ordered_routes(&there) {
        let path = fill_path(path, &there);
        let response = own.send_form(method, &path, &recipe.fields).await;
        // Nothing was sent to that URL yet, so there is no delivery of it.
        let undelivered = path.contains("/deliveries/evt_");
        assert!(
            response.status.is_success() || response.status.is_redirection() || undelivered,
            "{method} {path}: {} {}",
            response.status,
            response.text
        );
    }
}

#[tokio::test]
async fn a_form_without_the_tokens_of_its_page_changes_nothing() {
    let world = build_world().await;
    let there = Fixture::new(&world).await;
    let mut own = DashboardClient::sign_in(&world, APP_KEY).await;
    own.csrf = "0".repeat(32);
    let before = dump_app_state(&world, &there).await;
    for (method, path, recipe) in ordered_routes(&there) {
        if method != "post" {
            continue;
        }
        let path = fill_path(path, &there);
        let response = own.send_form(method, &path, &recipe.fields).await;
        assert_eq!(
            response.status,
            StatusCode::FORBIDDEN,
            "{path}: {}",
            response.text
        );
    }
    assert_eq!(dump_app_state(&world, &there).await, before);
}
