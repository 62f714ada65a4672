//! The API's routes and headers: one [`AccountApi`] for each version of the standard.

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
use okra_core::model::bank::BankStandard;

use super::{
    error::AccountApiError,
    respond::{AccountApiRequest, AccountApiResponse, respond_to_request},
    token_endpoint::token_router,
};
use crate::{
    bank::state::SandboxBank,
    fault::{RateLimitFault, SandboxResource},
    hash::SeededRandom,
};

/// Correlates a request with its response; generated where the request has none.
const INTERACTION_ID: HeaderName = HeaderName::from_static("x-fapi-interaction-id");
const JSON_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BEARER_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");
/// What a gateway responds with when the bank behind it is down.
const GATEWAY_PAGE: &[u8] = b"<html><body><h1>503 Service Unavailable</h1></body></html>";
/// Bytes a broken connection promises and never sends.
const PROMISED_BYTES: u64 = 1_024;

pub(crate) fn account_api_router(bank: &SandboxBank) -> Router {
    version_router(bank, BankStandard::Obie31)
        .merge(version_router(bank, BankStandard::Obie40))
        .merge(token_router(bank))
        .layer(from_fn_with_state(bank.clone(), attach_interaction_id))
}

fn version_router(bank: &SandboxBank, standard: BankStandard) -> Router {
    let api = AccountApi {
        bank: bank.clone(),
        standard,
    };
    let accounts = format!("{}/accounts", SandboxBank::base_path(standard));
    let account = format!("{accounts}/{{account}}");
    Router::new()
        .route(&accounts, get(get_accounts))
        .route(&account, get(get_account))
        .route(&format!("{account}/balances"), get(get_balances))
        .route(&format!("{account}/transactions"), get(get_transactions))
        .with_state(api)
}

/// Every response, whatever it is, carries the id of its request.
async fn attach_interaction_id(
    State(bank): State<SandboxBank>,
    request: Request,
    next: Next,
) -> Response {
    let call = bank.count_call();
    let id = request.headers().get(INTERACTION_ID).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id.or_else(|| generate_interaction_id(&bank, call)) {
        response.headers_mut().insert(INTERACTION_ID, id);
    }
    response
}

/// A UUID in form; what matters is that no two calls share one.
fn generate_interaction_id(bank: &SandboxBank, call: u64) -> Option<HeaderValue> {
    let mut random = SeededRandom::new(bank.options().seed, call);
    let (high, low) = (random.next_number(), random.next_number());
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

async fn get_accounts(State(api): State<AccountApi>, headers: HeaderMap, uri: Uri) -> Response {
    api.serve_request(SandboxResource::Accounts, None, &headers, &uri)
        .await
}

async fn get_account(
    State(api): State<AccountApi>,
    Path(account): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    api.serve_request(SandboxResource::Accounts, Some(&account), &headers, &uri)
        .await
}

async fn get_balances(
    State(api): State<AccountApi>,
    Path(account): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    api.serve_request(SandboxResource::Balances, Some(&account), &headers, &uri)
        .await
}

async fn get_transactions(
    State(api): State<AccountApi>,
    Path(account): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let resource = SandboxResource::Transactions;
    api.serve_request(resource, Some(&account), &headers, &uri)
        .await
}

/// The API in one version of the standard.
#[derive(Clone)]
struct AccountApi {
    bank: SandboxBank,
    standard: BankStandard,
}

impl AccountApi {
    async fn serve_request(
        &self,
        resource: SandboxResource,
        account: Option<&str>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Response {
        let outcome = respond_to_request(
            &self.bank,
            &AccountApiRequest {
                standard: self.standard,
                resource,
                account,
                token: bearer_token(headers),
                uri,
                url: &self.request_url(headers, uri),
            },
        );
        if outcome.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(outcome.delay_ms.into())).await;
        }
        self.render_http_response(outcome.response)
    }

    /// The request's whole URL, with the host that the bank is known by.
    fn request_url(&self, headers: &HeaderMap, uri: &Uri) -> String {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match &self.bank.options().public_url {
            Some(public) => format!("{}{path}", public.trim_end_matches('/')),
            None => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                format!("http://{}{path}", host.unwrap_or("localhost"))
            }
        }
    }

    fn render_http_response(&self, response: AccountApiResponse) -> Response {
        match response {
            AccountApiResponse::Json(body) => {
                build_http_response(StatusCode::OK, JSON_CONTENT_TYPE, body)
            }
            AccountApiResponse::Html(body) => {
                build_http_response(StatusCode::OK, HTML_CONTENT_TYPE, body)
            }
            AccountApiResponse::Error(error) => render_api_error(error, self.standard),
            AccountApiResponse::RateLimited(limit) => render_rate_limit(limit),
            AccountApiResponse::Unavailable => build_http_response(
                StatusCode::SERVICE_UNAVAILABLE,
                HTML_CONTENT_TYPE,
                Bytes::from_static(GATEWAY_PAGE),
            ),
            AccountApiResponse::BrokenConnection => break_connection(),
        }
    }
}

fn render_api_error(error: AccountApiError, standard: BankStandard) -> Response {
    let Ok(body) = serde_json::to_vec(&error.response_body(standard)) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response =
        build_http_response(error.status_code(), JSON_CONTENT_TYPE, Bytes::from(body));
    if error.status_code() == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, BEARER_CHALLENGE);
    }
    response
}

fn render_rate_limit(limit: RateLimitFault) -> Response {
    let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
    if let Some(seconds) = limit.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A response whose connection breaks before its body.
fn break_connection() -> Response {
    let reset = futures::stream::once(async {
        Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let mut response = Body::from_stream(reset).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, PROMISED_BYTES.into());
    headers.insert(CONTENT_TYPE, JSON_CONTENT_TYPE);
    response
}

fn build_http_response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}
