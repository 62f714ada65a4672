//! The widget: what the customer agrees to is what is read.

use axum::http::StatusCode;
use okra_core::model::{interval::Interval, snapshot::Product};
use okra_store::Consistency;
use serde_json::{Value, json};

use crate::{
    visitor::{WidgetClient, begin_widget, build_world, post_to_api, visible_text},
    world::{ApiWorld, BANK},
};

/// Opens the widget with these options, reads what the customer agrees to, and links.
async fn link_with_options(world: &ApiWorld, options: Value) -> (String, Value) {
    let mut widget = WidgetClient::open_widget(world, &options).await;
    let consent = widget
        .take_step(&[("action", "bank"), ("bank", &BANK.to_string())])
        .await;
    let consent = visible_text(consent);
    (consent, widget.link_all_accounts().await)
}

#[tokio::test]
async fn what_is_read_is_what_the_customer_was_shown() {
    use Interval::{Daily, OneHour};
    let both = json!(["balance", "transactions"]);
    let check = async |options: Value,
                       says: &[&str],
                       expected: (Option<Interval>, Option<Interval>),
                       months: u8| {
        let world = build_world().await;
        let (consent, linked) = link_with_options(&world, options.clone()).await;
        for says in says {
            assert!(consent.contains(says), "{options}: {consent}");
        }
        let (balance, transactions) = expected;
        assert_eq!(consent.contains("your balances"), balance.is_some());
        assert_eq!(
            consent.contains("your transactions"),
            transactions.is_some()
        );
        let record = linked["record_id"].as_str().unwrap().parse().unwrap();
        let store = &world.environment.store;
        let head = store
            .find_head(record, Consistency::Strong)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.schedule.balance, head.schedule.transactions),
            expected
        );
        assert_eq!(head.backfill_months, months);
        assert!(head.is_first_fetched());
        for (echoed, stored) in [("options", &head.options), ("meta", &json!(head.meta))] {
            let expected = options.get(echoed).cloned().unwrap_or_else(|| json!({}));
            assert_eq!(expected, *stored);
        }
        let read: Vec<Product> = Product::ALL
            .into_iter()
            .filter(|product| {
                head.watermarks
                    .get(*product)
                    .is_some_and(|watermark| watermark.digest.is_some())
            })
            .collect();
        assert_eq!(read, head.schedule.products(), "{options}");
        let account = linked["accounts"][0]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let from = jiff::civil::Date::MIN;
        let rows = store
            .list_transactions(account, from, None, Consistency::Strong)
            .await
            .unwrap();
        assert_eq!(rows.is_empty(), transactions.is_none());
        // The bank was asked when the consent ends.
        let record = json!({ "record_id": linked["record_id"] });
        let state = post_to_api(&world, "products/records/get", record)
            .await
            .success_data();
        assert!(state["state"]["consent_expires_at"].is_string(), "{state}");
        let process = &state["records"]["status"]["process"];
        assert_eq!(process["completed"], true, "{state:#}");
    };
    check(
        json!({
            "refresh": { "interval": "one_hour", "products": ["balance"] }, "products": ["balance"],
            "limit": 2,
        }),
        &["How often every hour; This app can change how often, and not what"],
        (Some(OneHour), None),
        2,
    )
    .await;
    check(
        json!({
            "refresh": { "interval": "one_hour", "products": ["balance"] }, "products": both,
            "limit": 3, "name": "Ledger", "options": { "UserId": 7 }, "meta": { "plan": "gold" },
        }),
        &[
            "Since 15 Dec 2025",
            "How often balances every hour, transactions daily; Ledger can change how often",
        ],
        (Some(OneHour), Some(Daily)),
        3,
    )
    .await;
    // A refresh reads from the first of a month on, which is longer than one month.
    check(
        json!({ "products": ["transactions"], "limit": 1 }),
        &["Since 1 Feb 2026", "How often daily; "],
        (None, Some(Daily)),
        1,
    )
    .await;
    check(
        json!({}),
        &["Since 15 Mar 2024"],
        (Some(Daily), Some(Daily)),
        24,
    )
    .await;
}

#[tokio::test]
async fn what_was_not_consented_to_cannot_be_requested_later() {
    let world = build_world().await;
    let (_, linked) = link_with_options(&world, json!({ "products": ["balance"] })).await;
    let record = &linked["record_id"];
    let check = async |path: &str, body: Value, status: StatusCode| {
        let response = post_to_api(&world, path, body).await;
        assert_eq!(response.status, status, "{path}: {}", response.text);
        response.text
    };
    let (bad, ok) = (StatusCode::BAD_REQUEST, StatusCode::OK);
    let sync = |products: Value| json!({ "customer": linked["customer_id"], "products": products, "interval": "one_hour" });
    let message = check("data-sync", sync(json!(["balance", "transactions"])), bad).await;
    assert!(message.contains("did not share"), "{message}");
    check("data-sync", sync(json!(["balance"])), ok).await;
    let message = check("transactions/refresh", json!({ "record_id": record }), bad).await;
    assert!(message.contains("did not share"), "{message}");
    check("balance/refresh", json!({ "record_id": record }), ok).await;
    check("customers/retry", json!({ "record_id": record }), ok).await;
    world.process_chunks().await;
    let store = &world.environment.store;
    let record = record.as_str().unwrap().parse().unwrap();
    let head = store
        .find_head(record, Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.schedule.products(), [Product::Balance]);
    assert_eq!(head.watermarks.products(), [Product::Balance]);
    let state = post_to_api(
        &world,
        "products/records/get",
        json!({ "record_id": record }),
    )
    .await
    .success_data();
    let of_account = &state["state"]["accounts"][0];
    assert_eq!(of_account["transactions"]["reason"], "not_shared");
    assert_eq!(of_account["balance"]["data_status"], "AVAILABLE");
}

#[tokio::test]
async fn a_renewed_consent_is_for_what_the_record_reads() {
    let world = build_world().await;
    let options = json!({ "products": ["balance"], "refresh": { "interval": "six_hours" } });
    let (_, linked) = link_with_options(&world, options).await;
    let again = json!({
        "reauth_account": linked["accounts"][0]["id"], "reauth_bank": BANK,
        "products": ["balance", "transactions"], "limit": 24, "refresh": { "interval": "one_minute" },
    });
    let widget = WidgetClient::open_widget(&world, &again).await;
    let consent = visible_text(&widget.html);
    assert!(consent.contains("Renew your consent"), "{consent}");
    assert!(consent.contains("your balances"), "{consent}");
    assert!(!consent.contains("transactions"), "{consent}");
    assert!(consent.contains("How often every 6 hours"), "{consent}");
}

#[tokio::test]
async fn options_that_cannot_lead_to_a_link_are_an_error_before_it() {
    let world = build_world().await;
    let check = async |options: Value, says: &str| {
        let response = begin_widget(&world, &options).await;
        assert_eq!(
            response.status,
            StatusCode::BAD_REQUEST,
            "{}",
            response.text
        );
        let error = response.parse_json();
        assert_eq!(error["error"], true);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    };
    for url in [
        "http://10.0.0.1/x",
        "https://10.0.0.1/x",
        "https://sync.example/hook",
    ] {
        check(
            json!({ "callback_url": url }),
            "callback_url cannot be used: it ",
        )
        .await;
        let refresh = json!({ "refresh": { "webhook_url": url } });
        check(refresh, "refresh.webhook_url cannot be used: it ").await;
    }
    let banks = json!({ "filter": { "banks": ["guaranty-trust-bank", "no-bank"] } });
    check(banks, "filter.banks has \"no-bank\"").await;
    check(
        json!({ "filter": { "banks": [1] } }),
        "filter.banks must be",
    )
    .await;
    let large = json!({ "options": { "a": "x".repeat(300) }, "meta": { "b": "x".repeat(300) } });
    check(large, "options and meta have more than 512 bytes").await;
    let unregistered = json!({ "callback_url": "https://app.example/hook" });
    check(
        unregistered,
        "The webhook URL is on app.example, which the app did not register",
    )
    .await;
    let endpoint = json!({ "url": "https://app.example/webhooks" });
    post_to_api(&world, "webhooks/set", endpoint)
        .await
        .success_data();
    let good = json!({
        "callback_url": "https://app.example/hook", "filter": { "banks": ["guaranty-trust-bank"] },
    });
    WidgetClient::open_widget(&world, &good).await;
}

#[tokio::test]
async fn a_consent_without_a_record_is_revoked() {
    let world = build_world().await;
    let linked = world.create_refreshed().await;
    let customer = json!({ "customer": linked.customer_id() });
    let mut widget = WidgetClient::open_widget(&world, &customer).await;
    // Only the API rejects it: when the widget was opened nothing was wrong.
    post_to_api(&world, "customers/flag", customer)
        .await
        .success_data();
    let bank = BANK.to_string();
    widget
        .take_step(&[("action", "bank"), ("bank", &bank)])
        .await;
    widget.give_consent().await;
    let failed = widget.share_all_accounts().await;
    assert!(failed.contains("data-error"), "{failed}");
    let text = visible_text(failed);
    assert!(text.contains("your consent was revoked there"), "{text}");
}

#[tokio::test]
async fn a_login_that_ends_in_another_browser_links_nothing() {
    let world = build_world().await;
    let mut widget = WidgetClient::open_widget(&world, &json!({})).await;
    let bank = BANK.to_string();
    widget
        .take_step(&[("action", "bank"), ("bank", &bank)])
        .await;
    // Somebody else follows the bank's address and consents: with no cookie, and with that of another login.
    let back = widget.authorise_at_bank().await;
    let mut other = WidgetClient::open_widget(&world, &json!({})).await;
    other
        .take_step(&[("action", "bank"), ("bank", &bank)])
        .await;
    other.authorise_at_bank().await;
    for cookie in [None, other.browser_cookie.clone()] {
        let returned = widget.return_from_bank(&back, cookie).await;
        assert_eq!(returned.status, StatusCode::BAD_REQUEST);
        let text = visible_text(&returned.text);
        assert!(text.contains("began in another browser"), "{text}");
        let waits = widget.take_step(&[("action", "wait")]).await;
        assert!(waits.contains("Waiting for you to log in"), "{waits}");
    }
    // The browser that began still can.
    let cookie = widget.browser_cookie.clone();
    let returned = widget.return_from_bank(&back, cookie.clone()).await;
    assert_eq!(returned.status, StatusCode::OK, "{}", returned.text);
    // And once only.
    let returned = widget.return_from_bank(&back, cookie).await;
    assert_eq!(returned.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_session_that_starts_login_after_login_is_stopped_and_others_are_not() {
    let world = build_world().await;
    let bank = BANK.to_string();
    let mut widget = WidgetClient::open_widget(&world, &json!({})).await;
    widget
        .take_step(&[("action", "bank"), ("bank", &bank)])
        .await;
    for _ in 0..10 {
        let shown = widget.take_step(&[("action", "go")]).await;
        assert!(shown.contains("Waiting for you to log in"), "{shown}");
    }
    let shown = widget.take_step(&[("action", "go")]).await;
    assert!(shown.contains("limits how often"), "{shown}");
    let mut other = WidgetClient::open_widget(&world, &json!({})).await;
    other
        .take_step(&[("action", "bank"), ("bank", &bank)])
        .await;
    let shown = other.take_step(&[("action", "go")]).await;
    assert!(shown.contains("Waiting for you to log in"), "{shown}");
}
