//! The page of a record: everything that is counted on it can be reached.

use axum::http::StatusCode;
use okra_core::{
    model::{
        ids::Seq,
        snapshot::{BookingStatus, Direction},
    },
    sync::feed::{Change, FeedEntry},
};
use okra_sandbox::{AccountAddress, NewTransaction};
use okra_store::Consistency;
use serde_json::json;

use crate::{
    signed::DashboardClient,
    visitor::{build_world, post_to_api, visible_text},
    world::{APP_KEY, ApiWorld, LinkedCustomer},
};

/// Adds transactions to the first account, and refreshes the record.
async fn add_transactions_and_refresh(world: &ApiWorld, linked: &LinkedCustomer, rows: usize) {
    let login = world.bank.find_login(world.last_login()).unwrap();
    let account = AccountAddress {
        login: login.id,
        account_id: login.accounts[0].account_id.clone(),
    };
    for row in 0..rows {
        let new = NewTransaction {
            direction: Direction::Debit,
            amount: format!("{}.25", 100 + row),
            text: format!("Purchase number {row}"),
            status: BookingStatus::Booked,
            booking_time: None,
            id: None,
        };
        world.bank.add_row(account.clone(), new).unwrap();
    }
    let clock = &world.environment.clock;
    clock.set_time(clock.now() + jiff::SignedDuration::from_mins(10));
    let refresh = json!({ "record_id": linked.record_id() });
    post_to_api(world, "customers/retry", refresh)
        .await
        .success_data();
    world.process_chunks().await;
}

/// The address of the link with this text.
fn find_href_before<'a>(html: &'a str, link_text: &str) -> Option<&'a str> {
    let (before, _) = html.split_once(link_text)?;
    let (_, href) = before.rsplit_once("href=\"")?;
    Some(href.split_once('"')?.0)
}

#[tokio::test]
async fn each_change_and_each_transaction_has_a_page() {
    let world = build_world().await;
    let linked = world.create_refreshed().await;
    add_transactions_and_refresh(&world, &linked, 130).await;
    for _ in 0..45 {
        add_transactions_and_refresh(&world, &linked, 1).await;
    }
    let own = DashboardClient::sign_in(&world, APP_KEY).await;
    let record = format!("/dashboard/records/{}", linked.record_id());
    let head = world
        .environment
        .store
        .find_head(linked.record_id(), Consistency::Strong)
        .await;
    let head = head.unwrap().unwrap();

    // All changes, from page to page.
    let mut path = record.clone();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let page = own.send_form("get", &path, &[]).await;
        assert_eq!(page.status, StatusCode::OK);
        let ids = page.text.split("id=\"seq-").skip(1);
        seen.extend(ids.map(|it| it.split_once('"').unwrap().0.parse::<u64>().unwrap()));
        let Some(older) = find_href_before(&page.text, "Older changes") else {
            break;
        };
        path = older.split('#').next().unwrap().to_owned();
    }
    let all: Vec<u64> = (1..=head.seq.0).rev().collect();
    assert_eq!(seen, all);

    // A page that shows a change, whichever it is.
    for seq in [1, head.seq.0 / 2, head.seq.0] {
        let href = format!("{record}?before={}", seq + 1);
        let page = own.send_form("get", &href, &[]).await;
        assert!(page.text.contains(&format!("id=\"seq-{seq}\"")), "{seq}");
        let event = format!("/dashboard/events/evt_{}_{seq}", linked.record_id());
        let event = own.send_form("get", &event, &[]).await;
        assert_eq!(
            find_href_before(&event.text, "Record</a>"),
            Some(format!("{href}#seq-{seq}").as_str())
        );
    }

    // All rows of a large change, on a page of its own.
    let store = &world.environment.store;
    let feed = store.read_feed(linked.record_id(), Seq(0), 500, Consistency::Strong);
    let feed = feed.await.unwrap();
    let rows = |entry: &FeedEntry| match &entry.change {
        Change::Transactions(diff) => diff.added.len(),
        Change::Balance { .. } | Change::State(_) => 0,
    };
    let large = feed.iter().max_by_key(|entry| rows(entry)).unwrap();
    assert!(rows(large) > 20, "{}", rows(large));
    let page = format!("{record}?before={}", large.seq.0 + 1);
    let page = own.send_form("get", &page, &[]).await;
    let left = format!("and {} more", rows(large) - 8);
    let rest = find_href_before(&page.text, &left).unwrap();
    let rest = own.send_form("get", rest, &[]).await;
    assert_eq!(
        rest.text.matches("data-tone=\"added\"").count(),
        rows(large)
    );

    // All transactions, from page to page.
    let mut path = record.clone();
    let mut rows = 0;
    for _ in 0..20 {
        let page = own.send_form("get", &path, &[]).await;
        assert_eq!(page.status, StatusCode::OK);
        rows += page.text.matches("<td class=\"nowrap\">").count();
        let Some(older) = find_href_before(&page.text, "Older transactions") else {
            break;
        };
        path = older.split('#').next().unwrap().to_owned();
    }
    let listed = json!({ "record_id": linked.record_id(), "limit": 1 });
    let listed = post_to_api(&world, "transactions/byRecord", listed)
        .await
        .success_data();
    assert_eq!(json!(rows), listed["pagination"]["totalDocs"]);
}

#[tokio::test]
async fn each_part_of_a_balance_that_changed_is_named() {
    let world = build_world().await;
    let linked = world.create_refreshed().await;
    add_transactions_and_refresh(&world, &linked, 1).await;
    let own = DashboardClient::sign_in(&world, APP_KEY).await;
    let record = format!("/dashboard/records/{}", linked.record_id());
    let page = visible_text(&own.send_form("get", &record, &[]).await.text);
    let (_, changes) = page.split_once("newest first").unwrap();
    assert!(changes.contains("Ledger"), "{changes}");
    assert!(changes.contains("Available"), "{changes}");
}

#[tokio::test]
async fn an_app_without_records_refreshes_nothing() {
    let world = build_world().await;
    let own = DashboardClient::sign_in(&world, APP_KEY).await;
    let page = visible_text(&own.send_form("get", "/dashboard", &[]).await.text);
    assert!(page.contains("Refreshes a minute 0.0"), "{page}");
}

#[tokio::test]
async fn a_webhook_that_keeps_a_record_at_a_shorter_interval_is_named_and_can_be_ended() {
    let world = build_world().await;
    let linked = world.create_refreshed().await;
    let url = "https://ours.example/sync";
    let sync = json!({
        "customer": linked.customer_id(), "products": ["balance"], "interval": "one_minute", "webhook_url": url,
    });
    let synced = post_to_api(&world, "data-sync", sync).await.success_data();
    let own = DashboardClient::sign_in(&world, APP_KEY).await;
    let record = format!("/dashboard/records/{}", linked.record_id());
    let still = format!("still every minute because of {url}");
    let shown = async || visible_text(&own.send_form("get", &record, &[]).await.text);
    assert!(!shown().await.contains(&still));
    let hourly = [
        ("interval", "one_hour".to_owned()),
        ("products", "balance,transactions".to_owned()),
    ];
    let interval = format!("{record}/interval");
    let changed = own.send_form("post", &interval, &hourly).await;
    assert_eq!(changed.status, StatusCode::SEE_OTHER);
    let page = shown().await;
    assert!(page.contains(&still), "{page}");
    assert_eq!(
        page.matches("still every").count(),
        1,
        "only the balance is refreshed faster"
    );
    let id = synced["subscriptions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let ended = own
        .send_form("post", &format!("{record}/sync/end"), &[("id", id)])
        .await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER);
    let page = shown().await;
    assert!(!page.contains(url), "{page}");
    assert!(page.contains("Balance every hour"), "{page}");
}
