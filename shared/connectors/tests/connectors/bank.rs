//! Banks on this machine: one that answers by a function, and one that sends raw bytes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header::LOCATION, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use jiff::{Timestamp, civil::date};
use okra_connectors::{
    AccountRef, Connectors, ConsentId, ConsentSecret, ConsentTerms, FetchRequest, LoginCode,
    LoginRedirect, LoginRequest,
};
use okra_core::model::{
    bank::{BankConfig, BankLimits, BankStandard},
    fault::{BankFault, FaultClass},
    ids::{AccountId, BankId},
    snapshot::{AccountFacts, AccountSnapshot, Product, Snapshot},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

pub(crate) const TEST_TOKEN: &str = "t0ken-5eCret";
pub(crate) const TEST_ACCOUNT: &str = "22289";
pub(crate) const TEST_CONSENT: &str = "urn:bank:1";
pub(crate) const TEST_REDIRECT_URI: &str = "https://okra.example/cb";
const CLIENT_SECRET: &str = "s3cret/+";
pub(crate) const BASE_PATH: &str = "/open-banking/v3.1/aisp";

/// A bank to be called, and the requests that it was sent.
pub(crate) struct TestBank {
    pub(crate) config: BankConfig,
    pub(crate) user_present: Option<std::net::IpAddr>,
    requests: Arc<Mutex<Vec<axum::http::request::Parts>>>,
    connectors: Connectors,
}

impl TestBank {
    /// A bank that answers each request, below its base, by a function of path and query.
    pub(crate) async fn with_handler(
        handler: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        let router = Router::new().fallback(move |request: Request| {
            let (parts, _) = request.into_parts();
            let target = parts.uri.to_string();
            received.lock().unwrap().push(parts);
            let response = match target.strip_prefix(BASE_PATH) {
                Some(target) => handler(target),
                None => status_response(404),
            };
            async move { response }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self::at_address(address, requests)
    }

    /// A bank that sends these bytes to each caller, each after a pause, and closes the connection.
    pub(crate) async fn with_raw_responses(raw_responses: Vec<(Duration, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let responses = raw_responses.clone();
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 4096]).await;
                    for (pause, bytes) in responses {
                        tokio::time::sleep(pause).await;
                        if socket.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self::at_address(address, Arc::default())
    }

    /// A bank where nothing listens.
    pub(crate) async fn without_server() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        Self::at_address(address, Arc::default())
    }

    fn at_address(
        address: SocketAddr,
        requests: Arc<Mutex<Vec<axum::http::request::Parts>>>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self {
            config: BankConfig {
                id: BankId::from_bytes([1; 12]),
                name: "Test".into(),
                slug: "test".into(),
                standard: BankStandard::Obie31,
                base_url: format!("http://{address}{BASE_PATH}"),
                financial_id: None,
                oauth: None,
                country: "NG".into(),
                limits: BankLimits::default(),
            },
            user_present: None,
            requests,
            connectors: Connectors::new(tls).unwrap(),
        }
    }

    pub(crate) fn with_limits(mut self, limit: impl FnOnce(&mut BankLimits)) -> Self {
        limit(&mut self.config.limits);
        self
    }

    fn test_secret() -> ConsentSecret {
        ConsentSecret::from_bearer_token(TEST_TOKEN)
    }

    pub(crate) async fn fetch_snapshot(&self, accounts: &[&str], products: &[Product]) -> Snapshot {
        let accounts: Vec<_> = accounts
            .iter()
            .map(|&bank_account_id| AccountRef {
                id: account_id(bank_account_id),
                bank_account_id,
            })
            .collect();
        let ask = FetchRequest {
            products,
            from: date(2026, 3, 1),
            now: now(),
            user_present: self.user_present,
        };
        let snapshot = self
            .connectors
            .fetch_snapshot(&self.config, &Self::test_secret(), &accounts, ask)
            .await;
        for account in &snapshot.accounts {
            for fault in account_faults(account) {
                check_fault_redacted(fault);
            }
        }
        snapshot
    }

    pub(crate) async fn fetch_accounts(&self) -> Result<Vec<AccountFacts>, BankFault> {
        let secret = Self::test_secret();
        let result = self
            .connectors
            .fetch_accounts(&self.config, &secret, now())
            .await;
        result
            .as_ref()
            .err()
            .inspect(|fault| check_fault_redacted(fault));
        result
    }

    /// The fault of one call.
    pub(crate) async fn fetch_fault(&self) -> BankFault {
        self.fetch_accounts().await.unwrap_err()
    }

    pub(crate) async fn check_fault(&self, class: FaultClass, detail: &str) {
        let fault = self.fetch_fault().await;
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.detail.contains(detail), "{fault}");
    }

    pub(crate) async fn begin_login(
        &self,
        products: &[Product],
    ) -> Result<LoginRedirect, BankFault> {
        let request = LoginRequest {
            products,
            redirect_uri: TEST_REDIRECT_URI,
            state: "state",
            nonce: "nonce",
            pkce_verifier: "v",
        };
        self.connectors
            .begin_login(&self.config, CLIENT_SECRET, request, now())
            .await
    }

    pub(crate) async fn complete_login(&self, code: &str) -> Result<ConsentSecret, BankFault> {
        let login = LoginCode {
            code,
            redirect_uri: TEST_REDIRECT_URI,
            pkce_verifier: "v",
            consent_id: &consent_id(),
        };
        self.connectors
            .complete_login(&self.config, CLIENT_SECRET, login, now())
            .await
    }

    /// Renews the tokens of the test's consent with this refresh token.
    pub(crate) async fn renew_tokens(
        &self,
        refresh_token: &str,
    ) -> Result<ConsentSecret, BankFault> {
        let mut consent = Self::test_secret();
        consent.refresh_token = Some(refresh_token.to_owned());
        consent.consent_id = Some(consent_id());
        self.connectors
            .renew_tokens(&self.config, CLIENT_SECRET, &consent, now())
            .await
    }

    pub(crate) async fn fetch_consent_terms(&self) -> Result<ConsentTerms, BankFault> {
        self.connectors
            .fetch_consent_terms(&self.config, CLIENT_SECRET, &consent_id(), now())
            .await
    }

    pub(crate) async fn revoke_consent(&self) -> Result<(), BankFault> {
        self.connectors
            .revoke_consent(&self.config, CLIENT_SECRET, &consent_id(), now())
            .await
    }

    /// Path and query of each request, below the base where they are.
    pub(crate) fn request_targets(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let target = |uri: String| uri.strip_prefix(BASE_PATH).unwrap_or(&uri).to_owned();
        requests
            .iter()
            .map(|it| target(it.uri.to_string()))
            .collect()
    }

    /// A header of the last request.
    pub(crate) fn last_request_header(&self, name: &str) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let value = requests.last()?.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    pub(crate) fn base_origin(&self) -> &str {
        self.config.base_url.strip_suffix(BASE_PATH).unwrap()
    }
}

fn consent_id() -> ConsentId {
    ConsentId::new(TEST_CONSENT).unwrap()
}

fn account_faults(account: &AccountSnapshot) -> impl Iterator<Item = &BankFault> {
    let balance = account.balance.as_ref().and_then(|it| it.as_ref().err());
    let rows = account.transactions.as_ref();
    balance
        .into_iter()
        .chain(rows.and_then(|it| it.as_ref().err()))
}

/// Checks that a fault, which an operator reads, holds no token, account or payload.
fn check_fault_redacted(fault: &BankFault) {
    let shown = format!("{fault:?} {fault}");
    for secret in [TEST_TOKEN, "5eCret", TEST_ACCOUNT, "127.0.0.1", BASE_PATH] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

pub(crate) fn account_id(bank_account_id: &str) -> AccountId {
    AccountId::derive(&[bank_account_id.as_bytes()])
}

pub(crate) fn json_response(body: impl Into<Body>) -> Response {
    ([("content-type", "application/json")], body.into()).into_response()
}

pub(crate) fn status_response(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

pub(crate) fn retry_after_response(code: u16, retry_after: &str) -> Response {
    let mut response = status_response(code);
    response
        .headers_mut()
        .insert(RETRY_AFTER, retry_after.parse().unwrap());
    response
}

pub(crate) fn redirect_response(code: u16, location: &str) -> Response {
    let mut response = status_response(code);
    response
        .headers_mut()
        .insert(LOCATION, location.parse().unwrap());
    response
}

/// A page of transactions booked on days of March 2026, each with its day as id.
pub(crate) fn transactions_page(days: &[u8], next: Option<&str>) -> Response {
    let rows: Vec<_> = days
        .iter()
        .map(|day| {
            format!(
                r#"{{"AccountId":"{TEST_ACCOUNT}","TransactionId":"{day}","CreditDebitIndicator":"Debit",
                "Status":"Booked","BookingDateTime":"2026-03-{day:02}T10:00:00Z",
                "Amount":{{"Amount":"{day}.00","Currency":"NGN"}}}}"#
            )
        })
        .collect();
    let links = next.map_or(String::new(), |next| format!(r#""Next":"{next}""#));
    json_response(format!(
        r#"{{"Data":{{"Transaction":[{}]}},"Links":{{{links}}}}}"#,
        rows.join(",")
    ))
}

pub(crate) fn balance_response() -> Response {
    json_response(
        r#"{"Data":{"Balance":[{"AccountId":"22289","CreditDebitIndicator":"Credit","Type":"InterimAvailable",
        "DateTime":"2026-03-15T12:00:00Z","Amount":{"Amount":"5.00","Currency":"NGN"}}]}}"#,
    )
}

pub(crate) const ACCOUNTS_BODY: &str =
    r#"{"Data":{"Account":[{"AccountId":"22289","Currency":"NGN"}]}}"#;
