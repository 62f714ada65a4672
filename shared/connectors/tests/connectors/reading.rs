//! Reading accounts, balances and transactions from banks that behave and from banks that do not: pages, deadlines,
//! caps, and the class of each fault.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::response::Response;
use okra_core::model::{
    bank::BankLimits,
    fault::{BankFault, FaultClass},
    snapshot::{Product, TransactionWindow},
};

use crate::bank::{
    ACCOUNTS_BODY, BASE_PATH, TEST_ACCOUNT, TEST_TOKEN, TestBank, account_id, balance_response,
    json_response, redirect_response, retry_after_response, status_response, transactions_page,
};

const FIRST_PAGE_TARGET: &str =
    "/accounts/22289/transactions?fromBookingDateTime=2026-02-28T00%3A00%3A00Z";

async fn fetch_window(bank: &TestBank) -> Result<TransactionWindow, BankFault> {
    let mut snapshot = bank
        .fetch_snapshot(&[TEST_ACCOUNT], &[Product::Transactions])
        .await;
    assert_eq!(snapshot.accounts.len(), 1);
    let account = snapshot.accounts.remove(0);
    assert!(account.balance.is_none());
    account.transactions.unwrap()
}

async fn fetch_days(bank: &TestBank) -> Vec<i8> {
    let rows = fetch_window(bank).await.unwrap().rows;
    rows.iter().map(|row| row.booking_date().day()).collect()
}

async fn check_window_fault(bank: &TestBank, class: FaultClass, detail: &str) {
    let fault = fetch_window(bank).await.unwrap_err();
    assert_eq!(fault.class, class, "{fault}");
    assert!(fault.detail.contains(detail), "{fault}");
}

#[tokio::test]
async fn a_record_is_read_account_by_account() {
    let bank = TestBank::with_handler(|target| match target {
        "/accounts/22289/balances" | "/accounts/a%2Fb/balances" => balance_response(),
        _ => transactions_page(&[2, 5], None),
    })
    .await;
    let snapshot = bank
        .fetch_snapshot(&[TEST_ACCOUNT, "a/b"], &Product::ALL)
        .await;
    for (account, name) in snapshot.accounts.iter().zip([TEST_ACCOUNT, "a/b"]) {
        assert_eq!(account.account, account_id(name));
        let balance = account.balance.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(balance.available.unwrap().minor, 500);
        let window = account.transactions.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(window.rows.len(), 2);
    }
    let second = FIRST_PAGE_TARGET.replace(TEST_ACCOUNT, "a%2Fb");
    let expected = [
        "/accounts/22289/balances",
        FIRST_PAGE_TARGET,
        "/accounts/a%2Fb/balances",
        &second,
    ];
    assert_eq!(bank.request_targets(), expected);
}

#[tokio::test]
async fn a_product_that_is_not_requested_is_not_fetched() {
    let bank = TestBank::with_handler(|_| balance_response()).await;
    let snapshot = bank
        .fetch_snapshot(&[TEST_ACCOUNT], &[Product::Balance])
        .await;
    assert!(snapshot.accounts[0].transactions.is_none());
    assert_eq!(bank.request_targets(), ["/accounts/22289/balances"]);
    let none = bank.fetch_snapshot(&[], &Product::ALL).await;
    assert!(none.accounts.is_empty());
}

#[tokio::test]
async fn a_call_sends_the_token_and_the_users_address() {
    let mut bank = TestBank::with_handler(|_| json_response(ACCOUNTS_BODY)).await;
    bank.fetch_accounts().await.unwrap();
    let token = format!("Bearer {TEST_TOKEN}");
    assert_eq!(bank.last_request_header("authorization"), Some(token));
    assert_eq!(bank.last_request_header("x-fapi-customer-ip-address"), None);
    assert_eq!(bank.last_request_header("x-fapi-financial-id"), None);

    bank.user_present = Some("2001:db8::7".parse().unwrap());
    bank.config.financial_id = Some("0015800000jf7AeAAI".into());
    bank.fetch_snapshot(&[TEST_ACCOUNT], &[Product::Balance])
        .await;
    let present = bank.last_request_header("x-fapi-customer-ip-address");
    assert_eq!(present.as_deref(), Some("2001:db8::7"));
    let id = bank.last_request_header("x-fapi-financial-id");
    assert_eq!(id.as_deref(), Some("0015800000jf7AeAAI"));
}

#[tokio::test]
async fn a_base_url_may_end_with_a_slash() {
    let mut bank = TestBank::with_handler(|_| transactions_page(&[1], None)).await;
    bank.config.base_url.push('/');
    assert_eq!(fetch_days(&bank).await, [1]);
    assert_eq!(bank.request_targets(), [FIRST_PAGE_TARGET]);
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let bank = TestBank::with_handler(|target| match target {
        FIRST_PAGE_TARGET => transactions_page(&[9, 8], Some("?page=2#top")),
        "/accounts/22289/transactions?page=2" => {
            transactions_page(&[7], Some("transactions/3?a=b"))
        }
        "/accounts/22289/transactions/3?a=b" => {
            transactions_page(&[], Some("/open-banking/v3.1/aisp/x"))
        }
        "/x" => transactions_page(&[6], None),
        _ => status_response(404),
    })
    .await;
    assert_eq!(fetch_days(&bank).await, [9, 8, 7, 6]);
}

#[tokio::test]
async fn an_absolute_link_is_followed() {
    let bank = bank_linking_to(|origin| format!("{origin}{BASE_PATH}/more?p=2")).await;
    assert_eq!(fetch_days(&bank).await, [9, 1]);
}

/// A bank whose first page links to a URL made from its own origin, and whose other pages have no link.
async fn bank_linking_to(link: impl Fn(&str) -> String) -> TestBank {
    let shared = Arc::new(OnceLock::<String>::new());
    let for_handler = Arc::clone(&shared);
    let bank = TestBank::with_handler(move |target| {
        if target == FIRST_PAGE_TARGET {
            transactions_page(&[9], for_handler.get().map(String::as_str))
        } else {
            transactions_page(&[1], None)
        }
    })
    .await;
    shared.set(link(bank.base_origin())).unwrap();
    bank
}

#[tokio::test]
async fn a_link_away_from_the_bank_is_not_followed() {
    let elsewhere = TestBank::with_handler(|_| transactions_page(&[1], None)).await;
    let other_origin = elsewhere.config.base_url.clone();
    let links: [&dyn Fn(&str) -> String; 9] = [
        &|_| format!("{other_origin}/accounts/22289/transactions"),
        &|_| "https://bank.example/".to_owned(),
        &|_| "//bank.example/open-banking/v3.1/aisp/x".to_owned(),
        &|origin| origin.replace("http:", "https:") + BASE_PATH,
        &|origin| format!("{origin}{BASE_PATH}-admin/x"),
        &|origin| format!("{origin}{BASE_PATH}/../v4.0/x"),
        &|origin| format!("{origin}{BASE_PATH}/%2e%2e/v4.0/x"),
        &|origin| format!("{}{BASE_PATH}/x", origin.replace("://", "://user:pass@")),
        &|_| "file:///etc/passwd".to_owned(),
    ];
    for link in links {
        let bank = bank_linking_to(link).await;
        check_window_fault(
            &bank,
            FaultClass::MalformedResponse,
            "leads away from the bank",
        )
        .await;
        assert_eq!(bank.request_targets(), [FIRST_PAGE_TARGET]);
    }
    assert!(elsewhere.request_targets().is_empty());
    let bank = bank_linking_to(|_| "http://[5eCret".to_owned()).await;
    check_window_fault(&bank, FaultClass::MalformedResponse, "must be a URL").await;
}

#[tokio::test]
async fn a_link_back_to_a_page_fails_the_list() {
    let to_itself = TestBank::with_handler(|_| transactions_page(&[1], Some("?p=1"))).await;
    check_window_fault(&to_itself, FaultClass::MalformedResponse, "already read").await;
    assert_eq!(to_itself.request_targets().len(), 2);

    let calls = Arc::new(AtomicU32::new(0));
    let always_new = TestBank::with_handler(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        transactions_page(&[1], Some(&format!("?p=1#{call}")))
    })
    .await;
    check_window_fault(&always_new, FaultClass::MalformedResponse, "already read").await;
    assert_eq!(always_new.request_targets().len(), 2);

    let in_a_ring = TestBank::with_handler(|target| match target {
        "/accounts/22289/transactions?p=2" => transactions_page(&[2], Some("?p=3")),
        _ => transactions_page(&[1], Some("?p=2")),
    })
    .await;
    check_window_fault(&in_a_ring, FaultClass::MalformedResponse, "already read").await;
    assert_eq!(in_a_ring.request_targets().len(), 3);
}

#[tokio::test]
async fn no_more_pages_are_read_than_the_limit_allows() {
    let bank = TestBank::with_handler(|target| {
        let n: u32 = target.rsplit('=').next().unwrap().parse().unwrap_or(0);
        transactions_page(&[1], Some(&format!("?p={}", n + 1)))
    })
    .await
    .with_limits(|limits| limits.max_pages = 4);
    check_window_fault(&bank, FaultClass::MalformedResponse, "more pages").await;
    assert_eq!(bank.request_targets().len(), 4);
}

#[tokio::test]
async fn a_later_page_that_fails_fails_the_list() {
    let bank = TestBank::with_handler(|target| match target {
        FIRST_PAGE_TARGET => transactions_page(&[9, 8], Some("?page=2")),
        _ => status_response(503),
    })
    .await;
    check_window_fault(&bank, FaultClass::BankUnavailable, "status 503").await;
}

#[tokio::test]
async fn a_row_shown_again_on_the_next_page_counts_once() {
    let bank = TestBank::with_handler(|target| match target {
        FIRST_PAGE_TARGET => transactions_page(&[9, 8, 8], Some("?page=2")),
        "/accounts/22289/transactions?page=2" => transactions_page(&[8, 7, 7], Some("?page=3")),
        _ => transactions_page(&[7, 9, 6], None),
    })
    .await;
    assert_eq!(fetch_days(&bank).await, [9, 8, 8, 7, 7, 6]);
}

#[tokio::test]
async fn rows_from_before_the_window_are_left_out_by_the_banks_own_day() {
    let bank = TestBank::with_handler(|_| {
        let rows = r#"{"Data":{"Transaction":[
            {"CreditDebitIndicator":"Debit","Status":"Booked","TransactionId":"February in London",
            "BookingDateTime":"2026-02-28T23:30:00-01:00","Amount":{"Amount":"1","Currency":"NGN"}},
            {"CreditDebitIndicator":"Debit","Status":"Booked","TransactionId":"March in Lagos",
            "BookingDateTime":"2026-03-01T00:30:00+01:00","Amount":{"Amount":"1","Currency":"NGN"}}]}}"#;
        json_response(rows)
    })
    .await;
    let rows = fetch_window(&bank).await.unwrap().rows;
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(row.bank_id.as_deref(), Some("March in Lagos"));
}

#[tokio::test]
async fn each_status_is_a_fault_of_its_class() {
    use FaultClass::{
        AccountGone, BankUnavailable, ConsentRejected, MalformedResponse, RateLimited,
    };
    let classes = [
        (400, MalformedResponse),
        (401, ConsentRejected),
        (403, ConsentRejected),
        (404, AccountGone),
        (405, MalformedResponse),
        (406, MalformedResponse),
        (408, BankUnavailable),
        (429, RateLimited),
        (500, BankUnavailable),
        (502, BankUnavailable),
        (503, BankUnavailable),
        (504, BankUnavailable),
    ];
    for (code, class) in classes {
        let bank = TestBank::with_handler(move |_| status_response(code)).await;
        let fault = bank.fetch_fault().await;
        let mut expected = BankFault::new(class, format!("status {code}"));
        expected.status = Some(code);
        assert_eq!(fault, expected);
    }
}

/// How banks say that a quota is spent, as their customers' logs have it, and what reads like it and is something
/// else. Taken for a rejected consent, a spent quota would ask a user to link again for nothing.
#[tokio::test]
async fn a_spent_quota_is_recognised_however_the_bank_says_it() {
    use FaultClass::{ConsentRejected, MalformedResponse, QuotaSpent, RateLimited};
    let long = Some("43200");
    let berlin = r#"{"tppMessages":[{"category":"ERROR","code":"ACCESS_EXCEEDED","text":""}]}"#;
    let cases = [
        // 1. By the Berlin Group's code: under its own status and under others.
        (429, None, berlin, QuotaSpent),
        (403, None, berlin, QuotaSpent),
        (400, None, berlin, QuotaSpent),
        // 2. In words under 429.
        (
            429,
            None,
            r#"{"detail":"Daily request limit set by the Institution has been exceeded"}"#,
            QuotaSpent,
        ),
        (429, None, "Maximum daily access exceeded", QuotaSpent),
        (429, None, "Access exceeded", QuotaSpent),
        // 3. In words under a status that otherwise means a rejected consent.
        (
            401,
            None,
            "[HUB046] Allowed number of accesses exceeded for consent",
            QuotaSpent,
        ),
        (
            403,
            None,
            r#"{"Code":"403","Message":"You have exceeded the 4 requests allowed in 24 hours"}"#,
            QuotaSpent,
        ),
        // 4. In words under a status that otherwise means a wrong request.
        (
            400,
            None,
            "The frequencyPerDay of this consent: maximum number of calls per day reached",
            QuotaSpent,
        ),
        // 5. By nothing but a long Retry-After.
        (429, long, "", QuotaSpent),
        // A rate, which passes within minutes.
        (429, None, "", RateLimited),
        (429, None, "Too many requests", RateLimited),
        (
            429,
            Some("30"),
            r#"{"error":"ASPSP_RATE_LIMIT_EXCEEDED"}"#,
            RateLimited,
        ),
        // What is the user's to mend, and what is wrong.
        (
            401,
            None,
            r#"{"tppMessages":[{"category":"ERROR","code":"CONSENT_EXPIRED"}]}"#,
            ConsentRejected,
        ),
        (
            403,
            None,
            r#"{"Errors":[{"ErrorCode":"UK.OBIE.Reauthenticate","Message":"limit"}]}"#,
            ConsentRejected,
        ),
        (
            400,
            None,
            r#"{"Errors":[{"ErrorCode":"UK.OBIE.Field.Invalid"}]}"#,
            MalformedResponse,
        ),
    ];
    for (code, retry_after, body, class) in cases {
        let bank = TestBank::with_handler(move |_| {
            let mut response = match retry_after {
                Some(header) => retry_after_response(code, header),
                None => status_response(code),
            };
            *response.body_mut() = body.into();
            response
        })
        .await;
        let fault = bank.fetch_fault().await;
        assert_eq!(fault.class, class, "{code} {body}");
    }
}

#[tokio::test]
async fn a_rejection_is_explained_by_its_error_code_alone() {
    let check = async |code: u16, error: &'static str, expected: &str| {
        let bank = TestBank::with_handler(move |_| {
            let body = format!(
                r#"{{"Code":"{code}","Message":"22289 5eCret",
                "Errors":[{{"ErrorCode":"{error}","Message":"5eCret","Path":"22289"}}]}}"#
            );
            let mut response = json_response(body);
            *response.status_mut() = code.try_into().unwrap();
            response
        })
        .await;
        assert_eq!(bank.fetch_fault().await.detail, expected);
    };
    check(
        403,
        "UK.OBIE.Reauthenticate",
        "status 403, UK.OBIE.Reauthenticate",
    )
    .await;
    check(
        400,
        "UK.OBIE.Resource.NotFound",
        "status 400, UK.OBIE.Resource.NotFound",
    )
    .await;
    check(403, "U028", "status 403, U028").await;
    check(403, "account 22289", "status 403").await;
    check(403, "22289", "status 403").await;
    check(403, "2228", "status 403").await;
    check(403, "UK.OBIE.22289", "status 403").await;
    check(403, "", "status 403").await;
}

#[tokio::test]
async fn a_retry_after_header_is_read() {
    let cases = [
        (429, "7", Some(7)),
        (503, "30", Some(30)),
        (429, "40000", Some(40_000)),
        (429, "999999", Some(86_400)),
        // One minute after the time that the call was given as now.
        (429, "Sun, 15 Mar 2026 12:01:00 GMT", Some(60)),
        (503, "Mon, 15 Mar 2027 12:01:00 GMT", Some(86_400)),
        (429, "Sun, 15 Mar 2026 11:59:00 GMT", None),
        (429, "soon", None),
        (429, "-5", None),
    ];
    for (code, header, expected) in cases {
        let bank = TestBank::with_handler(move |_| retry_after_response(code, header)).await;
        assert_eq!(bank.fetch_fault().await.retry_after_s, expected, "{header}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for code in [301, 302, 303, 307, 308] {
        let bank = TestBank::with_handler(move |target| match target {
            "/accounts" => redirect_response(code, "/open-banking/v3.1/aisp/other"),
            _ => json_response(ACCOUNTS_BODY),
        })
        .await;
        bank.check_fault(FaultClass::MalformedResponse, &format!("status {code}"))
            .await;
        assert_eq!(bank.request_targets(), ["/accounts"]);
    }
}

const DEADLINE_MS: u32 = 150;

fn set_short_deadline(limits: &mut BankLimits) {
    limits.deadline_ms = DEADLINE_MS;
}

fn response_head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whatever_is_slow() {
    let (none, long) = (Duration::ZERO, Duration::from_secs(60));
    let a_bit = Duration::from_millis(20);
    let head = response_head(ACCOUNTS_BODY.len());
    let slow_head = vec![(long, head.clone())];
    let slow_body = vec![(none, head.clone()), (long, ACCOUNTS_BODY.into())];
    let mut dripping = vec![(none, head)];
    dripping.extend(ACCOUNTS_BODY.bytes().map(|byte| (a_bit, vec![byte])));
    let rejection = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\n".to_vec();
    let slow_rejection = vec![(none, rejection), (long, vec![])];

    for responses in [slow_head, slow_body, dripping] {
        let bank = TestBank::with_raw_responses(responses)
            .await
            .with_limits(set_short_deadline);
        let started = Instant::now();
        bank.check_fault(
            FaultClass::BankUnavailable,
            "no complete response within 150 ms",
        )
        .await;
        let deadline = Duration::from_millis(u64::from(DEADLINE_MS));
        assert!(started.elapsed() >= deadline);
        assert!(started.elapsed() < deadline + long / 4);
    }
    // The status came in time.
    let bank = TestBank::with_raw_responses(slow_rejection)
        .await
        .with_limits(set_short_deadline);
    bank.check_fault(FaultClass::ConsentRejected, "status 403")
        .await;
}

#[tokio::test]
async fn a_body_is_read_up_to_its_cap() {
    let cap = |limits: &mut BankLimits| {
        limits.max_body_bytes = u32::try_from(ACCOUNTS_BODY.len()).unwrap();
    };
    let bank = TestBank::with_handler(|_| json_response(ACCOUNTS_BODY))
        .await
        .with_limits(cap);
    assert_eq!(bank.fetch_accounts().await.unwrap().len(), 1);

    let announced = TestBank::with_handler(|_| json_response(format!("{ACCOUNTS_BODY} ")))
        .await
        .with_limits(cap);
    announced
        .check_fault(FaultClass::MalformedResponse, "bytes")
        .await;

    // Announced and never sent: rejected at once.
    let only_announced = vec![
        (Duration::ZERO, response_head(1 << 40)),
        (Duration::from_secs(60), vec![]),
    ];
    let bank = TestBank::with_raw_responses(only_announced).await;
    bank.check_fault(FaultClass::MalformedResponse, "bytes")
        .await;

    // Without a length, until the cap is passed.
    let chunk = format!("{:x}\r\n{ACCOUNTS_BODY}\r\n", ACCOUNTS_BODY.len());
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    endless.extend(chunk.repeat(3).bytes());
    let responses = vec![(Duration::ZERO, endless), (Duration::from_secs(60), vec![])];
    let bank = TestBank::with_raw_responses(responses)
        .await
        .with_limits(cap);
    bank.check_fault(FaultClass::MalformedResponse, "bytes")
        .await;
}

#[tokio::test]
async fn a_broken_body_is_malformed_and_a_broken_connection_is_not() {
    let bank = TestBank::with_handler(|_| json_response(&ACCOUNTS_BODY[..40])).await;
    bank.check_fault(FaultClass::MalformedResponse, "the JSON is incomplete")
        .await;
    let bank = TestBank::with_handler(|_| json_response("<html>5eCret</html>")).await;
    bank.check_fault(FaultClass::MalformedResponse, "not JSON")
        .await;
    let bank =
        TestBank::with_handler(|_| json_response(ACCOUNTS_BODY.replace("\"NGN\"", "5"))).await;
    bank.check_fault(FaultClass::MalformedResponse, "Data.Account[0].Currency")
        .await;

    let mut part = response_head(ACCOUNTS_BODY.len());
    part.extend(&ACCOUNTS_BODY.as_bytes()[..40]);
    for bytes in [vec![], b"HTTP/1.1 200".to_vec(), part] {
        let bank = TestBank::with_raw_responses(vec![(Duration::ZERO, bytes)]).await;
        bank.check_fault(FaultClass::BankUnavailable, "connection to the bank broke")
            .await;
    }
    let bank =
        TestBank::with_raw_responses(vec![(Duration::ZERO, b"220 smtp 5eCret\r\n".to_vec())]).await;
    bank.check_fault(FaultClass::BankUnavailable, "connection to the bank broke")
        .await;
}

#[tokio::test]
async fn a_bank_that_is_not_there_is_unavailable() {
    let bank = TestBank::without_server().await;
    bank.check_fault(FaultClass::BankUnavailable, "could not be reached")
        .await;
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_our_own_fault() {
    let mut bank = TestBank::with_handler(|_| balance_response()).await;
    for id in ["", "..", "."] {
        let snapshot = bank.fetch_snapshot(&[id], &[Product::Balance]).await;
        let fault = snapshot.accounts[0]
            .balance
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap_err();
        assert_eq!(fault.class, FaultClass::Internal, "{fault}");
    }
    bank.config.financial_id = Some("a\nb".into());
    bank.check_fault(FaultClass::Internal, "could not be built")
        .await;
    bank.config.base_url = "mailto:a@b".into();
    bank.check_fault(FaultClass::Internal, "base_url").await;
    assert!(bank.request_targets().is_empty());
}

/// What was read of an account: available balance in minor units, number of rows.
type AccountReading = (Result<i64, FaultClass>, Result<usize, FaultClass>);

#[tokio::test]
async fn a_product_that_fails_does_not_stop_the_rest() {
    let check = async |handler: fn(&str) -> Response, expected: [AccountReading; 2]| {
        let bank = TestBank::with_handler(handler).await;
        let snapshot = bank.fetch_snapshot(&["1", "2"], &Product::ALL).await;
        let read: Vec<AccountReading> = snapshot
            .accounts
            .into_iter()
            .map(|account| {
                let balance = account
                    .balance
                    .unwrap()
                    .map(|it| it.available.unwrap().minor);
                let rows = account.transactions.unwrap().map(|it| it.rows.len());
                (
                    balance.map_err(|fault| fault.class),
                    rows.map_err(|fault| fault.class),
                )
            })
            .collect();
        assert_eq!(read, expected);
    };
    let whole = (Ok(500), Ok(1));
    check(
        |target| match target {
            "/accounts/1/balances" | "/accounts/2/balances" => balance_response(),
            _ if target.starts_with("/accounts/1/") => status_response(500),
            _ => transactions_page(&[1], None),
        },
        [(Ok(500), Err(FaultClass::BankUnavailable)), whole],
    )
    .await;
    check(
        |target| match target {
            "/accounts/1/balances" => status_response(403),
            "/accounts/2/balances" => balance_response(),
            _ if target.starts_with("/accounts/2/") => json_response("{"),
            _ => transactions_page(&[1], None),
        },
        [
            (Err(FaultClass::ConsentRejected), Ok(1)),
            (Ok(500), Err(FaultClass::MalformedResponse)),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_accounts_of_a_consent_may_fill_pages() {
    let bank = TestBank::with_handler(|target| match target {
        "/accounts" => {
            json_response(ACCOUNTS_BODY.replace("]}}", r#"]},"Links":{"Next":"accounts?page=2"}}"#))
        }
        _ => json_response(ACCOUNTS_BODY.replace(TEST_ACCOUNT, "31820")),
    })
    .await;
    let accounts = bank.fetch_accounts().await.unwrap();
    let ids: Vec<_> = accounts
        .iter()
        .map(|it| it.bank_account_id.as_str())
        .collect();
    assert_eq!(ids, [TEST_ACCOUNT, "31820"]);
}
