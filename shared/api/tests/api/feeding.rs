//! The change feed and history, as an app reads them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use okra_core::model::{BookingStatus, Direction};
use okra_sandbox::{Amend, Book, NewLogin, NewTransaction, Place, RowView};
use okra_store::Consistency;
use serde_json::{Value, json};

use crate::world::{BANK, Linked, OTHER_KEY, World};

/// The account of the login that was made last.
async fn place(world: &World, linked: &Linked) -> Place {
    let consents = world.environment.store.consents(&[linked.record()]).await;
    Place {
        login: world.login(),
        account: consents.unwrap()[0].accounts[0].bank_account_id.clone(),
    }
}

async fn refresh(world: &World, linked: &Linked) {
    let clock = &world.environment.clock;
    clock.set(clock.now() + jiff::SignedDuration::from_secs(600));
    let body = json!({ "record_id": linked.record() });
    world.post("customers/retry", body).await.data();
    world.work().await;
}

fn spend(world: &World, place: &Place, amount: &str, text: &str) -> RowView {
    pay(world, place, amount, text, BookingStatus::Booked)
}

fn pay(world: &World, place: &Place, amount: &str, text: &str, status: BookingStatus) -> RowView {
    let new = NewTransaction {
        direction: Direction::Debit,
        amount: amount.to_owned(),
        text: text.to_owned(),
        status,
        dated: None,
        id: None,
    };
    world.bank.add(place.clone(), new).unwrap()
}

fn amend(world: &World, place: &Place, row: &RowView, text: &str) {
    let change = Amend {
        text: Some(text.to_owned()),
        amount: None,
        id: None,
    };
    world.bank.amend(place.clone(), row.row, change).unwrap();
}

/// What an app keeps: transactions by id, as their texts.
type Kept = BTreeMap<String, String>;

fn apply(kept: &mut Kept, page: &Value) {
    let list = |name: &str| page[name].as_array().unwrap().clone();
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let text = |row: &Value| row["notes"]["desc"].as_str().unwrap().to_owned();
    for row in list("removed") {
        assert!(kept.remove(&id(&row)).is_some(), "removed once: {row}");
    }
    for row in list("modified") {
        let before = kept.insert(id(&row), text(&row["transaction"]));
        assert!(before.is_some(), "modified where it was: {row}");
    }
    for row in list("added") {
        assert_eq!(kept.insert(id(&row), text(&row)), None, "added once");
    }
}

/// Reads on to the end and returns the cursor.
async fn read(
    world: &World,
    whose: &Value,
    cursor: Option<&str>,
    count: u32,
    kept: &mut Kept,
) -> String {
    let mut cursor = cursor.map(str::to_owned);
    for _ in 0..200 {
        let mut body = whose.clone();
        body["count"] = json!(count);
        body["cursor"] = json!(cursor);
        let page = world.post("feed/read", body).await.data();
        apply(kept, &page);
        let next = page["next_cursor"].as_str().unwrap().to_owned();
        assert!(next.len() <= 256, "{next}");
        cursor = Some(next.clone());
        if page["has_more"] == false {
            return next;
        }
    }
    panic!("no end");
}

async fn stored(world: &World, linked: &Linked) -> Kept {
    let body = json!({ "account": linked.account(), "limit": 1000 });
    let data = world.post("transactions/getByAccount", body).await.data();
    let rows = data["transaction"].as_array().unwrap().clone();
    rows.iter()
        .map(|row| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&row["id"]), text(&row["notes"]["desc"]))
        })
        .collect()
}

#[tokio::test]
async fn pages_are_frozen_while_refreshes_go_on() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let place = place(&world, &linked).await;
    let record = json!({ "record_id": linked.record() });
    let customer = json!({ "customer": linked.customer() });
    let (kept, gone) = (
        spend(&world, &place, "10.50", "KEPT"),
        spend(&world, &place, "11.50", "GONE"),
    );
    refresh(&world, &linked).await;

    // One page, then the world changes under the reader.
    let mut mine = Kept::new();
    let first = json!({ "record_id": linked.record(), "count": 5 });
    let page = world.post("feed/read", first).await.data();
    assert_eq!(page["has_more"], true);
    apply(&mut mine, &page);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    amend(&world, &place, &kept, "EDITED");
    world.bank.remove(place.clone(), gone.row).unwrap();
    let held = pay(&world, &place, "12.50", "LATE", BookingStatus::Pending);
    refresh(&world, &linked).await;
    let end = read(&world, &record, Some(&cursor), 3, &mut mine).await;
    assert_eq!(mine, stored(&world, &linked).await);
    assert!(mine.values().any(|text| text == "LATE"));
    assert!(!mine.values().any(|text| text == "GONE"));

    // From the beginning in one go, and by customer, it is the same.
    for whose in [&record, &customer] {
        for count in [1, 500] {
            let mut again = Kept::new();
            read(&world, whose, None, count, &mut again).await;
            assert_eq!(again, mine, "{whose} {count}");
        }
    }

    // At the end there is nothing, and what happens next is told with what it was before.
    let mut body = record.clone();
    body["cursor"] = json!(end);
    let empty = world.post("transactions/sync", body.clone()).await.data();
    assert_eq!(
        (&empty["added"], &empty["has_more"]),
        (&json!([]), &json!(false))
    );
    assert_eq!(empty["next_cursor"], json!(end));
    world
        .bank
        .book(place.clone(), held.row, Book::default())
        .unwrap();
    refresh(&world, &linked).await;
    let mut page = world.post("feed/read", body).await.data();
    let change = page["modified"][0].take();
    assert_eq!(change["replaces"], json!(held.transaction_id));
    assert_eq!(change["pending_transaction_id"], change["replaces"]);
    assert_eq!(change["before"]["pending"], true);
    insta::assert_json_snapshot!("modified", change);
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_says_what_to_do() {
    let world = World::new().await;
    let (linked, other) = (world.refreshed().await, world.refreshed().await);
    let record = json!({ "record_id": linked.record() });
    let cursor = read(&world, &record, None, 500, &mut Kept::new()).await;
    let check = async |key: Option<&str>, body: Value, kind: &str, says: &str| {
        let answer = match key {
            Some(key) => world.post_as(key, "feed/read", &body).await,
            None => world.post("feed/read", body).await,
        };
        let (got, message) = answer.refusal(StatusCode::BAD_REQUEST);
        assert_eq!(got, kind, "{message}");
        assert!(message.contains(says), "{message}");
    };
    for garbled in [
        "x",
        "AAAA",
        &cursor[1..],
        &format!("{cursor}A"),
        &"A".repeat(9000),
    ] {
        let body = json!({ "record_id": linked.record(), "cursor": garbled });
        check(None, body, "CURSOR_INVALID", "start again without one").await;
    }
    let foreign = json!({ "record_id": other.record(), "cursor": cursor });
    check(None, foreign, "CURSOR_FOREIGN", "answered for this one").await;
    let foreign = json!({ "customer": linked.customer(), "cursor": cursor });
    check(None, foreign, "CURSOR_FOREIGN", "answered for this one").await;
    check(None, json!({}), "VALIDATION", "record_id").await;
    // Another app does not get as far as its cursor.
    let theirs = json!({ "record_id": linked.record(), "cursor": cursor });
    let answer = world.post_as(OTHER_KEY, "feed/read", &theirs).await;
    answer.refusal(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_transaction_and_a_balance_are_shown_as_they_were() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let place = place(&world, &linked).await;
    let row = spend(&world, &place, "10.50", "FIRST");
    refresh(&world, &linked).await;
    let between = world.environment.clock.now() + jiff::SignedDuration::from_secs(300);
    amend(&world, &place, &row, "SECOND");
    refresh(&world, &linked).await;
    amend(&world, &place, &row, "THIRD");
    refresh(&world, &linked).await;
    let id = stored(&world, &linked).await;
    let (id, _) = id.into_iter().find(|(_, text)| text == "THIRD").unwrap();
    world.bank.remove(place.clone(), row.row).unwrap();
    refresh(&world, &linked).await;

    let mut versions = world
        .post("history/versions", json!({ "id": id }))
        .await
        .data();
    let list = versions["versions"].as_array().unwrap().clone();
    let seen: Vec<_> = list
        .iter()
        .map(|it| {
            (
                it["kind"].as_str().unwrap(),
                it["transaction"]["notes"]["desc"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("removed", None),
            ("modified", Some("THIRD")),
            ("modified", Some("SECOND")),
            ("added", Some("FIRST")),
        ]
    );
    assert_eq!(versions["complete"].take(), json!(true));
    let sequences: Vec<u64> = list
        .iter()
        .map(|it| it["sequence"].as_u64().unwrap())
        .collect();
    let part = json!({ "id": id, "limit": 1, "before": sequences[0] });
    let part = world.post("history/versions", part).await.data();
    assert_eq!(
        (&part["versions"][0], &part["complete"]),
        (&list[1], &json!(false))
    );

    let at = async |body: Value| {
        let data = world.post("history/transaction", body).await.data();
        data["transaction"]["notes"]["desc"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(
        at(json!({ "id": id, "sequence": sequences[0] })).await,
        None
    );
    assert_eq!(
        at(json!({ "id": id, "seq": sequences[0] - 1 }))
            .await
            .as_deref(),
        Some("THIRD")
    );
    assert_eq!(
        at(json!({ "id": id, "sequence": sequences[2] }))
            .await
            .as_deref(),
        Some("SECOND")
    );
    assert_eq!(
        at(json!({ "id": id, "at": between })).await.as_deref(),
        Some("FIRST")
    );
    let before = json!({ "id": id, "sequence": sequences[3] - 1 });
    world
        .post("history/transaction", before)
        .await
        .refusal(StatusCode::NOT_FOUND);
    let whose = world
        .post_as(OTHER_KEY, "history/versions", &json!({ "id": id }))
        .await;
    whose.refusal(StatusCode::NOT_FOUND);
    for body in [json!({ "id": id }), json!({ "id": id, "at": "yesterday" })] {
        world
            .post("history/transaction", body)
            .await
            .refusal(StatusCode::BAD_REQUEST);
    }

    // The balance moved with each payment.
    let store = &world.environment.store;
    let feed = store.feed(
        linked.record(),
        okra_core::ids::Seq::ZERO,
        1000,
        Consistency::Strong,
    );
    for entry in feed.await.unwrap() {
        let okra_core::feed::Change::Balance { after, .. } = entry.change else {
            continue;
        };
        let ledger = after.ledger.unwrap().to_number();
        for body in [json!({ "sequence": entry.seq }), json!({ "at": entry.at })] {
            let mut body = body;
            body["account"] = json!(linked.account());
            let past = world.post("history/balance", body).await.data();
            assert_eq!(past["ledger_balance"].to_string(), ledger);
            assert_eq!(past["sequence"], json!(entry.seq));
        }
    }
    let early = json!({ "account": linked.account(), "at": "2020-01-01T00:00:00Z" });
    world
        .post("history/balance", early)
        .await
        .refusal(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_customers_feed_is_that_of_all_their_records() {
    let world = World::new().await;
    let first = world.refreshed().await;
    let customer = json!({ "customer": first.customer() });
    let mut mine = Kept::new();
    let cursor = read(&world, &customer, None, 4, &mut mine).await;

    // A second record is linked after the cursor was given; the cursor covers it from its beginning.
    let login = NewLogin {
        history_rows: Some(7),
        ..NewLogin::default()
    };
    let login = world.bank.create_login(login).unwrap();
    let body = json!({
        "customer": first.customer(), "bank": BANK,
        "access_token": world.bank.link(login.id).unwrap().as_str(),
    });
    let second = Linked(world.post("records/link", body).await.data());
    world.work().await;
    let place = place(&world, &first).await;
    spend(&world, &place, "10.50", "OF THE FIRST");
    refresh(&world, &first).await;
    let cursor = read(&world, &customer, Some(&cursor), 3, &mut mine).await;
    let mut both = stored(&world, &first).await;
    both.extend(stored(&world, &second).await);
    assert_eq!(mine, both);

    let mut body = customer.clone();
    body["cursor"] = json!(cursor);
    let rest = world.post("feed/read", body).await.data();
    assert_eq!(
        (&rest["added"], &rest["has_more"]),
        (&json!([]), &json!(false))
    );
}
