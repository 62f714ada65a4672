//! A bank with a driven clock, and somebody who asks it.

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
use okra_core::bank::Standard;
use okra_sandbox::{Bank, Clock, LoginId, NewLogin, Options, Place};
use serde_json::Value;
use tower::ServiceExt;

/// 2027-01-15T08:00:00Z.
pub(crate) const START: i64 = 1_800_000_000;

pub(crate) const BOTH: [Standard; 2] = [Standard::Obie31, Standard::Obie40];

/// A clock that is moved by hand.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicI64>);

impl Hand {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap())
    }

    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `None` where the connection broke off.
    pub(crate) body: Option<Bytes>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One login of a bank.
pub(crate) struct Probe {
    pub(crate) bank: Bank,
    pub(crate) hand: Hand,
    pub(crate) login: LoginId,
    pub(crate) token: String,
}

impl Probe {
    pub(crate) fn new(options: Options, login: NewLogin) -> Self {
        let hand = Hand::new();
        let bank = Bank::memory(options, hand.clock());
        Self::on(bank, hand, login)
    }

    pub(crate) fn on(bank: Bank, hand: Hand, login: NewLogin) -> Self {
        let login = bank.create_login(login).unwrap().id;
        let token = bank.link(login).unwrap().into_string();
        Self {
            bank,
            hand,
            login,
            token,
        }
    }

    /// A login with ten rows.
    pub(crate) fn small() -> Self {
        Self::new(Options::default(), rows(10))
    }

    pub(crate) fn place(&self) -> Place {
        let login = self.bank.login(self.login).unwrap();
        Place {
            login: self.login,
            account: login.accounts[0].account_id.clone(),
        }
    }

    /// Asks for what is below `/accounts` in version 3.1.
    pub(crate) async fn get(&self, below: &str) -> Answer {
        self.get_in(Standard::Obie31, below).await
    }

    pub(crate) async fn get_in(&self, standard: Standard, below: &str) -> Answer {
        let path = format!("{}/accounts{below}", Bank::base_path(standard));
        ask(&self.bank.router(), &path, Some(&self.token)).await
    }

    /// Asks for what is below the first account.
    pub(crate) async fn first(&self, below: &str) -> Answer {
        self.get(&format!("/{}{below}", self.place().account)).await
    }

    pub(crate) async fn transactions(&self) -> Vec<Value> {
        transactions(&self.first("/transactions").await)
    }

    /// Booked and available balance.
    pub(crate) async fn balances(&self) -> (String, String) {
        let json = self.first("/balances").await.json();
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

pub(crate) fn rows(history_rows: u32) -> NewLogin {
    NewLogin {
        name: Some("Adaeze Okonkwo".to_owned()),
        history_rows: Some(history_rows),
        ..NewLogin::default()
    }
}

pub(crate) fn transactions(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    json["Data"]["Transaction"].as_array().unwrap().clone()
}

pub(crate) async fn ask(router: &Router, path: &str, token: Option<&str>) -> Answer {
    send(router, Method::GET, path, token, String::new()).await
}

pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: String,
) -> Answer {
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
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Where reference material is, if it is anywhere; says so if not.
pub(crate) fn reference(path: &str) -> Option<PathBuf> {
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
