//! What holds for every route there is: each is called as its recipe says.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use okra_api::{Access, ROUTES, Route};
use serde_json::{Value, json};

use crate::{
    decoders,
    recipes::{ApiRouteRecipe, Fixture, ForeignCallOutcome, OWN_BANK, OWN_BANK_NAME},
    world::{APP_KEY, ApiWorld, CUSTOMER_NAME, EMPTY_KEY, OTHER_KEY, TestResponse},
};

/// A text as it stands in a query.
fn encode_query(body: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = body.as_object().unwrap().iter();
    let fields: Vec<String> = fields
        .map(|(name, it)| format!("{name}={}", text(it)))
        .collect();
    fields.join("&")
}

async fn call_route(
    world: &ApiWorld,
    route: &Route,
    method: &str,
    key: &str,
    body: &Value,
) -> TestResponse {
    let key = format!("Bearer {key}");
    let uri = format!("/v2/{}", route.path);
    match method {
        "GET" => {
            let uri = format!("{uri}?{}", encode_query(body));
            world.call_api(Method::GET, &uri, Some(&key), "").await
        }
        _ => {
            let body = body.to_string();
            world.call_api(Method::POST, &uri, Some(&key), body).await
        }
    }
}

/// Routes with their recipes, those that end something last.
fn ordered_recipes(fixture: &Fixture) -> Vec<(&'static Route, ApiRouteRecipe)> {
    let recipe = |route: &'static Route| {
        let recipe = fixture.recipe_for_path(route.path);
        let recipe = recipe.unwrap_or_else(|| panic!("{} has no recipe", route.path));
        (route, recipe)
    };
    let mut recipes: Vec<_> = ROUTES.iter().map(recipe).collect();
    recipes.sort_by_key(|(_, recipe)| recipe.ending_order);
    recipes
}

/// Checks answers against the document.
struct OpenApiDocument(Value);

impl OpenApiDocument {
    fn new() -> Self {
        Self(okra_api::generate_openapi_document().unwrap())
    }

    #[track_caller]
    fn check_response(&self, route: &Route, method: &str, answer: &TestResponse) {
        let pointer = format!(
            "/paths/~1{}/{}",
            route.path.replace('/', "~1"),
            method.to_lowercase()
        );
        let media = answer.headers["content-type"].to_str().unwrap();
        let media = media.split(';').next().unwrap().replace('/', "~1");
        let of_answer = match answer.status {
            StatusCode::OK => format!("{pointer}/responses/200/content/{media}/schema"),
            _ => "/components/schemas/Failure".to_owned(),
        };
        assert!(self.0.pointer(&of_answer).is_some(), "{of_answer}");
        if media != "application~1json" {
            return;
        }
        let mut schema = self.0.clone();
        schema["$ref"] = json!(format!("#{of_answer}"));
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let json = answer.parse_json();
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(
            errors.is_empty(),
            "{} {}: {errors:?}\n{json:#}",
            method,
            route.path
        );
    }
}

#[tokio::test]
async fn every_route_answers_as_it_is_documented() {
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let login = world.last_login();
    let document = OpenApiDocument::new();
    for (route, recipe) in ordered_recipes(&there) {
        for method in route.all_methods() {
            let mut body = recipe.body.clone();
            if route.path == "records/link" {
                let token = world.bank.link_login(login).unwrap();
                body["access_token"] = json!(token.as_str());
            }
            let answer = call_route(&world, route, method, APP_KEY, &body).await;
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{}: {}",
                route.path,
                answer.text
            );
            document.check_response(route, method, &answer);
            if method == "POST" {
                decoders::decode_response(route.path, &answer.text);
                // With nothing there: of an app that has nothing, and with nothing said.
                let none = call_route(&world, route, method, EMPTY_KEY, &recipe.body).await;
                document.check_response(route, method, &none);
                if none.status == StatusCode::OK {
                    decoders::decode_response(route.path, &none.text);
                }
                let nothing = call_route(&world, route, method, EMPTY_KEY, &Value::Null).await;
                document.check_response(route, method, &nothing);
                let said = nothing.status;
                assert!(
                    said == StatusCode::OK || said == StatusCode::BAD_REQUEST,
                    "{}: {}",
                    route.path,
                    nothing.text
                );
            }
        }
    }
}

/// Each call that changes something runs once under its name, and is answered alike the second time.
#[tokio::test]
async fn every_route_that_changes_something_runs_once_under_its_name() {
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let login = world.last_login();
    let mut changing = 0;
    for (route, recipe) in ordered_recipes(&there) {
        if !route.is_change() {
            continue;
        }
        changing += 1;
        let mut body = recipe.body.clone();
        if route.path == "records/link" {
            let token = world.bank.link_login(login).unwrap();
            body["access_token"] = json!(token.as_str());
        }
        let send = async || {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("/v2/{}", route.path))
                .header("authorization", format!("Bearer {APP_KEY}"))
                .header("idempotency-key", route.path)
                .body(Body::from(body.to_string()))
                .unwrap();
            world.send_request(request).await
        };
        let first = send().await;
        assert_eq!(
            first.status,
            StatusCode::OK,
            "{}: {}",
            route.path,
            first.text
        );
        assert_eq!(first.headers.get("idempotency-replayed"), None);
        let again = send().await;
        assert_eq!(
            again.headers["idempotency-replayed"], "true",
            "{}",
            route.path
        );
        assert_eq!(again.text, first.text, "{}", route.path);
    }
    assert!(changing > 30, "{changing}");
}

/// Whatever another app calls, with all the ids there are, it neither learns nor changes anything.
#[tokio::test]
async fn no_route_leads_to_another_apps_data() {
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let linked = &there.linked;
    let state = async || {
        let strong = okra_store::Consistency::Strong;
        let store = &world.environment.store;
        let hooks = world
            .post_json("webhooks/list", json!({}))
            .await
            .success_data();
        let customer = world
            .post_json("customers/get", json!({ "customer": linked.customer_id() }))
            .await;
        (
            store
                .find_head(linked.record_id(), strong)
                .await
                .unwrap()
                .unwrap(),
            store.list_subscriptions(linked.record_id()).await.unwrap(),
            (hooks, customer.success_data()),
            store
                .find_owned_bank(OWN_BANK.parse().unwrap())
                .await
                .unwrap(),
        )
    };
    world.take_chunks().await;
    let before = state().await;
    for (route, recipe) in ordered_recipes(&there) {
        if route.access == Access::Open {
            continue;
        }
        for method in route.all_methods() {
            let answer = call_route(&world, route, method, OTHER_KEY, &recipe.body).await;
            let wanted = match recipe.foreign {
                ForeignCallOutcome::Missing => StatusCode::NOT_FOUND,
                ForeignCallOutcome::Taken => StatusCode::CONFLICT,
                ForeignCallOutcome::Empty | ForeignCallOutcome::Open => StatusCode::OK,
            };
            assert_eq!(answer.status, wanted, "{}: {}", route.path, answer.text);
            let ours = [linked.nuban(), linked.customer_id(), linked.account_id()];
            let ours = ours
                .into_iter()
                .chain([linked.record_id().to_string(), CUSTOMER_NAME.to_owned()]);
            let ids = [there.endpoint.clone(), there.transaction.clone()];
            for ours in ours.chain(ids).chain([OWN_BANK_NAME.to_owned()]) {
                assert!(
                    !answer.text.contains(&ours),
                    "{}: {}",
                    route.path,
                    answer.text
                );
            }
        }
    }
    for chunk in world.take_chunks().await {
        for entry in chunk.records {
            assert_ne!(
                entry.key.record,
                linked.record_id(),
                "refreshed by another app"
            );
        }
    }
    assert_eq!(state().await, before);
}

/// What Okra's clients were seen to call, spelled as they did.
const OBSERVED_CALLS: &[(&str, &str, &str)] = &[
    (
        "POST",
        "products",
        "auths transactions balances records accounts list all/byRecord all/byCustomer total-debits-credits transactions/periodic balance/periodic transactions/spending-pattern",
    ),
    ("GET", "callback", ""),
    ("GET", "banks", "list getById"),
    ("POST", "customers", "list find-customers-by retry dti/get"),
    (
        "POST",
        "auth",
        "getById getByCustomer getByDate getByBank byOptions getByCustomerDate getByDateCustomer",
    ),
    (
        "POST",
        "balance",
        "getById getByCustomer getByAccount getByDate getByType getByCustomerDate byOptions check refresh getBalanceById process",
    ),
    (
        "POST",
        "transaction",
        "getById getByCustomer getByAccount getByBank getByDate getByType getByCustomerDate byOptions byRecord refresh process",
    ),
    (
        "POST",
        "transactions",
        "getById getByCustomer getByAccount getByBank getByDate getByType getByCustomerDate byOptions byRecord refresh process getByNuban balance/process",
    ),
    ("POST", "/transaction/balance/process", ""),
    (
        "POST",
        "accounts",
        "getById getByCustomer getByBank getByDate getByName getByBalance getByCustomerDate getAccountDetails",
    ),
    ("POST", "account", "getById getByCustomerDate"),
    (
        "POST",
        "products/records",
        "get getByCustomerByBank credit-debit/get",
    ),
    (
        "POST",
        "products",
        "auth/get transactions/get spending-patterns/process",
    ),
    ("POST", "records/transactions/get", ""),
];

const PREFIXES: [&str; 10] = [
    "/v1/",
    "/v2/",
    "/sandbox/v1/",
    "/sandbox/v2/",
    "/v1/sandbox/",
    "/v2/sandbox/",
    "/v2/sandbox/sandbox/",
    "/",
    "https://api.okra.ng/v2/",
    "/v2//",
];

#[tokio::test]
async fn what_okras_clients_call_is_there_under_every_prefix() {
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let key = format!("Bearer {APP_KEY}");
    let mut paths = 0;
    for (method, family, names) in OBSERVED_CALLS {
        for name in names.split(' ') {
            let path = format!("{family}/{name}");
            let path = path.trim_end_matches('/');
            let recipe = there.recipe_for_path(path.trim_start_matches('/'));
            let body = recipe
                .unwrap_or_else(|| panic!("{path} has no recipe"))
                .body;
            // All prefixes lead the first few; the others take turns, one each.
            for (turn, prefix) in PREFIXES.iter().enumerate() {
                if paths >= 3 && paths % PREFIXES.len() != turn {
                    continue;
                }
                let (uri, body, method) = match *method {
                    "GET" => (
                        format!("{prefix}{path}?{}&", encode_query(&body)),
                        String::new(),
                        Method::GET,
                    ),
                    _ => (format!("{prefix}{path}"), body.to_string(), Method::POST),
                };
                let answer = world.call_api(method, &uri, Some(&key), body).await;
                assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text);
                assert!(
                    answer.parse_json()["data"].is_object(),
                    "{uri}: {}",
                    answer.text
                );
            }
            paths += 1;
        }
    }
    assert!(paths > 70, "{paths}");
}

/// Values that callers send by mistake or on purpose.
fn random_value(random: &mut impl FnMut(usize) -> usize) -> Value {
    match random(18) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!("x"),
        3 => json!("0".repeat(24)),
        4 => json!(-1),
        5 => json!(0),
        6 => json!(2_147_483_600_i64),
        7 => json!(1e300),
        8 => json!("99999999999999999999999999"),
        9 => json!([]),
        10 => json!({}),
        11 => json!([[{}], null, "a"]),
        12 => json!({ "_id": { "_id": [] } }),
        13 => json!("2020-13-45"),
        14 => json!("-9999-01-01T00:00:00+99:99"),
        15 => json!("\u{0}\u{fffd}\u{1F9EA}é".repeat(40)),
        16 => json!(true),
        _ => json!("https://user:pw@[::1]:99999/%zz?#"),
    }
}

/// Whatever a body holds, a call is served or refused in the envelope, with its id, and never with a
/// fault of ours.
#[tokio::test]
async fn no_body_makes_a_route_fail() {
    const ROUNDS: usize = 5;
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let mut state = 0x5EED_u64;
    let mut random = move |below: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    };
    let extra = [
        "page",
        "limit",
        "from",
        "to",
        "customer",
        "account",
        "record",
        "options",
        "id",
        "type",
        "value",
        "products",
        "interval",
        "webhook_url",
        "bank",
        "name",
        "url",
        "pdf",
    ];
    for (route, recipe) in ordered_recipes(&there) {
        // What makes customers is called less: each one is looked at by every later call.
        let makes = matches!(route.path, "customers/create" | "customers/generate");
        for round in 0..if makes { 1 } else { ROUNDS } {
            let mut body = recipe.body.clone();
            let names: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
            for name in names.iter().map(String::as_str).chain(extra) {
                // The first round breaks only what the route asks for; later ones more and more.
                let ours = names.iter().any(|it| it == name);
                if random(extra.len()) < round + usize::from(ours) * 4 {
                    body[name] = random_value(&mut random);
                }
            }
            let body = match random(8) {
                0 => body.to_string().chars().skip(random(20)).collect(),
                1 => encode_query(&body),
                2 => json!([body]).to_string(),
                _ => body.to_string(),
            };
            let key = format!("Bearer {APP_KEY}");
            let uri = format!("/v2/{}", route.path);
            let answer = world
                .call_api(route.main_method(), &uri, Some(&key), body.clone())
                .await;
            let status = answer.status;
            assert!(!status.is_server_error(), "{uri} {body}: {}", answer.text);
            if !status.is_success() {
                answer.expect_error(status);
            }
            assert_eq!(answer.headers["x-request-id"].len(), 24);
        }
    }
}
