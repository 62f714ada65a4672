//! What the bank's API responds with, and how that changes with time and edits.

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
async fn each_version_has_its_own_codes() {
    let client = LoginClient::with_options(
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
    let address = client.account_address();
    client.bank.add_row(address.clone(), pending).unwrap();
    for standard in BOTH_STANDARDS {
        for below in [
            String::new(),
            format!("/{}", address.account_id),
            format!("/{}/balances", address.account_id),
            format!("/{}/transactions", address.account_id),
        ] {
            let response = client.get_in_standard(standard, &below).await;
            assert_eq!(response.status, StatusCode::OK);
            let name = format!("{standard:?}{}", below.replace('/', "_"));
            insta::assert_json_snapshot!(name, response.parse_json());
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
        let client = LoginClient::with_options(options, NewLogin::default());
        client.manual_clock.advance_seconds(3_600);
        let address = client.account_address();
        client
            .bank
            .add_row(address, debit_transaction("12.50", "BY REQUEST"))
            .unwrap();
        let mut bytes = Vec::new();
        for below in ["", "/balances", "/transactions"] {
            bytes.push(client.get_first_account(below).await.body.unwrap());
        }
        (client.token, bytes)
    };
    assert_eq!(play(7).await, play(7).await);
    assert_ne!(play(7).await, play(8).await);
}

#[tokio::test]
async fn a_cached_response_equals_a_fresh_one() {
    let options = |cache_bytes| SandboxOptions {
        cache_bytes,
        ..SandboxOptions::default()
    };
    let cached = LoginClient::with_options(options(1 << 20), login_with_interval(30));
    let fresh = LoginClient::with_options(options(0), login_with_interval(30));
    for step in 0..200 {
        for below in ["/balances", "/transactions"] {
            let one = cached.get_first_account(below).await.body;
            assert_eq!(one, cached.get_first_account(below).await.body);
            assert_eq!(
                one,
                fresh.get_first_account(below).await.body,
                "{below} at step {step}"
            );
        }
        for client in [&cached, &fresh] {
            client
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
    let client = LoginClient::with_options(options, login_with_rows(45));
    let whole = client.bank.list_rows(&client.account_address()).unwrap();
    let mut listed = Vec::new();
    let mut pages = 0;
    let mut response = client.get_first_account("/transactions").await;
    loop {
        listed.extend(parse_transactions(&response));
        pages += 1;
        let json = response.parse_json();
        assert_eq!(json["Meta"]["TotalPages"], 7);
        assert_eq!(json["Links"].get("Prev").is_some(), pages > 1);
        let Some(next) = json["Links"]["Next"].as_str() else {
            break;
        };
        let path = next.strip_prefix("http://bank.test").unwrap();
        response = send_get(&client.bank.api_router(), path, Some(&client.token)).await;
    }
    assert_eq!(pages, 7);
    let ids = |row: &Value| row["TransactionId"].as_str().map(str::to_owned);
    let expected: Vec<_> = whole.into_iter().map(|row| row.transaction_id).collect();
    assert_eq!(listed.iter().map(ids).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn links_lead_to_the_public_url() {
    let options = SandboxOptions {
        page_size: 1,
        public_url: Some("https://bank.example/".to_owned()),
        ..SandboxOptions::default()
    };
    let client = LoginClient::with_options(options, login_with_rows(2));
    let json = client.get_first_account("/transactions").await.parse_json();
    for link in ["Self", "First", "Next", "Last"] {
        let link = json["Links"][link].as_str().unwrap();
        let start = "https://bank.example/open-banking/v3.1/aisp/accounts/";
        assert!(link.starts_with(start), "{link}");
    }
}

#[tokio::test]
async fn a_window_has_the_rows_of_its_dates() {
    let client = LoginClient::with_options(SandboxOptions::default(), login_with_rows(100));
    let all = client.list_transactions().await;
    let date = |row: &Value| row["BookingDateTime"].as_str().unwrap()[..10].to_owned();
    let (from, to) = ("2026-12-20", "2027-01-05");
    for query in [
        format!("fromBookingDateTime={from}&toBookingDateTime={to}T23:59:59"),
        format!("fromBookingDateTime={from}T00:00:00Z&toBookingDateTime={to}T23:59:59%2B00:00"),
        format!("fromBookingDateTime={from}T00:00:00+00:00&toBookingDateTime={to}T23:59:59Z"),
    ] {
        let response = client
            .get_first_account(&format!("/transactions?{query}"))
            .await;
        let expected: Vec<_> = all
            .iter()
            .filter(|row| (from..=to).contains(&date(row).as_str()))
            .cloned()
            .collect();
        assert!(expected.len() > 5 && expected.len() < all.len());
        assert_eq!(parse_transactions(&response), expected, "{query}");
    }
}

#[tokio::test]
async fn errors_have_the_codes_of_the_version() {
    let client = LoginClient::with_ten_rows();
    let account = client.account_address().account_id;
    let check = async |below: &str, token: Option<&str>, status, v3: &str, v4: &str| {
        for (standard, code) in [(BankStandard::Obie31, v3), (BankStandard::Obie40, v4)] {
            let path = format!("{}/accounts{below}", SandboxBank::base_path(standard));
            let response = send_get(&client.bank.api_router(), &path, token).await;
            assert_eq!(response.status.as_u16(), status, "{path}");
            assert_eq!(
                response.parse_json()["Errors"][0]["ErrorCode"],
                code,
                "{path}"
            );
            assert!(response.header_text("x-fapi-interaction-id").is_some());
        }
    };
    let token = Some(client.token.as_str());
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
async fn an_interaction_id_is_returned() {
    let client = LoginClient::with_ten_rows();
    let request = Request::builder()
        .uri("/open-banking/v4.0/aisp/accounts")
        .header(header::AUTHORIZATION, format!("bearer {}", client.token))
        .header(
            "x-fapi-interaction-id",
            "93bac548-d2de-4546-b106-880a5018460d",
        )
        .body(axum::body::Body::empty())
        .unwrap();
    let response = client.bank.api_router().oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["x-fapi-interaction-id"],
        "93bac548-d2de-4546-b106-880a5018460d"
    );
    assert!(response.into_body().collect().await.is_ok());
    let first = client.get_path("").await;
    let second = client.get_path("").await;
    let id = "x-fapi-interaction-id";
    assert_ne!(
        first.header_text(id).unwrap(),
        second.header_text(id).unwrap()
    );
    let router = client.bank.api_router();
    let path = "/open-banking/v3.1/aisp/accounts";
    let rejected = send_request(&router, Method::POST, path, None, String::new()).await;
    assert_eq!(rejected.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(rejected.header_text(id).is_some());
    assert_eq!(client.bank.call_count(), 4);
}

#[tokio::test]
async fn a_card_payment_is_pending_for_a_minute_or_two_and_books_under_another_id() {
    let client = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let before = client.read_balances().await;
    client.manual_clock.advance_seconds(60);
    let rows = client.list_transactions().await;
    assert_eq!(rows.len(), 4);
    let pending = rows[0].clone();
    assert_eq!(pending["Status"], "Pending");
    assert_eq!(pending["TransactionMutability"], "Mutable");
    let (booked, available) = client.read_balances().await;
    assert_eq!(booked, before.0);
    assert_ne!(available, before.1);
    client.manual_clock.advance_seconds(120);
    let booked = client.bank.list_rows(&client.account_address()).unwrap();
    let booked = booked.iter().find(|row| row.row.to_string() == "l0");
    let booked = booked.unwrap();
    assert_eq!(booked.status, BookingStatus::Booked);
    assert_ne!(
        booked.transaction_id.as_deref(),
        pending["TransactionId"].as_str()
    );
    let rows = client.list_transactions().await;
    let has = |id: &Value| rows.iter().any(|row| row["TransactionId"] == *id);
    assert!(!has(&pending["TransactionId"]));
    assert!(has(&booked.transaction_id.clone().into()));
}

#[tokio::test]
async fn every_interval_has_a_row_and_accounts_rotate() {
    let login = NewLogin {
        accounts: 3,
        ..login_with_interval(60)
    };
    let client = LoginClient::with_options(SandboxOptions::default(), login);
    let count = || {
        let login = client.bank.find_login(client.login).unwrap();
        let counts = login.accounts.iter().map(|account| {
            let mut address = client.account_address();
            address.account_id.clone_from(&account.account_id);
            client.bank.list_rows(&address).unwrap().len()
        });
        counts.sum::<usize>()
    };
    // A row falls into the middle half of its slot, and each account's slot is three minutes long.
    let start = count();
    client.manual_clock.advance_seconds(45 * 60);
    let rows = count() - start;
    assert!((43..=46).contains(&rows), "{rows} rows in 45 minutes");
}

#[tokio::test]
async fn some_amounts_drift_when_they_are_booked() {
    let client = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let mut pending = std::collections::HashMap::new();
    let (mut drifted, mut steady) = (0, 0);
    let mut booked = HashSet::new();
    for _ in 0..240 {
        client.manual_clock.advance_seconds(30);
        for row in client.bank.list_rows(&client.account_address()).unwrap() {
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
async fn edits_change_the_list_and_the_balance() {
    let client = LoginClient::with_ten_rows();
    let address = client.account_address();
    let minor = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let (booked, _) = client.read_balances().await;
    let start = minor(&booked);
    let balances = async || {
        let (booked, available) = client.read_balances().await;
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
    let added = client.bank.add_row(address.clone(), pending).unwrap();
    assert_eq!(balances().await, (0, -10_000));
    let how = BookingDetails {
        drift: 250,
        ..BookingDetails::default()
    };
    let booked = client
        .bank
        .book_row(address.clone(), added.row, how)
        .unwrap();
    assert_ne!(booked.transaction_id, added.transaction_id);
    assert_eq!(booked.amount, "102.50");
    assert_eq!(balances().await, (-10_250, -10_250));
    let again = client
        .bank
        .book_row(address.clone(), added.row, BookingDetails::default());
    assert!(again.is_err());

    let change = RowAmendment {
        text: Some("CHANGED".to_owned()),
        amount: Some("1".to_owned()),
        id: None,
    };
    client
        .bank
        .amend_row(address.clone(), added.row, change)
        .unwrap();
    assert_eq!(balances().await, (-100, -100));
    let rows = client.list_transactions().await;
    let row = of(&rows, &booked.transaction_id).unwrap();
    assert_eq!(row["TransactionInformation"], "CHANGED");
    assert_eq!(row["Amount"]["Amount"], "1.00");

    client.bank.remove_row(address.clone(), added.row).unwrap();
    assert_eq!(balances().await, (0, 0));
    let oldest = client.bank.list_rows(&address).unwrap().pop().unwrap();
    client.bank.remove_row(address.clone(), oldest.row).unwrap();
    let rows = client.list_transactions().await;
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
    let late = client.bank.add_row(address.clone(), back_dated).unwrap();
    let row = of(&client.list_transactions().await, &late.transaction_id).unwrap();
    assert_eq!(row["BookingDateTime"], "2026-12-01T10:00:00+00:00");
}

#[tokio::test]
async fn ids_can_be_missing_blank_and_given_twice() {
    let client = LoginClient::with_ten_rows();
    let address = client.account_address();
    let rows = client.bank.list_rows(&address).unwrap();
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
        client
            .bank
            .amend_row(address.clone(), row.row, change)
            .unwrap();
    }
    let listed = client.list_transactions().await;
    assert!(listed[0].get("TransactionId").is_none());
    assert_eq!(listed[1]["TransactionId"], "");
    assert_eq!(listed[2]["TransactionId"], twice.as_str());
    assert_eq!(listed[5]["TransactionId"], twice.as_str());
}

#[tokio::test]
async fn an_edited_pending_row_still_books_by_itself() {
    let client = LoginClient::with_options(SandboxOptions::default(), login_with_interval(60));
    let address = client.account_address();
    client.manual_clock.advance_seconds(50);
    let pending = client.bank.list_rows(&address).unwrap().remove(0);
    assert_eq!(pending.status, BookingStatus::Pending);
    let change = RowAmendment {
        amount: Some("42".to_owned()),
        ..RowAmendment::default()
    };
    client
        .bank
        .amend_row(address.clone(), pending.row, change)
        .unwrap();
    assert_eq!(client.list_transactions().await[0]["Status"], "Pending");
    client.manual_clock.advance_seconds(125);
    let rows = client.bank.list_rows(&address).unwrap();
    let row = rows.iter().find(|row| row.row == pending.row).unwrap();
    assert_eq!(row.status, BookingStatus::Booked);
    assert_eq!(row.amount, "42.00");
    let listed = client.list_transactions().await;
    let id = row.transaction_id.as_deref().unwrap();
    assert!(listed.iter().any(|row| row["TransactionId"] == id));
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let client = LoginClient::with_ten_rows();
    let address = client.account_address();
    for amount in ["", "-1", "12,50", "1.005", "1000000000.01", "1e3"] {
        let rejected = client
            .bank
            .add_row(address.clone(), debit_transaction(amount, ""));
        assert!(rejected.is_err(), "{amount}");
    }
    assert!(
        client
            .bank
            .add_row(address.clone(), debit_transaction("0", &"x".repeat(501)))
            .is_err()
    );
    let mut nowhere = address;
    nowhere.account_id.push('0');
    assert!(
        client
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
        assert!(client.bank.create_login(login).is_err());
    }
}

#[tokio::test]
async fn one_login_never_opens_another() {
    let manual_clock = ManualClock::new();
    let bank = SandboxBank::in_memory(SandboxOptions::default(), manual_clock.bank_clock());
    let one = LoginClient::for_bank(bank.clone(), manual_clock.clone(), login_with_rows(2));
    let other = LoginClient::for_bank(bank, manual_clock, login_with_rows(2));
    assert_ne!(one.token, other.token);
    let foreign = format!("/{}/balances", other.account_address().account_id);
    assert_eq!(one.get_path(&foreign).await.status, StatusCode::BAD_REQUEST);
    let listed = one.get_path("").await.parse_json();
    assert_eq!(listed["Data"]["Account"].as_array().unwrap().len(), 1);
}
