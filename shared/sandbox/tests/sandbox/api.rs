//! What the bank's API answers, and how that changes with time and edits.

use std::collections::HashSet;

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use okra_core::model::{
    bank::BankStandard,
    snapshot::{BookingStatus, Direction},
};
use okra_sandbox::{
    BookingDetails, NewLogin, NewTransaction, RowAmendment, SandboxBank, SandboxOptions,
    ShownTransactionId,
};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{
    BOTH_STANDARDS, LoginClient, ManualClock, login_with_rows, parse_transactions, send_get,
    send_request,
};

fn login_with_interval(seconds: u32) -> NewLogin {
    NewLogin {
        row_interval_s: Some(seconds),
        ..login_with_rows(3)
    }
}

fn debit_transaction(amount: &str, text: &str) -> NewTransaction {
    NewTransaction {
        direction: Direction::Debit,
        amount: amount.to_owned(),
        text: text.to_owned(),
        status: BookingStatus::Booked,
        booking_time: None,
        id: None,
    }
}

#[tokio::test]
async fn the_versions_have_their_own_words() {
    let probe = LoginClient::with_options(
        SandboxOptions::default(),
        NewLogin {
            accounts: 2,
            ..login_with_rows(2)
        },
    );
    let pending = NewTransaction {
        status: BookingStatus::Pending,
        ..debit_transaction("1500.5", "POS PURCHASE")
    };
    let place = probe.account_address();
    probe.bank.add_row(place.clone(), pending).unwrap();
    for standard in BOTH_STANDARDS {
        for below in [
            String::new(),
            format!("/{}", place.account_id),
            format!("/{}/balances", place.account_id),
            format!("/{}/transactions", place.account_id),
        ] {
            let answer = probe.get_in_standard(standard, &below).await;
            assert_eq!(answer.status, StatusCode::OK);
            let name = format!("{standard:?}{}", below.replace('/', "_"));
            insta::assert_json_snapshot!(name, answer.parse_json());
        }
    }
}

#[tokio::test]
async fn the_same_seed_and_clock_give_the_same_bytes() {
    let play = async |seed| {
        let options = SandboxOptions {
            seed,
            row_interval_s: Some(60),
            ..SandboxOptions::default()
        };
        let probe = LoginClient::with_options(options, NewLogin::default());
        probe.manual_clock.advance_seconds(3_600);
        let place = probe.account_address();
        probe
            .bank
            .add_row(place, debit_transaction("12.50", "BY REQUEST"))
            .unwrap();
        let mut bytes = Vec::new();
        for below in ["", "/balances", "/transactions"] {
            bytes.push(probe.get_first_account(below).await.body.unwrap());
        }
        (probe.token, bytes)
    };
    assert_eq!(play(7).await, play(7).await);
    assert_ne!(play(7).await, play(8).await);
}

#[tokio::test]
async fn a_kept_answer_is_the_answer() {
    let options = |cache_bytes| SandboxOptions {
        cache_bytes,
        ..SandboxOptions::default()
    };
    let kept = LoginClient::with_options(options(1 << 20), login_with_interval(30));
    let fresh = LoginClient::with_options(options(0), login_with_interval(30));
    for step in 0..200 {
        for below in ["/balances", "/transactions"] {
            let one = kept.get_first_account(below).await.body;
            assert_eq!(one, kept.get_first_account(below).await.body);
            assert_eq!(
                one,
                fresh.get_first_account(below).await.body,
                "{below} at step {step}"
            );
        }
        for probe in [&kept, &fresh] {
            probe
                .manual_clock
                .advance_seconds(if step == 150 { -1_000 } else { 7 });
        }
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last_row() {
    let options = SandboxOptions {
        page_size: 7,
        ..SandboxOptions::default()
    };
    let probe = LoginClient::with_options(options, login_with_rows(45));
    let whole = probe.bank.list_rows(&probe.account_address()).unwrap();
    let mut listed = Vec::new();
    let mut pages = 0;
    let mut answer = probe.get_first_account("/transactions").await;
    loop {
        listed.extend(parse_transactions(&answer));
        pages += 1;
        let json = answer.parse_json();
        assert_eq!(json["Meta"]["TotalPages"], 7);
        assert_eq!(json["Links"].get("Prev").is_some(), pages > 1);
        let Some(next) = json["Links"]["Next"].as_str() else {
            break;
        };
        let path = next.strip_prefix("http://bank.test").unwrap();
        answer = send_get(&probe.bank.api_router(), path, Some(&probe.token)).await;
    }
    assert_eq!(pages, 7);
    let ids = |row: &Value| row["TransactionId"].as_str().map(str::to_owned);
    let expected: Vec<_> = whole.into_iter().map(|row| row.transaction_id).collect();
    assert_eq!(listed.iter().map(ids).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn links_lead_where_the_bank_is_known() {
    let options = SandboxOptions {
        page_size: 1,
        public_url: Some("https://bank.example/".to_owned()),
        ..SandboxOptions::default()
    };
    let probe = LoginClient::with_options(options, login_with_rows(2));
    let json = probe.get_first_account("/transactions").await.parse_json();
    for link in ["Self", "First", "Next", "Last"] {
        let link = json["Links"][link].as_str().unwrap();
        let start = "https://bank.example/open-banking/v3.1/aisp/accounts/";
        assert!(link.starts_with(start), "{link}");
    }
}

#[tokio::test]
async fn a_window_has_the_rows_of_its_dates() {
    let probe = LoginClient::with_options(SandboxOptions::default(), login_with_rows(100));
    let all = probe.list_transactions().await;
    let date = |row: &Value| row["BookingDateTime"].as_str().unwrap()[..10].to_owned();
    let (from, to) = ("2026-12-20", "2027-01-05");
    for query in [
        format!("fromBookingDateTime={from}&toBookingDateTime={to}T23:59:59"),
        format!("fromBookingDateTime={from}T00:00:00Z&toBookingDateTime={to}T23:59:59%2B00:00"),
        format!("fromBookingDateTime={from}T00:00:00+00:00&toBookingDateTime={to}T23:59:59Z"),
    ] {
        let answer = probe
            .get_first_account(&format!("/transactions?{query}"))
            .await;
        let expected: Vec<_> = all
            .iter()
            .filter(|row| (from..=to).contains(&date(row).as_str()))
            .cloned()
            .collect();
        assert!(expected.len() > 5 && expected.len() < all.len());
        assert_eq!(parse_transactions(&answer), expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_in_the_words_of_the_version() {
    let probe = LoginClient::with_ten_rows();
    let account = probe.account_address().account_id;
    let check = async |below: &str, token: Option<&str>, status, v3: &str, v4: &str| {
        for (standard, code) in [(BankStandard::Obie31, v3), (BankStandard::Obie40, v4)] {
            let path = format!("{}/accounts{below}", SandboxBank::base_path(standard));
            let answer = send_get(&probe.bank.api_router(), &path, token).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert_eq!(
                answer.parse_json()["Errors"][0]["ErrorCode"],
                code,
                "{path}"
            );
            assert!(answer.header_text("x-fapi-interaction-id").is_some());
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
    let probe = LoginClient::with_ten_rows();
    let request = Request::builder()
        .uri("/open-banking/v4.0/aisp/accounts")
        .header(header::AUTHORIZATION, format!("bearer {}", probe.token))
        .header(
            "x-fapi-interaction-id",
            "93bac548-d2de-4546-b106-880a5018460d",
        )
        .body(axum::body::Body::empty())
        .unwrap();
    let response = probe.bank.api_router().oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["x-fapi-interaction-id"],
        "93bac548-d2de-4546-b106-880a5018460d"
    );
    assert!(response.into_body().collect().await.is_ok());
    let first = probe.get_path("").await;
    let second = probe.get_path("").await;
    let id = "x-fapi-interaction-id";
    assert_ne!(
        first.header_text(id).unwrap(),
        second.header_text(id).unwrap()
    );
    let router = probe.bank.api_router();
    let path = "/open-banking/v3.1/aisp/accounts";
    let refused = send_request(&router, Method::POST, path, None, String::new()).await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(refused.header_text(id).is_some());
    assert_eq!(probe.bank.call_count(), 4);
}

#[tokio::test]
async fn a_card_payment_is_pending_for_a_minute_or_two_and_books_under_another_id() {
    let probe = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let before = probe.read_balances().await;
    probe.manual_clock.advance_seconds(60);
    let rows = probe.list_transactions().await;
    assert_eq!(rows.len(), 4);
    let pending = rows[0].clone();
    assert_eq!(pending["Status"], "Pending");
    assert_eq!(pending["TransactionMutability"], "Mutable");
    let (booked, available) = probe.read_balances().await;
    assert_eq!(booked, before.0);
    assert_ne!(available, before.1);
    probe.manual_clock.advance_seconds(120);
    let booked = probe.bank.list_rows(&probe.account_address()).unwrap();
    let booked = booked.iter().find(|row| row.row.to_string() == "l0");
    let booked = booked.unwrap();
    assert_eq!(booked.status, BookingStatus::Booked);
    assert_ne!(
        booked.transaction_id.as_deref(),
        pending["TransactionId"].as_str()
    );
    let rows = probe.list_transactions().await;
    let has = |id: &Value| rows.iter().any(|row| row["TransactionId"] == *id);
    assert!(!has(&pending["TransactionId"]));
    assert!(has(&booked.transaction_id.clone().into()));
}

#[tokio::test]
async fn every_pace_has_a_row_and_accounts_take_turns() {
    let login = NewLogin {
        accounts: 3,
        ..login_with_interval(60)
    };
    let probe = LoginClient::with_options(SandboxOptions::default(), login);
    let count = || {
        let login = probe.bank.find_login(probe.login).unwrap();
        let counts = login.accounts.iter().map(|account| {
            let mut place = probe.account_address();
            place.account_id.clone_from(&account.account_id);
            probe.bank.list_rows(&place).unwrap().len()
        });
        counts.sum::<usize>()
    };
    // A row falls into the middle half of its slot, and each account's slot is three minutes long.
    let start = count();
    probe.manual_clock.advance_seconds(45 * 60);
    let rows = count() - start;
    assert!((43..=46).contains(&rows), "{rows} rows in 45 minutes");
}

#[tokio::test]
async fn some_amounts_drift_when_they_are_booked() {
    let probe = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let mut pending = std::collections::HashMap::new();
    let (mut drifted, mut steady) = (0, 0);
    let mut booked = HashSet::new();
    for _ in 0..240 {
        probe.manual_clock.advance_seconds(30);
        for row in probe.bank.list_rows(&probe.account_address()).unwrap() {
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
    let probe = LoginClient::with_ten_rows();
    let place = probe.account_address();
    let minor = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let (booked, _) = probe.read_balances().await;
    let start = minor(&booked);
    let balances = async || {
        let (booked, available) = probe.read_balances().await;
        (minor(&booked) - start, minor(&available) - start)
    };
    let of = |rows: &[Value], id: &Option<String>| {
        let id = id.as_deref().unwrap();
        let row = rows.iter().find(|row| row["TransactionId"] == id);
        row.cloned()
    };

    let pending = NewTransaction {
        status: BookingStatus::Pending,
        ..debit_transaction("100.00", "HOLD")
    };
    let added = probe.bank.add_row(place.clone(), pending).unwrap();
    assert_eq!(balances().await, (0, -10_000));
    let how = BookingDetails {
        drift: 250,
        ..BookingDetails::default()
    };
    let booked = probe.bank.book_row(place.clone(), added.row, how).unwrap();
    assert_ne!(booked.transaction_id, added.transaction_id);
    assert_eq!(booked.amount, "102.50");
    assert_eq!(balances().await, (-10_250, -10_250));
    let again = probe
        .bank
        .book_row(place.clone(), added.row, BookingDetails::default());
    assert!(again.is_err());

    let change = RowAmendment {
        text: Some("CHANGED".to_owned()),
        amount: Some("1".to_owned()),
        id: None,
    };
    probe
        .bank
        .amend_row(place.clone(), added.row, change)
        .unwrap();
    assert_eq!(balances().await, (-100, -100));
    let rows = probe.list_transactions().await;
    let row = of(&rows, &booked.transaction_id).unwrap();
    assert_eq!(row["TransactionInformation"], "CHANGED");
    assert_eq!(row["Amount"]["Amount"], "1.00");

    probe.bank.remove_row(place.clone(), added.row).unwrap();
    assert_eq!(balances().await, (0, 0));
    let oldest = probe.bank.list_rows(&place).unwrap().pop().unwrap();
    probe.bank.remove_row(place.clone(), oldest.row).unwrap();
    let rows = probe.list_transactions().await;
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
        booking_time: Some("2026-12-01T10:00:00Z".parse().unwrap()),
        ..debit_transaction("5.00", "LATE")
    };
    let late = probe.bank.add_row(place.clone(), back_dated).unwrap();
    let row = of(&probe.list_transactions().await, &late.transaction_id).unwrap();
    assert_eq!(row["BookingDateTime"], "2026-12-01T10:00:00+00:00");
}

#[tokio::test]
async fn ids_can_be_missing_blank_and_given_twice() {
    let probe = LoginClient::with_ten_rows();
    let place = probe.account_address();
    let rows = probe.bank.list_rows(&place).unwrap();
    let twice = rows[5].transaction_id.clone().unwrap();
    for (row, id) in [
        (&rows[0], ShownTransactionId::Missing),
        (&rows[1], ShownTransactionId::Blank),
        (&rows[2], ShownTransactionId::Text(twice.clone())),
    ] {
        let change = RowAmendment {
            id: Some(id),
            ..RowAmendment::default()
        };
        probe
            .bank
            .amend_row(place.clone(), row.row, change)
            .unwrap();
    }
    let listed = probe.list_transactions().await;
    assert!(listed[0].get("TransactionId").is_none());
    assert_eq!(listed[1]["TransactionId"], "");
    assert_eq!(listed[2]["TransactionId"], twice.as_str());
    assert_eq!(listed[5]["TransactionId"], twice.as_str());
}

#[tokio::test]
async fn an_edited_pending_row_still_books_by_itself() {
    let probe = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let place = probe.account_address();
    probe.manual_clock.advance_seconds(50);
    let pending = probe.bank.list_rows(&place).unwrap().remove(0);
    assert_eq!(pending.status, BookingStatus::Pending);
    let change = RowAmendment {
        amount: Some("42".to_owned()),
        ..RowAmendment::default()
    };
    probe
        .bank
        .amend_row(place.clone(), pending.row, change)
        .unwrap();
    assert_eq!(probe.list_transactions().await[0]["Status"], "Pending");
    probe.manual_clock.advance_seconds(125);
    let rows = probe.bank.list_rows(&place).unwrap();
    let row = rows.iter().find(|row| row.row == pending.row).unwrap();
    assert_eq!(row.status, BookingStatus::Booked);
    assert_eq!(row.amount, "42.00");
    let listed = probe.list_transactions().await;
    let id = row.transaction_id.as_deref().unwrap();
    assert!(listed.iter().any(|row| row["TransactionId"] == id));
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let probe = LoginClient::with_ten_rows();
    let place = probe.account_address();
    for amount in ["", "-1", "12,50", "1.005", "1000000000.01", "1e3"] {
        let refused = probe
            .bank
            .add_row(place.clone(), debit_transaction(amount, ""));
        assert!(refused.is_err(), "{amount}");
    }
    assert!(
        probe
            .bank
            .add_row(place.clone(), debit_transaction("0", &"x".repeat(501)))
            .is_err()
    );
    let mut nowhere = place;
    nowhere.account_id.push('0');
    assert!(
        probe
            .bank
            .add_row(nowhere, debit_transaction("1", ""))
            .is_err()
    );
    for login in [
        NewLogin {
            accounts: 0,
            ..login_with_rows(1)
        },
        NewLogin {
            accounts: 6,
            ..login_with_rows(1)
        },
        NewLogin {
            history_days: 0,
            ..login_with_rows(1)
        },
        NewLogin {
            name: Some(String::new()),
            ..login_with_rows(1)
        },
        login_with_rows(20_001),
    ] {
        assert!(probe.bank.create_login(login).is_err());
    }
}

#[tokio::test]
async fn one_login_never_opens_another() {
    let hand = ManualClock::new();
    let bank = SandboxBank::in_memory(SandboxOptions::default(), hand.bank_clock());
    let one = LoginClient::for_bank(bank.clone(), hand.clone(), login_with_rows(2));
    let other = LoginClient::for_bank(bank, hand, login_with_rows(2));
    assert_ne!(one.token, other.token);
    let foreign = format!("/{}/balances", other.account_address().account_id);
    assert_eq!(one.get_path(&foreign).await.status, StatusCode::BAD_REQUEST);
    let listed = one.get_path("").await.parse_json();
    assert_eq!(listed["Data"]["Account"].as_array().unwrap().len(), 1);
}
