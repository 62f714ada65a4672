//! The change feed and history, as an app reads them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use okra_core::model::snapshot::{BookingStatus, Direction};
use okra_sandbox::{
    AccountAddress, BookingDetails, NewLogin, NewTransaction, RowAmendment, RowView,
};
use okra_store::Consistency;
use serde_json::{Value, json};

use crate::world::{ApiWorld, BANK, LinkedCustomer, OTHER_KEY};

/// The account of the login that was made last.
async fn last_account(world: &ApiWorld, linked: &LinkedCustomer) -> AccountAddress {
    let consents = world
        .environment
        .store
        .load_consents(&[linked.record_id()])
        .await;
    AccountAddress {
        login: world.last_login(),
        account_id: consents.unwrap()[0].accounts[0].bank_account_id.clone(),
    }
}

async fn refresh_record(world: &ApiWorld, linked: &LinkedCustomer) {
    let clock = &world.environment.clock;
    clock.set_time(clock.now() + jiff::SignedDuration::from_secs(600));
    let body = json!({ "record_id": linked.record_id() });
    world
        .post_json("customers/retry", body)
        .await
        .success_data();
    world.process_chunks().await;
}

fn spend_amount(world: &ApiWorld, place: &AccountAddress, amount: &str, text: &str) -> RowView {
    pay_amount(world, place, amount, text, BookingStatus::Booked)
}

fn pay_amount(
    world: &ApiWorld,
    place: &AccountAddress,
    amount: &str,
    text: &str,
    status: BookingStatus,
) -> RowView {
    let new = NewTransaction {
        direction: Direction::Debit,
        amount: amount.to_owned(),
        text: text.to_owned(),
        status,
        booking_time: None,
        id: None,
    };
    world.bank.add_row(place.clone(), new).unwrap()
}

fn amend_row(world: &ApiWorld, place: &AccountAddress, row: &RowView, text: &str) {
    let change = RowAmendment {
        text: Some(text.to_owned()),
        amount: None,
        id: None,
    };
    world
        .bank
        .amend_row(place.clone(), row.row, change)
        .unwrap();
}

/// What an app keeps: transactions by id, as their texts.
type AppCopy = BTreeMap<String, String>;

fn apply_page(copy: &mut AppCopy, page: &Value) {
    let list = |name: &str| page[name].as_array().unwrap().clone();
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let text = |row: &Value| row["notes"]["desc"].as_str().unwrap().to_owned();
    for row in list("removed") {
        assert!(copy.remove(&id(&row)).is_some(), "removed once: {row}");
    }
    for row in list("modified") {
        let before = copy.insert(id(&row), text(&row["transaction"]));
        assert!(before.is_some(), "modified where it was: {row}");
    }
    for row in list("added") {
        assert_eq!(copy.insert(id(&row), text(&row)), None, "added once");
    }
}

/// Reads on to the end and returns the cursor.
async fn read_to_end(
    world: &ApiWorld,
    whose: &Value,
    cursor: Option<&str>,
    count: u32,
    kept: &mut AppCopy,
) -> String {
    let mut cursor = cursor.map(str::to_owned);
    for _ in 0..200 {
        let mut body = whose.clone();
        body["count"] = json!(count);
        body["cursor"] = json!(cursor);
        let page = world.post_json("feed/read", body).await.success_data();
        apply_page(kept, &page);
        let next = page["next_cursor"].as_str().unwrap().to_owned();
        assert!(next.len() <= 256, "{next}");
        cursor = Some(next.clone());
        if page["has_more"] == false {
            return next;
        }
    }
    panic!("no end");
}

async fn read_stored(world: &ApiWorld, linked: &LinkedCustomer) -> AppCopy {
    let body = json!({ "account": linked.account_id(), "limit": 1000 });
    let data = world
        .post_json("transactions/getByAccount", body)
        .await
        .success_data();
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
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let place = last_account(&world, &linked).await;
    let record = json!({ "record_id": linked.record_id() });
    let customer = json!({ "customer": linked.customer_id() });
    let (kept, gone) = (
        spend_amount(&world, &place, "10.50", "KEPT"),
        spend_amount(&world, &place, "11.50", "GONE"),
    );
    refresh_record(&world, &linked).await;

    // One page, then the world changes under the reader.
    let mut mine = AppCopy::new();
    let first = json!({ "record_id": linked.record_id(), "count": 5 });
    let page = world.post_json("feed/read", first).await.success_data();
    assert_eq!(page["has_more"], true);
    apply_page(&mut mine, &page);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    amend_row(&world, &place, &kept, "EDITED");
    world.bank.remove_row(place.clone(), gone.row).unwrap();
    let held = pay_amount(&world, &place, "12.50", "LATE", BookingStatus::Pending);
    refresh_record(&world, &linked).await;
    let end = read_to_end(&world, &record, Some(&cursor), 3, &mut mine).await;
    assert_eq!(mine, read_stored(&world, &linked).await);
    assert!(mine.values().any(|text| text == "LATE"));
    assert!(!mine.values().any(|text| text == "GONE"));

    // From the beginning in one go, and by customer, it is the same.
    for whose in [&record, &customer] {
        for count in [1, 500] {
            let mut again = AppCopy::new();
            read_to_end(&world, whose, None, count, &mut again).await;
            assert_eq!(again, mine, "{whose} {count}");
        }
    }

    // At the end there is nothing, and what happens next is told with what it was before.
    let mut body = record.clone();
    body["cursor"] = json!(end);
    let empty = world
        .post_json("transactions/sync", body.clone())
        .await
        .success_data();
    assert_eq!(
        (&empty["added"], &empty["has_more"]),
        (&json!([]), &json!(false))
    );
    assert_eq!(empty["next_cursor"], json!(end));
    world
        .bank
        .book_row(place.clone(), held.row, BookingDetails::default())
        .unwrap();
    refresh_record(&world, &linked).await;
    let mut page = world.post_json("feed/read", body).await.success_data();
    let change = page["modified"][0].take();
    assert_eq!(change["replaces"], json!(held.transaction_id));
    assert_eq!(change["pending_transaction_id"], change["replaces"]);
    assert_eq!(change["before"]["pending"], true);
    insta::assert_json_snapshot!("modified", change);
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_says_what_to_do() {
    let world = ApiWorld::new().await;
    let (linked, other) = (
        world.create_refreshed().await,
        world.create_refreshed().await,
    );
    let record = json!({ "record_id": linked.record_id() });
    let cursor = read_to_end(&world, &record, None, 500, &mut AppCopy::new()).await;
    let check = async |key: Option<&str>, body: Value, kind: &str, says: &str| {
        let answer = match key {
            Some(key) => world.post_as(key, "feed/read", &body).await,
            None => world.post_json("feed/read", body).await,
        };
        let (got, message) = answer.expect_error(StatusCode::BAD_REQUEST);
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
        let body = json!({ "record_id": linked.record_id(), "cursor": garbled });
        check(None, body, "CURSOR_INVALID", "start again without a cursor").await;
    }
    let foreign = json!({ "record_id": other.record_id(), "cursor": cursor });
    check(None, foreign, "CURSOR_FOREIGN", "returned for this one").await;
    let foreign = json!({ "customer": linked.customer_id(), "cursor": cursor });
    check(None, foreign, "CURSOR_FOREIGN", "returned for this one").await;
    check(None, json!({}), "VALIDATION", "record_id").await;
    // Another app does not get as far as its cursor.
    let theirs = json!({ "record_id": linked.record_id(), "cursor": cursor });
    let answer = world.post_as(OTHER_KEY, "feed/read", &theirs).await;
    answer.expect_error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_transaction_and_a_balance_are_shown_as_they_were() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let place = last_account(&world, &linked).await;
    let row = spend_amount(&world, &place, "10.50", "FIRST");
    refresh_record(&world, &linked).await;
    let between = world.environment.clock.now() + jiff::SignedDuration::from_secs(300);
    amend_row(&world, &place, &row, "SECOND");
    refresh_record(&world, &linked).await;
    amend_row(&world, &place, &row, "THIRD");
    refresh_record(&world, &linked).await;
    let id = read_stored(&world, &linked).await;
    let (id, _) = id.into_iter().find(|(_, text)| text == "THIRD").unwrap();
    world.bank.remove_row(place.clone(), row.row).unwrap();
    refresh_record(&world, &linked).await;

    let mut versions = world
        .post_json("history/versions", json!({ "id": id }))
        .await
        .success_data();
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
    let part = world
        .post_json("history/versions", part)
        .await
        .success_data();
    assert_eq!(
        (&part["versions"][0], &part["complete"]),
        (&list[1], &json!(false))
    );

    let at = async |body: Value| {
        let data = world
            .post_json("history/transaction", body)
            .await
            .success_data();
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
        .post_json("history/transaction", before)
        .await
        .expect_error(StatusCode::NOT_FOUND);
    let whose = world
        .post_as(OTHER_KEY, "history/versions", &json!({ "id": id }))
        .await;
    whose.expect_error(StatusCode::NOT_FOUND);
    for body in [json!({ "id": id }), json!({ "id": id, "at": "yesterday" })] {
        world
            .post_json("history/transaction", body)
            .await
            .expect_error(StatusCode::BAD_REQUEST);
    }

    // The balance moved with each payment.
    let store = &world.environment.store;
    let feed = store.read_feed(
        linked.record_id(),
        okra_core::model::ids::Seq::ZERO,
        1000,
        Consistency::Strong,
    );
    for entry in feed.await.unwrap() {
        let okra_core::sync::feed::Change::Balance { after, .. } = entry.change else {
            continue;
        };
        let ledger = after.ledger.unwrap().to_number();
        for body in [
            json!({ "sequence": entry.seq }),
            json!({ "at": entry.committed_at }),
        ] {
            let mut body = body;
            body["account"] = json!(linked.account_id());
            let past = world
                .post_json("history/balance", body)
                .await
                .success_data();
            assert_eq!(past["ledger_balance"].to_string(), ledger);
            assert_eq!(past["sequence"], json!(entry.seq));
        }
    }
    let early = json!({ "account": linked.account_id(), "at": "2020-01-01T00:00:00Z" });
    world
        .post_json("history/balance", early)
        .await
        .expect_error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_customers_feed_is_that_of_all_their_records() {
    let world = ApiWorld::new().await;
    let first = world.create_refreshed().await;
    let customer = json!({ "customer": first.customer_id() });
    let mut mine = AppCopy::new();
    let cursor = read_to_end(&world, &customer, None, 4, &mut mine).await;

    // A second record is linked after the cursor was given; the cursor covers it from its beginning.
    let login = NewLogin {
        history_rows: Some(7),
        ..NewLogin::default()
    };
    let login = world.bank.create_login(login).unwrap();
    let body = json!({
        "customer": first.customer_id(), "bank": BANK,
        "access_token": world.bank.link_login(login.id).unwrap().as_str(),
    });
    let second = LinkedCustomer(world.post_json("records/link", body).await.success_data());
    world.process_chunks().await;
    let place = last_account(&world, &first).await;
    spend_amount(&world, &place, "10.50", "OF THE FIRST");
    refresh_record(&world, &first).await;
    let cursor = read_to_end(&world, &customer, Some(&cursor), 3, &mut mine).await;
    let mut both = read_stored(&world, &first).await;
    both.extend(read_stored(&world, &second).await);
    assert_eq!(mine, both);

    let mut body = customer.clone();
    body["cursor"] = json!(cursor);
    let rest = world.post_json("feed/read", body).await.success_data();
    assert_eq!(
        (&rest["added"], &rest["has_more"]),
        (&json!([]), &json!(false))
    );
}
