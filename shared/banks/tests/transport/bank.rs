//! Banks on this machine: one that answers by a function, and one that says bytes as it likes.

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
use okra_banks::{AccountRef, Ask, Connectors, ConsentSecret, oauth::Grant};
use okra_core::{
    bank::{BankConfig, BankLimits, Standard},
    fault::{BankFault, FaultClass},
    ids::{AccountId, BankId},
    model::{AccountFacts, AccountSnapshot, Product, Snapshot},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

pub(crate) const TOKEN: &str = "t0ken-5eCret";
pub(crate) const ACCOUNT: &str = "22289";
pub(crate) const BASE: &str = "/open-banking/v3.1/aisp";

/// A bank that is called, and what it was asked.
pub(crate) struct Bank {
    pub(crate) config: BankConfig,
    pub(crate) user_present: Option<std::net::IpAddr>,
    asked: Arc<Mutex<Vec<axum::http::request::Parts>>>,
    connectors: Connectors,
}

impl Bank {
    /// A bank that answers each request, below its base, by a function of path and query.
    pub(crate) async fn answering(
        answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: Request| {
            let (parts, _) = request.into_parts();
            let target = parts.uri.to_string();
            seen.lock().unwrap().push(parts);
            let response = match target.strip_prefix(BASE) {
                Some(target) => answer(target),
                None => status(404),
            };
            async move { response }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self::at(address, asked)
    }

    /// A bank that says these bytes to each caller, each after a pause, and hangs up.
    pub(crate) async fn saying(said: Vec<(Duration, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let said = said.clone();
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 4096]).await;
                    for (pause, bytes) in said {
                        tokio::time::sleep(pause).await;
                        if socket.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self::at(address, Arc::default())
    }

    /// A bank that nobody runs.
    pub(crate) async fn absent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        Self::at(address, Arc::default())
    }

    fn at(address: SocketAddr, asked: Arc<Mutex<Vec<axum::http::request::Parts>>>) -> Self {
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
                standard: Standard::Obie31,
                base_url: format!("http://{address}{BASE}"),
                financial_id: None,
                oauth: None,
                country: "NG".into(),
                limits: BankLimits::default(),
            },
            user_present: None,
            asked,
            connectors: Connectors::new(tls).unwrap(),
        }
    }

    pub(crate) fn with(mut self, limit: impl FnOnce(&mut BankLimits)) -> Self {
        limit(&mut self.config.limits);
        self
    }

    fn secret() -> ConsentSecret {
        ConsentSecret::bearer(TOKEN)
    }

    pub(crate) async fn fetch(&self, accounts: &[&str], products: &[Product]) -> Snapshot {
        let accounts: Vec<_> = accounts
            .iter()
            .map(|&bank_account_id| AccountRef {
                id: account_id(bank_account_id),
                bank_account_id,
            })
            .collect();
        let ask = Ask {
            products,
            from: date(2026, 3, 1),
            now: now(),
            user_present: self.user_present,
        };
        let snapshot = self
            .connectors
            .fetch(&self.config, &Self::secret(), &accounts, ask)
            .await;
        for account in &snapshot.accounts {
            for fault in faults(account) {
                check_silent(fault);
            }
        }
        snapshot
    }

    pub(crate) async fn accounts(&self) -> Result<Vec<AccountFacts>, BankFault> {
        let secret = Self::secret();
        let answered = self.connectors.accounts(&self.config, &secret, now()).await;
        answered.as_ref().err().inspect(|fault| check_silent(fault));
        answered
    }

    /// The fault of one call.
    pub(crate) async fn fault(&self) -> BankFault {
        self.accounts().await.unwrap_err()
    }

    pub(crate) async fn check_fault(&self, class: FaultClass, detail: &str) {
        let fault = self.fault().await;
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.detail.contains(detail), "{fault}");
    }

    /// Path and query of each request, below the base where they are.
    pub(crate) async fn token(&self, grant: Grant<'_>) -> Result<ConsentSecret, BankFault> {
        self.connectors
            .token(&self.config, "s3cret/+", grant, now())
            .await
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let target = |uri: String| uri.strip_prefix(BASE).unwrap_or(&uri).to_owned();
        asked.iter().map(|it| target(it.uri.to_string())).collect()
    }

    /// A header of the last request.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let asked = self.asked.lock().unwrap();
        let value = asked.last()?.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    pub(crate) fn origin(&self) -> &str {
        self.config.base_url.strip_suffix(BASE).unwrap()
    }
}

fn faults(account: &AccountSnapshot) -> impl Iterator<Item = &BankFault> {
    let balance = account.balance.as_ref().and_then(|it| it.as_ref().err());
    let rows = account.transactions.as_ref();
    balance
        .into_iter()
        .chain(rows.and_then(|it| it.as_ref().err()))
}

/// No token, account or payload in what an operator reads.
fn check_silent(fault: &BankFault) {
    let shown = format!("{fault:?} {fault}");
    for secret in [TOKEN, "5eCret", ACCOUNT, "127.0.0.1", BASE] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

pub(crate) fn account_id(bank_account_id: &str) -> AccountId {
    AccountId::derive(&[bank_account_id.as_bytes()])
}

pub(crate) fn json(body: impl Into<Body>) -> Response {
    ([("content-type", "application/json")], body.into()).into_response()
}

pub(crate) fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

pub(crate) fn status_after(code: u16, retry_after: &str) -> Response {
    let mut response = status(code);
    response
        .headers_mut()
        .insert(RETRY_AFTER, retry_after.parse().unwrap());
    response
}

pub(crate) fn redirect(code: u16, to: &str) -> Response {
    let mut response = status(code);
    response.headers_mut().insert(LOCATION, to.parse().unwrap());
    response
}

/// A page of transactions booked on days of March 2026, each with its day as id.
pub(crate) fn page(days: &[u8], next: Option<&str>) -> Response {
    let rows: Vec<_> = days
        .iter()
        .map(|day| {
            format!(
                r#"{{"AccountId":"{ACCOUNT}","TransactionId":"{day}","CreditDebitIndicator":"Debit",
                "Status":"Booked","BookingDateTime":"2026-03-{day:02}T10:00:00Z",
                "Amount":{{"Amount":"{day}.00","Currency":"NGN"}}}}"#
            )
        })
        .collect();
    let links = next.map_or(String::new(), |next| format!(r#""Next":"{next}""#));
    json(format!(
        r#"{{"Data":{{"Transaction":[{}]}},"Links":{{{links}}}}}"#,
        rows.join(",")
    ))
}

pub(crate) fn balance() -> Response {
    json(
        r#"{"Data":{"Balance":[{"AccountId":"22289","CreditDebitIndicator":"Credit","Type":"InterimAvailable",
        "DateTime":"2026-03-15T12:00:00Z","Amount":{"Amount":"5.00","Currency":"NGN"}}]}}"#,
    )
}

pub(crate) const ACCOUNTS: &str =
    r#"{"Data":{"Account":[{"AccountId":"22289","Currency":"NGN"}]}}"#;
