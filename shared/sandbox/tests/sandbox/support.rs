//! A bank with a manual clock, and a client of it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use jiff::Timestamp;
use okra_core::model::bank::BankStandard;
use okra_sandbox::{AccountAddress, LoginId, NewLogin, SandboxBank, SandboxClock, SandboxOptions};
use serde_json::Value;
use tower::ServiceExt;

/// 2027-01-15T08:00:00Z.
pub(crate) const START: i64 = 1_800_000_000;

pub(crate) const BOTH_STANDARDS: [BankStandard; 2] = [BankStandard::Obie31, BankStandard::Obie40];

/// A clock that a test sets.
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub(crate) fn bank_clock(&self) -> SandboxClock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap())
    }

    pub(crate) fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `None` where the connection broke off.
    pub(crate) body: Option<Bytes>,
}

impl ClientResponse {
    pub(crate) fn parse_json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    pub(crate) fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One login of a bank.
pub(crate) struct LoginClient {
    pub(crate) bank: SandboxBank,
    pub(crate) manual_clock: ManualClock,
    pub(crate) login: LoginId,
    pub(crate) token: String,
}

impl LoginClient {
    pub(crate) fn with_options(options: SandboxOptions, login: NewLogin) -> Self {
        let manual_clock = ManualClock::new();
        let bank = SandboxBank::in_memory(options, manual_clock.bank_clock());
        Self::for_bank(bank, manual_clock, login)
    }

    pub(crate) fn for_bank(bank: SandboxBank, manual_clock: ManualClock, login: NewLogin) -> Self {
        let login = bank.create_login(login).unwrap().id;
        let token = bank.link_login(login).unwrap().into_string();
        Self {
            bank,
            manual_clock,
            login,
            token,
        }
    }

    /// A login with ten rows.
    pub(crate) fn with_ten_rows() -> Self {
        Self::with_options(SandboxOptions::default(), login_with_rows(10))
    }

    pub(crate) fn account_address(&self) -> AccountAddress {
        let login = self.bank.find_login(self.login).unwrap();
        AccountAddress {
            login: self.login,
            account_id: login.accounts[0].account_id.clone(),
        }
    }

    /// Gets what is below `/accounts` in version 3.1.
    pub(crate) async fn get_path(&self, subpath: &str) -> ClientResponse {
        self.get_in_standard(BankStandard::Obie31, subpath).await
    }

    pub(crate) async fn get_in_standard(
        &self,
        standard: BankStandard,
        subpath: &str,
    ) -> ClientResponse {
        let path = format!("{}/accounts{subpath}", SandboxBank::base_path(standard));
        send_get(&self.bank.api_router(), &path, Some(&self.token)).await
    }

    /// Gets what is below the first account.
    pub(crate) async fn get_first_account(&self, subpath: &str) -> ClientResponse {
        self.get_path(&format!("/{}{subpath}", self.account_address().account_id))
            .await
    }

    pub(crate) async fn list_transactions(&self) -> Vec<Value> {
        parse_transactions(&self.get_first_account("/transactions").await)
    }

    /// Booked and available balance.
    pub(crate) async fn read_balances(&self) -> (String, String) {
        let json = self.get_first_account("/balances").await.parse_json();
        let of = |kind: &str| {
            let balances = json["Data"]["Balance"].as_array().unwrap();
            let balance = balances.iter().find(|one| one["Type"] == kind).unwrap();
            let sign = match balance["CreditDebitIndicator"].as_str() {
                Some("Debit") => "-",
                _ => "",
            };
            format!("{sign}{}", balance["Amount"]["Amount"].as_str().unwrap())
        };
        (of("InterimBooked"), of("InterimAvailable"))
    }
}

pub(crate) fn login_with_rows(history_rows: u32) -> NewLogin {
    NewLogin {
        name: Some("Adaeze Okonkwo".to_owned()),
        history_rows: Some(history_rows),
        ..NewLogin::default()
    }
}

pub(crate) fn parse_transactions(response: &ClientResponse) -> Vec<Value> {
    assert_eq!(response.status, StatusCode::OK);
    let json = response.parse_json();
    json["Data"]["Transaction"].as_array().unwrap().clone()
}

pub(crate) async fn send_get(router: &Router, path: &str, token: Option<&str>) -> ClientResponse {
    send_request(router, Method::GET, path, token, String::new()).await
}

pub(crate) async fn send_request(
    router: &Router,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: String,
) -> ClientResponse {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "bank.test");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body)).unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.ok().map(Collected::to_bytes);
    ClientResponse {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Where reference material is; prints that a test is skipped where it is missing.
pub(crate) fn reference_path(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("skipped: {} is not here", path.display());
        None
    }
}
