//! The Account and Transaction API over HTTP, versions 3.1 and 4.0.

mod answer;
mod problem;
mod shape;
mod spoil;
pub(crate) mod token;
mod window;

pub use token::TOKEN_PATH;

use std::{io, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE},
};
use okra_core::bank::Standard;

use crate::{bank::Bank, fault::Resource, hash::Draw};
use answer::{Ask, Reply, answer};

/// Correlates a request with its answer; made up where the request has none.
const INTERACTION_ID: HeaderName = HeaderName::from_static("x-fapi-interaction-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
/// What a gateway says when the bank behind it is gone.
const GATEWAY_PAGE: &[u8] = b"<html><body><h1>503 Service Unavailable</h1></body></html>";
/// Bytes a broken connection promises and never sends.
const PROMISED_BYTES: u64 = 1_024;

pub(crate) fn router(bank: &Bank) -> Router {
    let version = |standard| {
        let api = Api {
            bank: bank.clone(),
            standard,
        };
        let accounts = format!("{}/accounts", Bank::base_path(standard));
        let account = format!("{accounts}/{{account}}");
        Router::new()
            .route(&accounts, get(all_accounts))
            .route(&account, get(one_account))
            .route(&format!("{account}/balances"), get(balances))
            .route(&format!("{account}/transactions"), get(transactions))
            .with_state(api)
    };
    version(Standard::Obie31)
        .merge(version(Standard::Obie40))
        .merge(token::router(bank))
        .layer(from_fn_with_state(bank.clone(), correlate))
}

/// Every answer, whatever it is, carries the id of its request.
async fn correlate(State(bank): State<Bank>, request: Request, next: Next) -> Response {
    let call = bank.count_call();
    let id = request.headers().get(INTERACTION_ID).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id.or_else(|| interaction_id(&bank, call)) {
        response.headers_mut().insert(INTERACTION_ID, id);
    }
    response
}

/// A UUID in form; what matters is that no two calls share one.
fn interaction_id(bank: &Bank, call: u64) -> Option<HeaderValue> {
    let mut draw = Draw::new(bank.options().seed, call);
    let (high, low) = (draw.next(), draw.next());
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFF,
        low >> 52,
        low & 0xFFFF_FFFF_FFFF
    );
    HeaderValue::try_from(id).ok()
}

async fn all_accounts(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Response {
    api.serve(Resource::Accounts, None, &headers, &uri).await
}

type OfAccount = (State<Api>, Path<String>, HeaderMap, Uri);

async fn one_account(request: OfAccount) -> Response {
    of_account(Resource::Accounts, request).await
}

async fn balances(request: OfAccount) -> Response {
    of_account(Resource::Balances, request).await
}

async fn transactions(request: OfAccount) -> Response {
    of_account(Resource::Transactions, request).await
}

async fn of_account(
    resource: Resource,
    (State(api), Path(account), headers, uri): OfAccount,
) -> Response {
    api.serve(resource, Some(&account), &headers, &uri).await
}

#[derive(Clone)]
struct Api {
    bank: Bank,
    standard: Standard,
}

impl Api {
    async fn serve(
        &self,
        resource: Resource,
        account: Option<&str>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Response {
        let outcome = answer(
            &self.bank,
            &Ask {
                standard: self.standard,
                resource,
                account,
                token: bearer(headers),
                uri,
                url: &self.url(headers, uri),
            },
        );
        if outcome.slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(outcome.slow_ms.into())).await;
        }
        self.response(outcome.reply)
    }

    /// The URL that was asked for, with the host the bank is known by.
    fn url(&self, headers: &HeaderMap, uri: &Uri) -> String {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match &self.bank.options().public_url {
            Some(public) => format!("{}{path}", public.trim_end_matches('/')),
            None => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                format!("http://{}{path}", host.unwrap_or("localhost"))
            }
        }
    }

    fn response(&self, reply: Reply) -> Response {
        match reply {
            Reply::Json(body) => respond(StatusCode::OK, JSON, body),
            Reply::Html(body) => respond(StatusCode::OK, HTML, body),
            Reply::Problem(problem) => {
                let body = Bytes::from(problem.body(self.standard));
                let mut response = respond(problem.status(), JSON, body);
                if problem.status() == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
                }
                response
            }
            Reply::TooMany(limit) => {
                let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
                if let Some(seconds) = limit.retry_after_s {
                    response.headers_mut().insert(RETRY_AFTER, seconds.into());
                }
                response
            }
            Reply::Unavailable => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                HTML,
                Bytes::from_static(GATEWAY_PAGE),
            ),
            Reply::Drop => {
                let gone = futures::stream::once(async {
                    Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
                });
                let mut response = Body::from_stream(gone).into_response();
                let headers = response.headers_mut();
                headers.insert(CONTENT_LENGTH, PROMISED_BYTES.into());
                headers.insert(CONTENT_TYPE, JSON);
                response
            }
        }
    }
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}
