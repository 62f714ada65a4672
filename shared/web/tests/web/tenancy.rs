//! No page of the dashboard leads to another app's data: each route of its table is asked for with the ids
//! of another app, and each form is posted with them.

use axum::http::StatusCode;
use okra_queue::Queue;
use okra_store::Consistency;
use okra_web::DASHBOARD;
use serde_json::{Value, json};

use crate::{
    recipes::{OWN_BANK_NAME, There},
    signed::Signed,
    visitor::{post, world},
    world::{KEY, NAME, OTHER_KEY, World},
};

/// What an app meets that asks for another's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// That there is no such thing.
    Missing,
    /// A page or a change of its own.
    Own,
}

/// How a route is asked for: what is sent, what another app meets, and what ends what others need.
struct Recipe {
    fields: Vec<(&'static str, String)>,
    foreign: Foreign,
    ends: u8,
}

const URL: &str = "https://ours.example/hook";

fn recipe(method: &str, path: &str, there: &There) -> Recipe {
    use Foreign::{Missing, Own};
    let url = || vec![("url", URL.to_owned())];
    let search = vec![("customer", there.linked.customer())];
    let revoked = vec![("id", there.key.clone())];
    let settings = vec![
        ("products", "balance".to_owned()),
        ("payload", "full".to_owned()),
        ("rate", "50".to_owned()),
    ];
    let new = vec![("url", "https://new.example/hook".to_owned())];
    let made = [new, settings.clone()].concat();
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
            (vec![], Own, 0)
        }
        ("get", "/records") => (search, Own, 0),
        ("get", "/records/{record}" | "/records/{record}/live" | "/webhooks/{endpoint}") => {
            (vec![], Missing, 0)
        }
        ("get", "/records/{record}/changes/{seq}" | "/events/{event}") => (vec![], Missing, 0),
        ("get", "/deliveries" | "/deliveries/live") => (url(), Own, 0),
        ("get", "/deliveries/{event}") => (url(), Missing, 0),
        ("post", "/deliveries/{event}/resend") => (url(), Missing, 0),
        ("post", "/records/{record}/refresh") => (vec![], Missing, 0),
        ("post", "/records/{record}/interval") => (sync, Missing, 0),
        ("post", "/records/{record}/sync/end") => (ended, Missing, 1),
        ("post", "/webhooks") => (made, Own, 0),
        ("post", "/webhooks/secret" | "/keys/public" | "/keys/origins") => (vec![], Own, 0),
        (
            "post",
            "/webhooks/{endpoint}/rotate"
            | "/webhooks/{endpoint}/ping"
            | "/webhooks/{endpoint}/enable"
            | "/webhooks/{endpoint}/disable",
        ) => (vec![], Missing, 0),
        ("post", "/webhooks/{endpoint}") => (settings, Missing, 0),
        ("post", "/webhooks/{endpoint}/replays") => (replay, Missing, 0),
        ("post", "/webhooks/{endpoint}/replays/{replay}") => (resume, Missing, 1),
        ("post", "/webhooks/{endpoint}/remove") => (vec![], Missing, 2),
        ("post", "/keys/revoke") => (revoked, Missing, 3),
        ("post", "/keys/rotate") => (vec![], Own, 4),
        // Nobody's, or the end of the session itself.
        ("post", "/sign-in" | "/sign-out") => (vec![], Own, u8::MAX),
        _ => panic!("{method} {path} of the dashboard has no recipe"),
    };
    Recipe {
        fields,
        foreign,
        ends,
    }
}

/// All that the app of [`KEY`] has.
async fn state(world: &World, there: &There) -> String {
    let store = &world.environment.store;
    let record = there.linked.record();
    let head = store
        .head(record, Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    let app = store.app(head.app).await.unwrap().unwrap();
    let listed = async |path: &str, body: Value| post(world, path, body).await.data();
    let event = format!("evt_{record}_1");
    format!(
        "{head:?} {app:?} {:?} {} {} {} {}",
        store.subscriptions(record).await.unwrap(),
        listed("webhooks/list", json!({})).await,
        listed("keys/list", json!({})).await,
        listed("webhooks/replay/list", json!({})).await,
        listed("events/deliveries", json!({ "event_id": event })).await,
    )
}

/// The routes with their recipes, those that end something last.
fn routes(there: &There) -> Vec<(&'static str, &'static str, Recipe)> {
    let mut routes: Vec<_> = DASHBOARD
        .iter()
        .map(|(method, path)| (*method, *path, recipe(method, path, there)))
        .filter(|(_, _, recipe)| recipe.ends < u8::MAX)
        .collect();
    routes.sort_by_key(|(_, _, recipe)| recipe.ends);
    routes
}

fn filled(path: &str, there: &There) -> String {
    let record = there.linked.record().to_string();
    path.replace("{record}", &record)
        .replace("{endpoint}", &there.hook)
        .replace("{event}", &format!("evt_{record}_1"))
        .replace("{replay}", &there.replay)
        .replace("{seq}", "1")
}

#[tokio::test]
async fn no_page_leads_to_another_apps_data() {
    let world = world().await;
    let there = There::new(&world).await;
    let foreign = Signed::sign_in(&world, OTHER_KEY).await;
    world.take_chunks().await;
    let queues = &world.environment.queues;
    while !queues
        .receive(Queue::Deliver, 10, 0)
        .await
        .unwrap()
        .is_empty()
    {}
    let before = state(&world, &there).await;
    let linked = &there.linked;
    let secrets = [
        NAME.to_owned(),
        OWN_BANK_NAME.to_owned(),
        linked.nuban(),
        linked.account(),
        there.row.clone(),
        there.key.clone(),
        there.subscription.clone(),
        "ours.example/sync".to_owned(),
    ];
    for (method, path, recipe) in routes(&there) {
        let path = filled(path, &there);
        let answer = foreign.send(method, &path, &recipe.fields).await;
        let said = format!("{method} {path}: {} {}", answer.status, answer.text);
        match recipe.foreign {
            Foreign::Missing => assert_eq!(answer.status, StatusCode::NOT_FOUND, "{said}"),
            Foreign::Own => assert!(
                answer.status.is_success() || answer.status.is_redirection(),
                "{said}"
            ),
        }
        for secret in &secrets {
            assert!(!answer.text.contains(secret), "{secret} in {said}");
        }
        // A URL that was named is named back, and none is told of that was not.
        let named = recipe.fields.iter().any(|(_, value)| value == URL);
        assert!(named || !answer.text.contains(URL), "{said}");
        assert_eq!(state(&world, &there).await, before, "{said}");
        for chunk in world.take_chunks().await {
            let ours = |record| record == linked.record();
            assert!(
                !chunk.records.iter().any(|it| ours(it.key.record)),
                "{said}"
            );
        }
        for message in queues.receive(Queue::Deliver, 10, 0).await.unwrap() {
            assert!(
                !message.body.contains(&linked.record().to_string()),
                "{said}"
            );
        }
    }
}

/// The same requests are good ones of the app whose the ids are, so that what another meets is due to
/// whose they are.
#[tokio::test]
async fn every_page_is_there_for_its_own_app() {
    let world = world().await;
    let there = There::new(&world).await;
    let own = Signed::sign_in(&world, KEY).await;
    for (method, path, recipe) in routes(&there) {
        let path = filled(path, &there);
        let answer = own.send(method, &path, &recipe.fields).await;
        // Nothing was sent to that URL yet, so there is no delivery of it.
        let undelivered = path.contains("/deliveries/evt_");
        assert!(
            answer.status.is_success() || answer.status.is_redirection() || undelivered,
            "{method} {path}: {} {}",
            answer.status,
            answer.text
        );
    }
}

#[tokio::test]
async fn a_form_without_the_tokens_of_its_page_changes_nothing() {
    let world = world().await;
    let there = There::new(&world).await;
    let mut own = Signed::sign_in(&world, KEY).await;
    own.csrf = "0".repeat(32);
    let before = state(&world, &there).await;
    for (method, path, recipe) in routes(&there) {
        if method != "post" {
            continue;
        }
        let path = filled(path, &there);
        let answer = own.send(method, &path, &recipe.fields).await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(state(&world, &there).await, before);
}
