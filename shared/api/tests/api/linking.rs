//! Banks, customers, links.

use axum::http::StatusCode;
use okra_connectors::{ConsentId, ConsentSecret};
use okra_core::{
    model::{
        bank::{BankConfig, ClientAuth, OAuthClient},
        fault::FaultClass,
        ids::{AppId, BankId, RecordId},
        interval::Interval,
    },
    sync::feed::FeedStream,
};
use okra_emulator::CallFate;
use okra_queue::{DeliverMessage, FetchMessage, Queue};
use okra_refresh::{
    follow_up::{FOLLOW_UP_DELAY_S, FollowUpOutcome},
    open_client_secret, seal_client_secret,
};
use okra_sandbox::{CLIENT_ID, CLIENT_SECRET, ConsentState, NewLogin, TOKEN_PATH, TokenTerms};
use okra_store::{Consistency, RecordStatus};
use okra_webhooks::AddressPolicy;
use serde_json::{Value, json};

use crate::world::{APP_KEY, ApiWorld, BANK, OTHER_KEY, build_bank_config};

/// A login at the bank that nobody linked yet, and its token.
fn create_login_token(world: &ApiWorld, accounts: u8) -> String {
    let login = world
        .bank
        .create_login(NewLogin {
            accounts,
            ..NewLogin::default()
        })
        .unwrap();
    world.bank.link_login(login.id).unwrap().into_string()
}

#[tokio::test]
async fn a_link_makes_everything_at_once() {
    let world = ApiWorld::new().await;
    assert_eq!(world.enabled_intervals().await, []);
    let body = json!({
        "name": "Bola Ade", "email": "bola@app.example", "bank": BANK,
        "access_token": create_login_token(&world, 2), "interval": "one_hour", "products": ["balance"],
        "options": { "UserId": 7 },
    });
    let linked = world.post_json("records/link", body).await.success_data();
    insta::assert_json_snapshot!("linked", linked);
    assert_eq!(
        world.enabled_intervals().await,
        [Interval::OneHour],
        "nothing else is read"
    );
    let chunks = world.take_chunks().await;
    assert_eq!(chunks.len(), 1);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.bank == BANK && chunk.records.len() == 1)
    );

    let customer = json!({ "customer": linked["customer_id"] });
    let customer = world
        .post_json("customers/get", customer)
        .await
        .success_data();
    insta::assert_json_snapshot!("customer", customer);
    let listed = world
        .post_json("customers/list", Value::Null)
        .await
        .success_data();
    assert_eq!(listed["customers"][0]["email"], json!(["bola@app.example"]));
    let record = json!({ "record_id": linked["record_id"] });
    let record = world
        .post_json("products/records/get", record)
        .await
        .success_data();
    assert_eq!(record["records"], customer["records"][0]);

    // Another bank of the same customer.
    let body = json!({
        "customer_id": linked["customer_id"], "bank": BANK, "access_token": create_login_token(&world, 1),
    });
    world.post_json("records/link", body).await.success_data();
    let listed = world
        .post_json("customers/list", json!({}))
        .await
        .success_data();
    assert_eq!(listed["pagination"]["totalDocs"], 1);
    let records = world
        .post_json("products/records", json!({}))
        .await
        .success_data();
    assert_eq!(records["records"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_link_that_fails_leaves_nothing() {
    let world = ApiWorld::new().await;
    let good = create_login_token(&world, 1);
    let check = async |change: Value, status: u16, kind: &str, said: &str| {
        let mut body = json!({ "name": "Bola", "bank": BANK, "access_token": good });
        let changes = change.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(changes);
        let answer = world.post_json("records/link", body).await;
        let (found, message) = answer.expect_error(StatusCode::from_u16(status).unwrap());
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(said), "{message}");
        assert!(!answer.text.contains(&good));
    };
    check(json!({ "access_token": "wrong" }), 400, "EXPIRED", "bank").await;
    check(
        json!({ "access_token": "" }),
        400,
        "VALIDATION",
        "access_token",
    )
    .await;
    check(json!({ "name": null }), 400, "VALIDATION", "name").await;
    check(json!({ "bank": "zz" }), 400, "VALIDATION", "bank").await;
    let nowhere = BankId::from_bytes([9; 12]);
    check(json!({ "bank": nowhere }), 404, "NOT_FOUND", "bank").await;
    check(
        json!({ "interval": "hourly" }),
        400,
        "VALIDATION",
        "interval",
    )
    .await;
    check(
        json!({ "account_ids": ["no"] }),
        400,
        "VALIDATION",
        "account_ids",
    )
    .await;
    let url = "http://169.254.169.254/latest";
    check(
        json!({ "webhook_url": url }),
        400,
        "WEBHOOK_URL",
        "webhook_url",
    )
    .await;
    let large = json!({ "note": "x".repeat(600) });
    check(json!({ "options": large }), 400, "VALIDATION", "options").await;
    let customers = world
        .post_json("customers/list", json!({}))
        .await
        .success_data();
    assert_eq!(customers["customers"], json!([]));
    assert_eq!(world.enabled_intervals().await, []);
}

#[tokio::test]
async fn chosen_accounts_are_linked_alone() {
    let world = ApiWorld::new().await;
    let login = NewLogin {
        accounts: 3,
        ..NewLogin::default()
    };
    let login = world.bank.create_login(login).unwrap();
    let second = &login.accounts[1];
    let body = json!({
        "name": "Bola", "bank": BANK, "account_ids": [second.account_id],
        "access_token": world.bank.link_login(login.id).unwrap().as_str(),
    });
    let linked = world.post_json("records/link", body).await.success_data();
    assert_eq!(linked["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(linked["accounts"][0]["nuban"], json!(second.number));
}

#[tokio::test]
async fn a_consent_that_was_revoked_is_renewed() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let login = world.last_login();
    world
        .bank
        .set_consent(login, ConsentState::Revoked)
        .unwrap();
    let refresh = json!({ "record_id": linked.record_id() });
    world
        .post_json("balance/refresh", refresh.clone())
        .await
        .success_data();
    world.process_chunks().await;
    let status = async || {
        let head = world
            .environment
            .store
            .find_head(linked.record_id(), Consistency::Strong)
            .await;
        head.unwrap().unwrap().status
    };
    assert_eq!(status().await, RecordStatus::ReauthorisationRequired);

    let stranger =
        json!({ "record_id": linked.record_id(), "access_token": create_login_token(&world, 1) });
    let answer = world.post_json("records/link", stranger).await;
    let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
    assert!(message.contains("every account"), "{message}");

    let access_token = world.bank.link_login(login).unwrap().into_string();
    let again = json!({ "record_id": linked.record_id(), "access_token": access_token });
    let again = world.post_json("records/link", again).await.success_data();
    assert_eq!(again["accounts"], linked.0["accounts"]);
    assert_eq!(status().await, RecordStatus::Active);
    world.process_chunks().await;
    assert_eq!(status().await, RecordStatus::Active);
}

#[tokio::test]
async fn sandbox_customers_are_made_in_one_go() {
    let world = ApiWorld::new().await;
    let made = json!([{ "name": "A", "noOfAccount": "2" }, { "name": "B" }]);
    let made = world
        .post_json("customers/create", made)
        .await
        .success_data();
    assert_eq!(made["customers"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&made["name"], &made["customers"][1]["name"]),
        (&json!("A"), &json!("B"))
    );
    assert_eq!(made["accounts"].as_array().unwrap().len(), 2);
    let made = json!({ "number": 3, "create": true });
    let made = world
        .post_json("customers/generate", made)
        .await
        .success_data();
    assert_eq!(made["customers"].as_array().unwrap().len(), 3);
    for (path, body, field) in [
        ("customers/generate", json!({ "number": 11 }), "number"),
        (
            "customers/create",
            json!({ "noOfAccount": 6 }),
            "noOfAccount",
        ),
        ("customers/create", json!(vec![json!({}); 11]), "body"),
    ] {
        let answer = world.post_json(path, body).await;
        let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert!(message.starts_with(field), "{message}");
    }

    let world = ApiWorld::with_options(AddressPolicy::PublicOnly, false).await;
    let answer = world.post_json("customers/create", json!({})).await;
    assert_eq!(answer.expect_error(StatusCode::NOT_IMPLEMENTED).0, "ENV");
}

#[tokio::test]
async fn a_bank_is_added_for_its_app_alone() {
    let world = ApiWorld::new().await;
    let mut bank = build_bank_config(BankId::from_bytes([7; 12]), "");
    bank.base_url = "https://bank.example/aisp".to_owned();
    bank.slug = "new-bank".to_owned();
    for _ in 0..2 {
        let added = world
            .post_json("banks/add", json!(bank))
            .await
            .success_data();
        assert_eq!(added["slug"], "new-bank");
    }
    let by_id = json!({ "id": bank.id });
    let shown = world
        .post_json("banks/getById", by_id.clone())
        .await
        .success_data();
    insta::assert_json_snapshot!("bank", shown);
    let seen = async |key: Option<&str>| {
        let get = axum::http::Method::GET;
        let listed = world.call_api(get.clone(), "/v2/banks/list", key, "").await;
        let path = format!("/v2/banks/getById?id={}", bank.id);
        let found = world.call_api(get, &path, key, "").await.status;
        (listed.text.contains("new-bank"), found == StatusCode::OK)
    };
    assert_eq!(seen(Some(APP_KEY)).await, (true, true));
    for key in [None, Some(OTHER_KEY), Some("nobody's")] {
        assert_eq!(seen(key).await, (false, false), "{key:?}");
    }

    let moved = "https://elsewhere.example/aisp".to_owned();
    let mut elsewhere = bank.clone();
    elsewhere.base_url.clone_from(&moved);
    let answer = world
        .post_as(OTHER_KEY, "banks/add", &json!(elsewhere))
        .await;
    assert_eq!(answer.expect_error(StatusCode::CONFLICT).0, "CONFLICT");
    let theirs =
        json!({ "bank": bank.id, "access_token": create_login_token(&world, 1), "name": "Bola" });
    let answer = world.post_as(OTHER_KEY, "records/link", &theirs).await;
    answer.expect_error(StatusCode::NOT_FOUND);
    // What the operator configured is nobody's to change.
    let mut operators = elsewhere.clone();
    operators.id = BANK;
    let answer = world.post_json("banks/add", json!(operators)).await;
    assert_eq!(answer.expect_error(StatusCode::CONFLICT).0, "CONFLICT");
    let stored = async || world.environment.store.find_bank(bank.id).await.unwrap();
    world
        .post_json("banks/add", json!(elsewhere))
        .await
        .success_data();
    assert_eq!(stored().await.unwrap().base_url, moved);

    // A bank goes when nothing is linked there.
    let (bank_id, served) = (
        bank.id,
        world.environment.store.find_bank(BANK).await.unwrap(),
    );
    let app = AppId::from_bytes([0xa0; 12]);
    let served = BankConfig {
        id: bank_id,
        slug: bank.slug.clone(),
        ..served.unwrap()
    };
    world
        .environment
        .store
        .put_bank_of_app(app, &served)
        .await
        .unwrap();
    let ours =
        json!({ "bank": bank_id, "access_token": create_login_token(&world, 1), "name": "Bola" });
    let linked = world.post_json("records/link", ours).await.success_data();
    let answer = world.post_json("banks/remove", by_id.clone()).await;
    assert_eq!(answer.expect_error(StatusCode::CONFLICT).0, "CONFLICT");
    let answer = world.post_as(OTHER_KEY, "banks/remove", &by_id).await;
    answer.expect_error(StatusCode::NOT_FOUND);
    let unlink = json!({ "record_id": linked["record_id"] });
    world
        .post_json("records/unlink", unlink)
        .await
        .success_data();
    world
        .post_json("banks/remove", by_id.clone())
        .await
        .success_data();
    assert_eq!(stored().await, None);
    world
        .post_json("banks/remove", by_id)
        .await
        .expect_error(StatusCode::NOT_FOUND);

    for url in [
        "http://127.0.0.1:9001/2018-06-01",
        "https://10.0.0.1/aisp",
        "https://bank.internal/aisp",
        "nonsense",
    ] {
        elsewhere.id = BankId::from_bytes([8; 12]);
        elsewhere.slug = "another".to_owned();
        elsewhere.base_url = url.to_owned();
        let answer = world.post_json("banks/add", json!(elsewhere)).await;
        let (kind, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.contains("base_url"), "{message}");
    }
    let answer = world.post_json("banks/add", json!({ "name": "x" })).await;
    answer.expect_error(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_client_secret_is_sealed_and_never_shown() {
    let world = ApiWorld::new().await;
    let bank = json!({
        "id": BankId::from_bytes([7; 12]), "name": "New", "slug": "new-bank", "standard": "obie-4.0",
        "base_url": "https://bank.example/aisp",
        "oauth": {
            "token_url": "https://auth.bank.example/token", "client_id": "okra",
            "client_secret": "s3cret",
        },
    });
    for _ in 0..2 {
        let answer = world.post_json("banks/add", bank.clone()).await;
        answer.success_data();
        assert!(!answer.text.contains("s3cret"));
    }
    let stored = world
        .environment
        .store
        .find_bank(BankId::from_bytes([7; 12]))
        .await
        .unwrap()
        .unwrap();
    assert!(!format!("{stored:?}").contains("s3cret"));
    let opened = open_client_secret(&world.environment.vault, &stored).unwrap();
    assert_eq!(*opened, "s3cret");

    let check = async |pointer: &str, value: Value, status: StatusCode, said: &str| {
        let mut changed = bank.clone();
        changed["oauth"][pointer] = value;
        let answer = world.post_json("banks/add", changed).await;
        let (_, message) = answer.expect_error(status);
        assert!(message.contains(said), "{message}");
        assert!(!answer.text.contains("s3cret"));
    };
    let bad = StatusCode::BAD_REQUEST;
    check("client_secret", json!(null), bad, "client_secret").await;
    check("sealed_secret", json!("AAAA"), bad, "sealed_secret").await;
    check(
        "token_url",
        json!("https://10.0.0.1/token"),
        bad,
        "token_url",
    )
    .await;
    check(
        "token_url",
        json!("http://auth.example/token"),
        bad,
        "token_url",
    )
    .await;
    check("client_id", json!(""), bad, "client_id").await;
}

/// The sandbox bank once more, configured with its token endpoint.
pub(crate) async fn put_oauth_bank(world: &ApiWorld) -> BankId {
    let bank = BankId::from_bytes([7; 12]);
    let mut config = world
        .environment
        .store
        .find_bank(BANK)
        .await
        .unwrap()
        .unwrap();
    let (origin, _) = config.base_url.split_once("/open-banking").unwrap();
    let secret = seal_client_secret(&world.environment.vault, bank, CLIENT_SECRET).unwrap();
    config.oauth = Some(OAuthClient {
        token_url: format!("{origin}{TOKEN_PATH}"),
        authorization_url: None,
        client_id: CLIENT_ID.to_owned(),
        client_auth: ClientAuth::ClientSecretPost,
        sealed_secret: Some(secret),
    });
    (config.id, config.slug) = (bank, "with-oauth".to_owned());
    world.environment.store.put_bank(&config).await.unwrap();
    bank
}

#[tokio::test]
async fn a_refresh_token_is_all_that_a_link_needs() {
    let world = ApiWorld::new().await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let tokens = world
        .bank
        .issue_tokens(
            login,
            TokenTerms {
                life_s: 300,
                rotate: true,
            },
        )
        .unwrap();
    let link = |bank: BankId, refresh_token: &str| json!({ "name": "Bola", "bank": bank, "refresh_token": refresh_token });
    let refresh_token = tokens.refresh_token.as_str();
    let answer = world
        .post_json("records/link", link(BANK, refresh_token))
        .await;
    let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
    assert!(message.contains("without oauth"), "{message}");

    let bank = put_oauth_bank(&world).await;
    let answer = world.post_json("records/link", link(bank, "wrong")).await;
    assert_eq!(answer.expect_error(StatusCode::BAD_REQUEST).0, "EXPIRED");
    let answer = world
        .post_json("records/link", link(bank, "not visible"))
        .await;
    assert_eq!(answer.expect_error(StatusCode::BAD_REQUEST).0, "VALIDATION");
    let answer = world
        .post_json("records/link", link(bank, refresh_token))
        .await;
    let linked = answer.success_data();
    assert!(!answer.text.contains(refresh_token));

    // What is kept are the tokens that it was spent for.
    let record: RecordId = linked["record_id"].as_str().unwrap().parse().unwrap();
    let consent = world
        .environment
        .store
        .find_consent(record, Consistency::Strong)
        .await;
    let sealed = consent.unwrap().unwrap().sealed_secret;
    let kept = world
        .environment
        .vault
        .open_sealed(record.as_bytes(), &sealed)
        .unwrap();
    let kept: okra_connectors::ConsentSecret = serde_json::from_slice(&kept).unwrap();
    assert_ne!(kept.refresh_token.as_deref(), Some(refresh_token));
    assert!(!kept.needs_renewal(world.environment.clock.now()));
}

#[tokio::test]
async fn a_bank_says_when_its_consent_ends() {
    let world = ApiWorld::new().await;
    let bank = put_oauth_bank(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let terms = TokenTerms {
        life_s: 300,
        rotate: true,
    };
    let ends_of = async |record: &Value| {
        let record: RecordId = record.as_str().unwrap().parse().unwrap();
        let store = &world.environment.store;
        let consent = store.find_consent(record, Consistency::Strong).await;
        consent
            .unwrap()
            .unwrap()
            .consent_clock
            .map(|it| it.expires_at)
    };
    let in_days = |days: i64| {
        let now = world.environment.clock.now();
        now.checked_add(jiff::SignedDuration::from_hours(24 * days))
            .ok()
            .map(|at| at.round(jiff::Unit::Second).unwrap())
    };
    let (consent, tokens) = world.bank.authorise_as_user(login, terms).unwrap();
    let link = |consent: &str, refresh_token: &str| {
        json!({
            "name": "Bola", "bank": bank, "refresh_token": refresh_token, "consent_id": consent,
            "consent_expires_at": "2026-12-31T00:00:00Z",
        })
    };
    let body = link(&consent, tokens.refresh_token.as_str());
    let linked = world.post_json("records/link", body).await.success_data();
    let record = linked["record_id"].clone();
    assert_eq!(
        ends_of(&record).await,
        in_days(180),
        "the bank's word counts"
    );

    // A bank that knows nothing of the consent: the app's word counts.
    let (_, tokens) = world.bank.authorise_as_user(login, terms).unwrap();
    let body = link("another", tokens.refresh_token.as_str());
    let linked = world.post_json("records/link", body).await.success_data();
    let said = "2026-12-31T00:00:00Z".parse().ok();
    assert_eq!(ends_of(&linked["record_id"]).await, said);

    // Linked again, it begins anew.
    let now = world.environment.clock.now();
    let later = now + jiff::SignedDuration::from_hours(24 * 30);
    world.environment.clock.set_time(later);
    let (consent, tokens) = world.bank.authorise_as_user(login, terms).unwrap();
    let mut body = link(&consent, tokens.refresh_token.as_str());
    body["record_id"] = record.clone();
    world.post_json("records/link", body).await.success_data();
    assert_eq!(ends_of(&record).await, in_days(180));

    let mut body = link("not visible", "token");
    body["bank"] = json!(bank);
    let answer = world.post_json("records/link", body).await;
    let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
    assert!(message.contains("consent_id"), "{message}");
}

#[tokio::test]
async fn a_consent_is_taken_back_at_the_bank() {
    let world = ApiWorld::new().await;
    let bank = put_oauth_bank(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let terms = TokenTerms {
        life_s: 300,
        rotate: false,
    };
    let (consent, tokens) = world.bank.authorise_as_user(login, terms).unwrap();
    let config = world
        .environment
        .store
        .find_bank(bank)
        .await
        .unwrap()
        .unwrap();
    let (connectors, now) = (&world.environment.connectors, world.environment.clock.now());
    let secret = open_client_secret(&world.environment.vault, &config).unwrap();
    let theirs = ConsentSecret::from_bearer_token(tokens.access_token.as_str());
    assert!(
        connectors
            .fetch_accounts(&config, &theirs, now)
            .await
            .is_ok()
    );

    let id = ConsentId::new(consent).unwrap();
    let revoke = || connectors.revoke_consent(&config, &secret, &id, now);
    revoke().await.unwrap();
    let refused = connectors.fetch_accounts(&config, &theirs, now).await;
    assert_eq!(refused.unwrap_err().class, FaultClass::ConsentRejected);
    // Once more, and one that never was: there is nothing to take back.
    revoke().await.unwrap();
    let unknown = ConsentId::new("unknown").unwrap();
    let revoked = connectors.revoke_consent(&config, &secret, &unknown, now);
    revoked.await.unwrap();
    // Without our client's credentials the bank revokes nothing, and no user is asked to mend it.
    let revoked = connectors.revoke_consent(&config, "wrong", &id, now).await;
    assert_eq!(revoked.unwrap_err().class, FaultClass::Internal);
}

#[tokio::test]
async fn a_link_is_followed_up_whatever_became_of_it() {
    let world = ApiWorld::new().await;
    let refresher = world.environment.build_refresher();
    let follow_ups = async || {
        let now = world.environment.clock.now();
        let later = now + jiff::SignedDuration::from_secs(i64::from(FOLLOW_UP_DELAY_S) + 1);
        world.environment.clock.set_time(later);
        let queues = &world.environment.queues;
        let mut found = Vec::new();
        for message in queues
            .receive_messages(Queue::Priority, 10, 0)
            .await
            .unwrap()
        {
            let receipts = [message.receipt];
            queues
                .delete_messages(Queue::Priority, &receipts)
                .await
                .unwrap();
            if let FetchMessage::FollowUpV1(of) = serde_json::from_str(&message.body).unwrap() {
                found.push(of.record);
            }
        }
        found
    };
    let streams = async || {
        let queues = &world.environment.queues;
        let mut streams = Vec::new();
        for message in queues
            .receive_messages(Queue::Deliver, 10, 0)
            .await
            .unwrap()
        {
            let message = serde_json::from_str(&message.body).unwrap();
            if let DeliverMessage::DispatchV1(dispatch) = message {
                streams.push(dispatch.stream);
            }
        }
        streams
    };
    let body =
        || json!({ "name": "Bola", "bank": BANK, "access_token": create_login_token(&world, 1) });

    // The record was stored, and the process died: neither told nor refreshed.
    let fails_once_asked = |operations: &'static [&'static str]| {
        let asked = std::sync::atomic::AtomicBool::new(false);
        world.emulator.inject_fates(move |_, operation| {
            let sends = operation == "SendMessageBatch";
            let asked = asked.fetch_or(sends, std::sync::atomic::Ordering::SeqCst);
            if asked && operations.contains(&operation) {
                CallFate::Fail
            } else {
                CallFate::Serve
            }
        });
    };
    fails_once_asked(&["SendMessageBatch"]);
    let answer = world.post_json("records/link", body()).await;
    assert!(answer.status.is_server_error(), "{}", answer.text);
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    let found = follow_ups().await;
    assert_eq!(found.len(), 1);
    assert!(streams().await.is_empty());
    let followed = refresher.run_follow_up(found[0]).await.unwrap();
    assert_eq!(followed, FollowUpOutcome::Refreshed);
    let streams = streams().await;
    assert!(
        streams.contains(&FeedStream::State),
        "told that it was linked"
    );
    assert!(
        streams.contains(&FeedStream::Transactions),
        "and of its rows"
    );
    let followed = refresher.run_follow_up(found[0]).await.unwrap();
    assert_eq!(followed, FollowUpOutcome::AlreadyDone);

    // The record was never stored.
    fails_once_asked(&["TransactWriteItems"]);
    let answer = world.post_json("records/link", body()).await;
    assert!(answer.status.is_server_error(), "{}", answer.text);
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    let found = follow_ups().await;
    assert_eq!(found.len(), 1, "{}", answer.text);
    let followed = refresher.run_follow_up(found[0]).await.unwrap();
    assert_eq!(followed, FollowUpOutcome::NotLinked);
}

/// A link asks its bank as a refresh does, and takes its part of what the bank allows.
#[tokio::test]
async fn links_ask_a_bank_no_more_often_than_it_allows() {
    let world = ApiWorld::new().await;
    let bank = put_oauth_bank(&world).await;
    let store = &world.environment.store;
    let mut config = store.find_bank(bank).await.unwrap().unwrap();
    config.limits.records_per_second = 1;
    store.put_bank(&config).await.unwrap();
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let link = async || {
        let consent = world.bank.link_login(login).unwrap().into_string();
        let body = json!({ "name": "Bola", "bank": bank, "access_token": consent });
        world.post_json("records/link", body).await
    };
    // Five places at once, two for each link: its accounts and its first refresh, which can be put off.
    for _ in 0..3 {
        link().await.success_data();
    }
    let answer = link().await;
    let (kind, message) = answer.expect_error(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(kind, "RATE_LIMIT");
    assert!(message.starts_with("The bank"), "{message}");
    assert_eq!(answer.headers["retry-after"], "24");
    let clock = &world.environment.clock;
    clock.set_time(clock.now() + jiff::SignedDuration::from_secs(24));
    link().await.success_data();
}
