//! What the bank's API answers, and how that changes with time and edits.

use std::collections::HashSet;

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use okra_core::{
    bank::Standard,
    model::{BookingStatus, Direction},
};
use okra_sandbox::{Amend, Bank, Book, NewLogin, NewTransaction, Options, ShownId};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{BOTH, Hand, Probe, ask, rows, send, transactions};

fn paced(seconds: u32) -> NewLogin {
    NewLogin {
        pace_s: Some(seconds),
        ..rows(3)
    }
}

fn debit(amount: &str, text: &str) -> NewTransaction {
    NewTransaction {
        direction: Direction::Debit,
        amount: amount.to_owned(),
        text: text.to_owned(),
        status: BookingStatus::Booked,
        dated: None,
        id: None,
    }
}

#[tokio::test]
async fn the_versions_have_their_own_words() {
    let probe = Probe::new(
        Options::default(),
        NewLogin {
            accounts: 2,
            ..rows(2)
        },
    );
    let pending = NewTransaction {
        status: BookingStatus::Pending,
        ..debit("1500.5", "POS PURCHASE")
    };
    let place = probe.place();
    probe.bank.add(place.clone(), pending).unwrap();
    for standard in BOTH {
        for below in [
            String::new(),
            format!("/{}", place.account),
            format!("/{}/balances", place.account),
            format!("/{}/transactions", place.account),
        ] {
            let answer = probe.get_in(standard, &below).await;
            assert_eq!(answer.status, StatusCode::OK);
            let name = format!("{standard:?}{}", below.replace('/', "_"));
            insta::assert_json_snapshot!(name, answer.json());
        }
    }
}

#[tokio::test]
async fn the_same_seed_and_clock_give_the_same_bytes() {
    let play = async |seed| {
        let options = Options {
            seed,
            pace_s: Some(60),
            ..Options::default()
        };
        let probe = Probe::new(options, NewLogin::default());
        probe.hand.forward(3_600);
        let place = probe.place();
        probe.bank.add(place, debit("12.50", "BY REQUEST")).unwrap();
        let mut bytes = Vec::new();
        for below in ["", "/balances", "/transactions"] {
            bytes.push(probe.first(below).await.body.unwrap());
        }
        (probe.token, bytes)
    };
    assert_eq!(play(7).await, play(7).await);
    assert_ne!(play(7).await, play(8).await);
}

#[tokio::test]
async fn a_kept_answer_is_the_answer() {
    let options = |cache_bytes| Options {
        cache_bytes,
        ..Options::default()
    };
    let kept = Probe::new(options(1 << 20), paced(30));
    let fresh = Probe::new(options(0), paced(30));
    for step in 0..200 {
        for below in ["/balances", "/transactions"] {
            let one = kept.first(below).await.body;
            assert_eq!(one, kept.first(below).await.body);
            assert_eq!(one, fresh.first(below).await.body, "{below} at step {step}");
        }
        for probe in [&kept, &fresh] {
            probe.hand.forward(if step == 150 { -1_000 } else { 7 });
        }
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last_row() {
    let options = Options {
        page_size: 7,
        ..Options::default()
    };
    let probe = Probe::new(options, rows(45));
    let whole = probe.bank.rows(&probe.place()).unwrap();
    let mut listed = Vec::new();
    let mut pages = 0;
    let mut answer = probe.first("/transactions").await;
    loop {
        listed.extend(transactions(&answer));
        pages += 1;
        let json = answer.json();
        assert_eq!(json["Meta"]["TotalPages"], 7);
        assert_eq!(json["Links"].get("Prev").is_some(), pages > 1);
        let Some(next) = json["Links"]["Next"].as_str() else {
            break;
        };
        let path = next.strip_prefix("http://bank.test").unwrap();
        answer = ask(&probe.bank.router(), path, Some(&probe.token)).await;
    }
    assert_eq!(pages, 7);
    let ids = |row: &Value| row["TransactionId"].as_str().map(str::to_owned);
    let expected: Vec<_> = whole.into_iter().map(|row| row.transaction_id).collect();
    assert_eq!(listed.iter().map(ids).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn links_lead_where_the_bank_is_known() {
    let options = Options {
        page_size: 1,
        public_url: Some("https://bank.example/".to_owned()),
        ..Options::default()
    };
    let probe = Probe::new(options, rows(2));
    let json = probe.first("/transactions").await.json();
    for link in ["Self", "First", "Next", "Last"] {
        let link = json["Links"][link].as_str().unwrap();
        let start = "https://bank.example/open-banking/v3.1/aisp/accounts/";
        assert!(link.starts_with(start), "{link}");
    }
}

#[tokio::test]
async fn a_window_has_the_rows_of_its_dates() {
    let probe = Probe::new(Options::default(), rows(100));
    let all = probe.transactions().await;
    let date = |row: &Value| row["BookingDateTime"].as_str().unwrap()[..10].to_owned();
    let (from, to) = ("2026-12-20", "2027-01-05");
    for query in [
        format!("fromBookingDateTime={from}&toBookingDateTime={to}T23:59:59"),
        format!("fromBookingDateTime={from}T00:00:00Z&toBookingDateTime={to}T23:59:59%2B00:00"),
        format!("fromBookingDateTime={from}T00:00:00+00:00&toBookingDateTime={to}T23:59:59Z"),
    ] {
        let answer = probe.first(&format!("/transactions?{query}")).await;
        let expected: Vec<_> = all
            .iter()
            .filter(|row| (from..=to).contains(&date(row).as_str()))
            .cloned()
            .collect();
        assert!(expected.len() > 5 && expected.len() < all.len());
        assert_eq!(transactions(&answer), expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_in_the_words_of_the_version() {
    let probe = Probe::small();
    let account = probe.place().account;
    let check = async |below: &str, token: Option<&str>, status, v3: &str, v4: &str| {
        for (standard, code) in [(Standard::Obie31, v3), (Standard::Obie40, v4)] {
            let path = format!("{}/accounts{below}", Bank::base_path(standard));
            let answer = ask(&probe.bank.router(), &path, token).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert_eq!(answer.json()["Errors"][0]["ErrorCode"], code, "{path}");
            assert!(answer.header("x-fapi-interaction-id").is_some());
        }
    };
    let token = Some(probe.token.as_str());
    check("", None, 401, "UK.OBIE.Header.Missing", "U007").await;
    check("", Some("no"), 401, "UK.OBIE.Header.Invalid", "U006").await;
    let unknown = "UK.OBIE.Resource.NotFound";
    for below in ["/nobody", "/nobody/balances", "/nobody/transactions"] {
        check(below, token, 400, unknown, "U011").await;
    }
    let transactions = format!("/{account}/transactions");
    for query in ["fromBookingDateTime=soon", "toBookingDateTime=2027-02-30"] {
        let below = format!("{transactions}?{query}");
        check(&below, token, 400, "UK.OBIE.Field.InvalidDate", "U003").await;
    }
    let below = format!("{transactions}?page=2");
    check(&below, token, 400, "UK.OBIE.Field.Invalid", "U002").await;
}

#[tokio::test]
async fn an_interaction_id_comes_back() {
    let probe = Probe::small();
    let request = Request::builder()
        .uri("/open-banking/v4.0/aisp/accounts")
        .header(header::AUTHORIZATION, format!("bearer {}", probe.token))
        .header(
            "x-fapi-interaction-id",
            "93bac548-d2de-4546-b106-880a5018460d",
        )
        .body(axum::body::Body::empty())
        .unwrap();
    let response = probe.bank.router().oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["x-fapi-interaction-id"],
        "93bac548-d2de-4546-b106-880a5018460d"
    );
    assert!(response.into_body().collect().await.is_ok());
    let first = probe.get("").await;
    let second = probe.get("").await;
    let id = "x-fapi-interaction-id";
    assert_ne!(first.header(id).unwrap(), second.header(id).unwrap());
    let router = probe.bank.router();
    let path = "/open-banking/v3.1/aisp/accounts";
    let refused = send(&router, Method::POST, path, None, String::new()).await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(refused.header(id).is_some());
    assert_eq!(probe.bank.calls(), 4);
}

#[tokio::test]
async fn a_card_payment_is_pending_for_a_minute_or_two_and_books_under_another_id() {
    let probe = Probe::new(Options::default(), paced(60));
    let before = probe.balances().await;
    probe.hand.forward(60);
    let rows = probe.transactions().await;
    assert_eq!(rows.len(), 4);
    let pending = rows[0].clone();
    assert_eq!(pending["Status"], "Pending");
    assert_eq!(pending["TransactionMutability"], "Mutable");
    let (booked, available) = probe.balances().await;
    assert_eq!(booked, before.0);
    assert_ne!(available, before.1);
    probe.hand.forward(120);
    let booked = probe.bank.rows(&probe.place()).unwrap();
    let booked = booked.iter().find(|row| row.row.to_string() == "l0");
    let booked = booked.unwrap();
    assert_eq!(booked.status, BookingStatus::Booked);
    assert_ne!(
        booked.transaction_id.as_deref(),
        pending["TransactionId"].as_str()
    );
    let rows = probe.transactions().await;
    let has = |id: &Value| rows.iter().any(|row| row["TransactionId"] == *id);
    assert!(!has(&pending["TransactionId"]));
    assert!(has(&booked.transaction_id.clone().into()));
}

#[tokio::test]
async fn every_pace_has_a_row_and_accounts_take_turns() {
    let login = NewLogin {
        accounts: 3,
        ..paced(60)
    };
    let probe = Probe::new(Options::default(), login);
    let count = || {
        let login = probe.bank.login(probe.login).unwrap();
        let counts = login.accounts.iter().map(|account| {
            let mut place = probe.place();
            place.account.clone_from(&account.account_id);
            probe.bank.rows(&place).unwrap().len()
        });
        counts.sum::<usize>()
    };
    // A row falls into the middle half of its slot, and each account's slot is three minutes long.
    let start = count();
    probe.hand.forward(45 * 60);
    let rows = count() - start;
    assert!((43..=46).contains(&rows), "{rows} rows in 45 minutes");
}

#[tokio::test]
async fn some_amounts_drift_when_they_are_booked() {
    let probe = Probe::new(Options::default(), paced(60));
    let mut pending = std::collections::HashMap::new();
    let (mut drifted, mut steady) = (0, 0);
    let mut booked = HashSet::new();
    for _ in 0..240 {
        probe.hand.forward(30);
        for row in probe.bank.rows(&probe.place()).unwrap() {
            match (row.status, pending.get(&row.row)) {
                (BookingStatus::Pending, _) => {
                    pending.insert(row.row, row.amount);
                }
                (BookingStatus::Booked, Some(amount)) if booked.insert(row.row) => {
                    if *amount == row.amount {
                        steady += 1;
                    } else {
                        drifted += 1;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(
        drifted > 5 && steady > 5,
        "{drifted} drifted, {steady} steady"
    );
}

#[tokio::test]
async fn edits_move_the_list_and_the_balance() {
    let probe = Probe::small();
    let place = probe.place();
    let minor = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let (booked, _) = probe.balances().await;
    let start = minor(&booked);
    let balances = async || {
        let (booked, available) = probe.balances().await;
        (minor(&booked) - start, minor(&available) - start)
    };
    let of = |rows: &[Value], id: &Option<String>| {
        let id = id.as_deref().unwrap();
        let row = rows.iter().find(|row| row["TransactionId"] == id);
        row.cloned()
    };

    let pending = NewTransaction {
        status: BookingStatus::Pending,
        ..debit("100.00", "HOLD")
    };
    let added = probe.bank.add(place.clone(), pending).unwrap();
    assert_eq!(balances().await, (0, -10_000));
    let how = Book {
        drift: 250,
        ..Book::default()
    };
    let booked = probe.bank.book(place.clone(), added.row, how).unwrap();
    assert_ne!(booked.transaction_id, added.transaction_id);
    assert_eq!(booked.amount, "102.50");
    assert_eq!(balances().await, (-10_250, -10_250));
    let again = probe.bank.book(place.clone(), added.row, Book::default());
    assert!(again.is_err());

    let change = Amend {
        text: Some("CHANGED".to_owned()),
        amount: Some("1".to_owned()),
        id: None,
    };
    probe.bank.amend(place.clone(), added.row, change).unwrap();
    assert_eq!(balances().await, (-100, -100));
    let rows = probe.transactions().await;
    let row = of(&rows, &booked.transaction_id).unwrap();
    assert_eq!(row["TransactionInformation"], "CHANGED");
    assert_eq!(row["Amount"]["Amount"], "1.00");

    probe.bank.remove(place.clone(), added.row).unwrap();
    assert_eq!(balances().await, (0, 0));
    let oldest = probe.bank.rows(&place).unwrap().pop().unwrap();
    probe.bank.remove(place.clone(), oldest.row).unwrap();
    let rows = probe.transactions().await;
    assert_eq!(rows.len(), 9);
    assert!(of(&rows, &oldest.transaction_id).is_none());
    let sign = if oldest.direction == Direction::Debit {
        1
    } else {
        -1
    };
    let removed = sign * minor(&oldest.amount);
    assert_eq!(balances().await, (removed, removed));

    let back_dated = NewTransaction {
        dated: Some("2026-12-01T10:00:00Z".parse().unwrap()),
        ..debit("5.00", "LATE")
    };
    let late = probe.bank.add(place.clone(), back_dated).unwrap();
    let row = of(&probe.transactions().await, &late.transaction_id).unwrap();
    assert_eq!(row["BookingDateTime"], "2026-12-01T10:00:00+00:00");
}

#[tokio::test]
async fn ids_can_be_missing_blank_and_given_twice() {
    let probe = Probe::small();
    let place = probe.place();
    let rows = probe.bank.rows(&place).unwrap();
    let twice = rows[5].transaction_id.clone().unwrap();
    for (row, id) in [
        (&rows[0], ShownId::Missing),
        (&rows[1], ShownId::Blank),
        (&rows[2], ShownId::Is(twice.clone())),
    ] {
        let change = Amend {
            id: Some(id),
            ..Amend::default()
        };
        probe.bank.amend(place.clone(), row.row, change).unwrap();
    }
    let listed = probe.transactions().await;
    assert!(listed[0].get("TransactionId").is_none());
    assert_eq!(listed[1]["TransactionId"], "");
    assert_eq!(listed[2]["TransactionId"], twice.as_str());
    assert_eq!(listed[5]["TransactionId"], twice.as_str());
}

#[tokio::test]
async fn an_edited_pending_row_still_books_by_itself() {
    let probe = Probe::new(Options::default(), paced(60));
    let place = probe.place();
    probe.hand.forward(50);
    let pending = probe.bank.rows(&place).unwrap().remove(0);
    assert_eq!(pending.status, BookingStatus::Pending);
    let change = Amend {
        amount: Some("42".to_owned()),
        ..Amend::default()
    };
    probe
        .bank
        .amend(place.clone(), pending.row, change)
        .unwrap();
    assert_eq!(probe.transactions().await[0]["Status"], "Pending");
    probe.hand.forward(125);
    let rows = probe.bank.rows(&place).unwrap();
    let row = rows.iter().find(|row| row.row == pending.row).unwrap();
    assert_eq!(row.status, BookingStatus::Booked);
    assert_eq!(row.amount, "42.00");
    let listed = probe.transactions().await;
    let id = row.transaction_id.as_deref().unwrap();
    assert!(listed.iter().any(|row| row["TransactionId"] == id));
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let probe = Probe::small();
    let place = probe.place();
    for amount in ["", "-1", "12,50", "1.005", "1000000000.01", "1e3"] {
        let refused = probe.bank.add(place.clone(), debit(amount, ""));
        assert!(refused.is_err(), "{amount}");
    }
    assert!(
        probe
            .bank
            .add(place.clone(), debit("0", &"x".repeat(501)))
            .is_err()
    );
    let mut nowhere = place;
    nowhere.account.push('0');
    assert!(probe.bank.add(nowhere, debit("1", "")).is_err());
    for login in [
        NewLogin {
            accounts: 0,
            ..rows(1)
        },
        NewLogin {
            accounts: 6,
            ..rows(1)
        },
        NewLogin {
            history_days: 0,
            ..rows(1)
        },
        NewLogin {
            name: Some(String::new()),
            ..rows(1)
        },
        rows(20_001),
    ] {
        assert!(probe.bank.create_login(login).is_err());
    }
}

#[tokio::test]
async fn one_login_never_opens_another() {
    let hand = Hand::new();
    let bank = Bank::memory(Options::default(), hand.clock());
    let one = Probe::on(bank.clone(), hand.clone(), rows(2));
    let other = Probe::on(bank, hand, rows(2));
    assert_ne!(one.token, other.token);
    let foreign = format!("/{}/balances", other.place().account);
    assert_eq!(one.get(&foreign).await.status, StatusCode::BAD_REQUEST);
    let listed = one.get("").await.json();
    assert_eq!(listed["Data"]["Account"].as_array().unwrap().len(), 1);
}
