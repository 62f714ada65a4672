//! What can be made to go wrong.

use std::time::Duration;

use http::StatusCode;
use okra_sandbox::{
    ConsentState, FaultTarget, Faults, MalformedFault, Outage, RateLimitFault, SandboxOptions,
    SandboxResource,
};

use crate::support::{LoginClient, login_with_rows, parse_transactions, send_get};

fn set_login_faults(login_client: &LoginClient, faults: Faults) {
    let target = FaultTarget::Login(login_client.login);
    login_client.bank.set_faults(target, faults).unwrap();
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_lifted() {
    let client = LoginClient::with_ten_rows();
    let outage = |outage| Faults {
        outage,
        ..Faults::default()
    };
    for target in [FaultTarget::Bank, FaultTarget::Login(client.login)] {
        let faults = outage(Some(Outage::Unavailable));
        client.bank.set_faults(target, faults).unwrap();
        let response = client.get_path("").await;
        assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
        let faults = outage(Some(Outage::Drop));
        client.bank.set_faults(target, faults).unwrap();
        assert!(client.get_path("").await.body.is_none());
        client.bank.set_faults(target, outage(None)).unwrap();
        assert_eq!(client.get_path("").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_dropped_connection_is_an_error_at_the_other_end_of_a_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let client = LoginClient::with_ten_rows();
    set_login_faults(
        &client,
        Faults {
            outage: Some(Outage::Drop),
            ..Faults::default()
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, client.bank.api_router()).into_future());
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /open-banking/v3.1/aisp/accounts HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
        client.token
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response).await;
    let text = String::from_utf8(response).unwrap();
    assert!(!text.contains("Account"), "{text}");
    server.abort();
}

#[tokio::test]
async fn the_next_calls_are_rate_limited() {
    let client = LoginClient::with_ten_rows();
    for retry_after_s in [Some(30), None] {
        let rate_limit = Some(RateLimitFault {
            calls: 2,
            retry_after_s,
        });
        set_login_faults(
            &client,
            Faults {
                rate_limit,
                ..Faults::default()
            },
        );
        for _ in 0..2 {
            let response = client.get_path("").await;
            assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
            let expected = retry_after_s.map(|seconds: u32| seconds.to_string());
            assert_eq!(response.header_text("retry-after"), expected.as_deref());
        }
        assert_eq!(client.get_path("").await.status, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_response_is_delayed() {
    let client = LoginClient::with_ten_rows();
    let slow_ms = 2_500;
    set_login_faults(
        &client,
        Faults {
            slow_ms,
            ..Faults::default()
        },
    );
    let start = tokio::time::Instant::now();
    assert_eq!(client.get_path("").await.status, StatusCode::OK);
    assert!(start.elapsed() >= Duration::from_millis(slow_ms.into()));
}

#[tokio::test]
async fn a_consent_ends_and_the_user_grants_another() {
    let client = LoginClient::with_ten_rows();
    for (state, status, code) in [
        (
            ConsentState::Expired,
            StatusCode::FORBIDDEN,
            "UK.OBIE.Reauthenticate",
        ),
        (
            ConsentState::Revoked,
            StatusCode::UNAUTHORIZED,
            "UK.OBIE.Header.Invalid",
        ),
    ] {
        client.bank.set_consent(client.login, state).unwrap();
        let response = client.get_path("").await;
        assert_eq!(response.status, status);
        assert_eq!(response.parse_json()["Errors"][0]["ErrorCode"], code);
        let token = client.bank.link_login(client.login).unwrap();
        assert_ne!(token.as_str(), client.token);
        assert_eq!(client.bank.link_login(client.login).unwrap(), token);
        let path = "/open-banking/v3.1/aisp/accounts";
        let response = send_get(&client.bank.api_router(), path, Some(token.as_str())).await;
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(client.get_path("").await.status, status);
    }
}

#[tokio::test]
async fn each_malformed_fault_has_its_form() {
    let client = LoginClient::with_ten_rows();
    let with = async |malformed| {
        set_login_faults(
            &client,
            Faults {
                malformed: Some(malformed),
                ..Faults::default()
            },
        );
        let response = client.get_first_account("/transactions").await;
        assert_eq!(response.status, StatusCode::OK);
        response
    };
    let is_json = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).is_ok();
    let truncated = with(MalformedFault::Truncated).await;
    assert!(!is_json(&truncated.body.unwrap()));
    let html = with(MalformedFault::Html).await;
    assert_eq!(
        html.header_text("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(!is_json(&html.body.unwrap()));
    let wrong = with(MalformedFault::WrongTypes).await.parse_json();
    assert!(wrong["Data"]["Transaction"].is_string());
    let comma = with(MalformedFault::CommaAmount).await.parse_json();
    let amount = comma["Data"]["Transaction"][0]["Amount"]["Amount"].clone();
    assert!(amount.as_str().unwrap().contains(','), "{amount}");
    set_login_faults(&client, Faults::default());
    assert!(is_json(
        &client
            .get_first_account("/transactions")
            .await
            .body
            .unwrap()
    ));
}

#[tokio::test]
async fn a_list_is_empty_while_its_fault_is_set() {
    let client = LoginClient::with_ten_rows();
    let rows = client.list_transactions().await;
    set_login_faults(
        &client,
        Faults {
            empty: true,
            ..Faults::default()
        },
    );
    assert!(client.list_transactions().await.is_empty());
    set_login_faults(&client, Faults::default());
    assert_eq!(client.list_transactions().await, rows);
}

#[tokio::test]
async fn pages_shift_under_the_reader() {
    let options = SandboxOptions {
        page_size: 4,
        ..SandboxOptions::default()
    };
    let client = LoginClient::with_options(options, login_with_rows(8));
    let whole = client.bank.list_rows(&client.account_address()).unwrap();
    for (page_shift, start) in [(1, 3), (-1, 5), (0, 4), (-100, 8)] {
        set_login_faults(
            &client,
            Faults {
                page_shift,
                ..Faults::default()
            },
        );
        let first = client.get_first_account("/transactions").await;
        let next = first.parse_json()["Links"]["Next"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = next.strip_prefix("http://bank.test").unwrap();
        let second = send_get(&client.bank.api_router(), path, Some(&client.token)).await;
        let second = parse_transactions(&second);
        let id = second.first().map(|row| row["TransactionId"].clone());
        let expected = whole
            .get(start)
            .map(|row| row.transaction_id.clone().into());
        assert_eq!(id, expected, "shifted by {page_shift}");
    }
}

#[tokio::test]
async fn a_fault_may_affect_one_resource_or_account() {
    let login = okra_sandbox::NewLogin {
        accounts: 2,
        ..login_with_rows(2)
    };
    let client = LoginClient::with_options(SandboxOptions::default(), login);
    let accounts = client.bank.find_login(client.login).unwrap().accounts;
    let status = async |account: usize, below: &str| {
        let below = format!("/{}{below}", accounts[account].account_id);
        client.get_path(&below).await.status.as_u16()
    };
    let outage = Some(Outage::Unavailable);
    set_login_faults(
        &client,
        Faults {
            outage,
            resource: Some(SandboxResource::Balances),
            ..Faults::default()
        },
    );
    assert_eq!(status(0, "/balances").await, 503);
    assert_eq!(status(0, "/transactions").await, 200);
    set_login_faults(
        &client,
        Faults {
            outage,
            account: Some(accounts[1].account_id.clone()),
            ..Faults::default()
        },
    );
    assert_eq!(status(0, "/balances").await, 200);
    assert_eq!(status(1, "/balances").await, 503);
    assert_eq!(client.get_path("").await.status, StatusCode::OK);
}
