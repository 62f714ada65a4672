//! The routes, in one table.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
        },
    },
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use okra_app::Services;
use okra_core::model::ids::AppId;
use serde_json::Value;

use crate::{
    HandlerFuture, accounts, auth, auths, balances, banks,
    call::ApiRequest,
    callback, customers, deliveries, downloads,
    envelope::{ApiError, ApiResponse},
    feed, history,
    input::Input,
    jobs, keys, link, links, products, records, reference, refresh, removals, repeats, sync,
    system, transactions, webhooks,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Anybody; an app with its secret key sees its own besides.
    Either,
    /// An app, with its secret key.
    Key,
}

/// Which methods a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    Get,
    Post,
    /// A POST that changes something: it may be named with `Idempotency-Key`.
    Change,
    Both,
}

/// Whose a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Okra's: its clients call it.
    Okra,
    /// Ours: an extension.
    Ours,
}

/// One route. Its path stands under every prefix of Okra's.
pub struct Route {
    /// Path after the prefix, without a leading slash.
    pub path: &'static str,
    methods: Methods,
    /// Who may call it.
    pub access: Access,
    /// Whose it is.
    pub origin: Origin,
    /// The handler's path, by which its documentation is found.
    #[cfg(feature = "openapi")]
    pub(crate) handler_name: &'static str,
    handler: fn(&ApiRequest) -> HandlerFuture<'_>,
}

impl Methods {
    fn allows_method(self, method: &Method) -> bool {
        let (get, post) = (
            method == Method::GET || method == Method::HEAD,
            method == Method::POST,
        );
        match self {
            Self::Get => get,
            Self::Post | Self::Change => post,
            Self::Both => get || post,
        }
    }

    /// As in the header `allow`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post | Self::Change => "POST",
            Self::Both => "GET, POST",
        }
    }
}

impl Route {
    /// A method it answers.
    pub const fn main_method(&self) -> Method {
        match self.methods {
            Methods::Get => Method::GET,
            Methods::Post | Methods::Change | Methods::Both => Method::POST,
        }
    }

    /// Whether a call of it changes something.
    pub fn is_change(&self) -> bool {
        self.methods == Methods::Change
    }

    /// All methods it answers, `HEAD` aside.
    pub fn all_methods(&self) -> Vec<&'static str> {
        self.methods.as_str().split(", ").collect()
    }
}

macro_rules! routes {
    ($($method:ident $access:ident $origin:ident $path:literal => $handler:path;)+) => {
        /// The whole API.
        pub const ROUTES: &[Route] = &[$(Route {
            path: $path,
            methods: Methods::$method,
            access: Access::$access,
            origin: Origin::$origin,
            #[cfg(feature = "openapi")]
            handler_name: stringify!($handler),
            handler: |call| Box::pin($handler(call)),
        }),+];
    };
}

routes! {
    Both Open Ours "health" => system::get_health;
    Get Open Ours "openapi.json" => reference::get_openapi_document;
    Get Open Ours "docs" => reference::get_reference_page;
    Both Either Okra "banks/list" => banks::list_banks;
    Both Either Okra "banks/getById" => banks::get_bank_by_id;
    Change Key Ours "banks/add" => banks::add_bank;
    Change Key Ours "banks/remove" => banks::remove_bank;

    Change Key Okra "customers/create" => customers::create_customers;
    Change Key Okra "customers/generate" => customers::generate_customers;
    Post Key Okra "customers/list" => customers::list_customers;
    Post Key Okra "customers/get" => customers::get_customer;
    Change Key Okra "customers/retry" => refresh::refresh_all_products;
    Post Key Okra "customers/find-customers-by" => customers::find_customers;
    Change Key Okra "customers/remove" => removals::remove_customer;
    Change Key Okra "customers/flag" => customers::flag_customer;
    Change Key Okra "customers/unflag" => customers::unflag_customer;
    Post Key Okra "customers/dti/get" => customers::get_debt_to_income;
    Change Key Ours "records/link" => link::link_or_renew_record;
    Change Key Okra "links/new" => links::create_short_link;
    Post Key Ours "links/list" => links::list_short_links;
    Post Key Ours "links/get" => links::get_short_link;
    Change Key Ours "links/remove" => links::remove_short_link;
    Change Key Ours "records/unlink" => removals::unlink_record;
    Post Key Ours "receipts/get" => removals::get_receipt;
    Post Key Ours "receipts/list" => removals::list_receipts;
    Post Key Ours "keys/list" => keys::list_keys;
    Change Key Ours "keys/rotate" => keys::rotate_key;
    Change Key Ours "keys/revoke" => keys::revoke_key;
    Post Key Okra "products/records" => records::list_records;
    Post Key Okra "products/records/get" => records::get_record;
    Post Key Okra "products/records/getByCustomerByBank" => records::get_records_by_customer_by_bank;
    Post Key Okra "products/list" => products::list_products;
    Post Key Okra "products/all/byRecord" => products::get_all_by_record;
    Post Key Okra "products/all/byCustomer" => products::get_all_by_customer;
    Post Key Okra "products/total-debits-credits" => products::get_totals;
    Post Key Okra "products/records/credit-debit/get" => products::get_totals;
    Post Key Okra "products/transactions/spending-pattern" => products::get_spending_pattern;
    Post Key Okra "products/spending-patterns/process" => products::get_spending_pattern;

    Change Key Okra "auto-refresh" => sync::subscribe_to_data_sync;
    Change Key Ours "data-sync" => sync::subscribe_to_data_sync;
    Post Key Ours "data-sync/list" => sync::list_subscriptions;
    Change Key Ours "data-sync/cancel" => sync::cancel_subscription;

    Post Key Okra "auth/getById" => auths::get_auth_by_id;
    Post Key Okra "auth/getByCustomer" => auths::get_auth_by_customer;
    Post Key Okra "auth/getByBank" => auths::get_auth_by_bank;
    Post Key Okra "auth/getByDate" => auths::get_auth_by_date;
    Post Key Okra "auth/getByCustomerDate" => auths::get_auth_by_customer_date;
    Post Key Okra "auth/getByDateCustomer" => auths::get_auth_by_customer_date;
    Post Key Okra "auth/byOptions" => auths::get_auth_by_options;
    Post Key Okra "auth/getByOptions" => auths::get_auth_by_options;
    Post Key Okra "products/auths" => auths::list_all_auth;
    Post Key Okra "products/auth/get" => auths::list_all_auth;

    Post Key Okra "accounts/getById" => accounts::get_account_by_id;
    Post Key Okra "account/getById" => accounts::get_account_by_id;
    Post Key Okra "accounts/getAccountDetails" => accounts::get_account_details;
    Post Key Okra "account/getAccountDetails" => accounts::get_account_details;
    Post Key Okra "accounts/getByCustomer" => accounts::get_accounts_by_customer;
    Post Key Okra "account/getByCustomer" => accounts::get_accounts_by_customer;
    Post Key Okra "accounts/getByBank" => accounts::get_accounts_by_bank;
    Post Key Okra "account/getByBank" => accounts::get_accounts_by_bank;
    Post Key Okra "accounts/getByDate" => accounts::get_accounts_by_date;
    Post Key Okra "account/getByDate" => accounts::get_accounts_by_date;
    Post Key Okra "accounts/getByName" => accounts::get_accounts_by_name;
    Post Key Okra "account/getByName" => accounts::get_accounts_by_name;
    Post Key Okra "accounts/getByBalance" => accounts::get_accounts_by_balance;
    Post Key Okra "account/getByBalance" => accounts::get_accounts_by_balance;
    Post Key Okra "accounts/getByCustomerDate" => accounts::get_accounts_by_customer_date;
    Post Key Okra "account/getByCustomerDate" => accounts::get_accounts_by_customer_date;
    Post Key Okra "products/accounts" => accounts::list_accounts;

    Change Key Okra "balance/refresh" => refresh::refresh_balance;
    Change Key Okra "balance/check" => refresh::check_balance;
    Change Key Okra "products/balance/periodic" => refresh::refresh_periodic_balance;
    Post Key Okra "balance/getById" => balances::get_balance_by_id;
    Post Key Okra "balance/getBalanceById" => balances::get_balance_by_id;
    Post Key Okra "balance/getByCustomer" => balances::get_balances_by_customer;
    Post Key Okra "balance/getByAccount" => balances::get_balance_by_account;
    Post Key Okra "balance/getByBank" => balances::get_balances_by_bank;
    Post Key Okra "balance/getByDate" => balances::get_balances_by_date;
    Post Key Okra "balance/getByCustomerDate" => balances::get_balances_by_customer_date;
    Post Key Okra "balance/byOptions" => balances::get_balances_by_options;
    Post Key Okra "balance/getByType" => balances::get_balances_by_type;
    Post Key Okra "balance/process" => balances::get_processed_balance;
    Post Key Okra "transactions/balance/process" => balances::get_processed_balance;
    Post Key Okra "transaction/balance/process" => balances::get_processed_balance;
    Post Key Okra "products/balances" => balances::list_balances;

    Change Key Okra "transactions/refresh" => refresh::refresh_transactions;
    Change Key Okra "transaction/refresh" => refresh::refresh_transactions;
    Change Key Okra "products/transactions/periodic" => refresh::refresh_periodic_transactions;
    Post Key Okra "transactions/getById" => transactions::get_transaction_by_id;
    Post Key Okra "transaction/getById" => transactions::get_transaction_by_id;
    Post Key Okra "transactions/getByCustomer" => transactions::get_transactions_by_customer;
    Post Key Okra "transaction/getByCustomer" => transactions::get_transactions_by_customer;
    Post Key Okra "transactions/getByCustomerDate" => transactions::get_transactions_by_customer;
    Post Key Okra "transaction/getByCustomerDate" => transactions::get_transactions_by_customer;
    Post Key Okra "transactions/getByAccount" => transactions::get_transactions_by_account;
    Post Key Okra "transaction/getByAccount" => transactions::get_transactions_by_account;
    Post Key Okra "transactions/getByBank" => transactions::get_transactions_by_bank;
    Post Key Okra "transaction/getByBank" => transactions::get_transactions_by_bank;
    Post Key Okra "transactions/getByDate" => transactions::get_transactions_by_date;
    Post Key Okra "transaction/getByDate" => transactions::get_transactions_by_date;
    Post Key Okra "transactions/getByType" => transactions::get_transactions_by_type;
    Post Key Okra "transaction/getByType" => transactions::get_transactions_by_type;
    Post Key Okra "transactions/byOptions" => transactions::get_transactions_by_options;
    Post Key Okra "transaction/byOptions" => transactions::get_transactions_by_options;
    Post Key Okra "transactions/byRecord" => transactions::get_transactions_by_record;
    Post Key Okra "transaction/byRecord" => transactions::get_transactions_by_record;
    Post Key Okra "records/transactions/get" => transactions::get_transactions_by_record;
    Post Key Okra "transactions/getByNuban" => transactions::get_transactions_by_nuban;
    Post Key Okra "transaction/getByNuban" => transactions::get_transactions_by_nuban;
    Post Key Okra "transactions/process" => transactions::get_transactions_by_account;
    Post Key Okra "transaction/process" => transactions::get_transactions_by_account;
    Post Key Okra "products/transactions" => transactions::count_transactions;
    Post Key Okra "products/transactions/get" => transactions::count_transactions;
    Post Key Okra "products/transactions/download" => downloads::download_transactions;
    Post Key Okra "products/record/download" => downloads::download_transactions;
    Both Key Okra "callback" => callback::get_callback_data;
    Both Key Ours "jobs/get" => jobs::get_job;

    Post Key Ours "feed/read" => feed::read_feed;
    Post Key Ours "transactions/sync" => feed::read_feed;
    Post Key Ours "history/versions" => history::list_transaction_versions;
    Post Key Ours "history/transaction" => history::get_past_transaction;
    Post Key Ours "history/balance" => history::get_past_balance;

    Change Key Ours "webhooks/set" => webhooks::set_webhook;
    Post Key Ours "webhooks/list" => webhooks::list_webhooks;
    Change Key Ours "webhooks/remove" => webhooks::remove_webhook;
    Change Key Ours "webhooks/secret" => webhooks::get_signing_secret;
    Change Key Ours "webhooks/test" => webhooks::test_webhook;
    Change Key Ours "webhooks/enable" => webhooks::enable_webhook;
    Change Key Ours "webhooks/disable" => webhooks::disable_webhook;
    Post Key Ours "webhooks/deliveries" => deliveries::list_deliveries;
    Change Key Ours "webhooks/replay" => deliveries::start_replay;
    Post Key Ours "webhooks/replay/get" => deliveries::get_replay;
    Post Key Ours "webhooks/replay/list" => deliveries::list_replays;
    Change Key Ours "webhooks/replay/cancel" => deliveries::cancel_replay;

    Post Key Ours "events/list" => deliveries::list_events;
    Post Key Ours "events/deliveries" => deliveries::list_event_deliveries;
    Change Key Ours "events/resend" => deliveries::resend_event;
    Change Key Okra "callback/trigger" => deliveries::trigger_callbacks;
}

/// First segments that Okra's hosts had before the path, in any mixture.
const PREFIXES: [&str; 3] = ["v1", "v2", "sandbox"];

/// Families that Okra had and this system does not: they answer 501 rather than 404.
const UNSUPPORTED_FAMILIES: [&str; 12] = [
    "identity",
    "identities",
    "income",
    "kyc",
    "pay",
    "payment",
    "payments",
    "authorization",
    "wallet",
    "reports",
    "liabilities",
    "investments",
];

/// Bytes of an answer that is read in process at most; a page of the longest rows is a tenth of it.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Prefix segments of a path at most.
const MAX_PREFIX_SEGMENTS: usize = 3;

/// The path after Okra's prefixes, with double slashes collapsed.
pub(crate) fn normalise_path(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // A stage that a gateway leaves in front of a prefix.
    if let [stage, prefix, _, ..] = segments.as_slice()
        && !PREFIXES.contains(stage)
        && PREFIXES.contains(prefix)
    {
        segments.remove(0);
    }
    for _ in 0..MAX_PREFIX_SEGMENTS {
        if segments.len() > 1
            && segments
                .first()
                .is_some_and(|first| PREFIXES.contains(first))
        {
            segments.remove(0);
        }
    }
    segments.join("/")
}

/// Okra's family of a path, as errors name it.
pub(crate) fn find_family(path: &str) -> &'static str {
    let families = [
        ("balance", "BALANCE"),
        ("transaction", "TRANSACTIONS"),
        ("account", "ACCOUNTS"),
        ("record", "RECORDS"),
        ("customer", "CUSTOMERS"),
        ("bank", "BANKS"),
        ("auth/", "AUTH"),
        ("auths", "AUTH"),
    ];
    families
        .into_iter()
        .find(|(part, _)| path.contains(part))
        .map_or("API", |(_, family)| family)
}

pub(crate) async fn serve_request(services: Arc<Services>, request: Request) -> Response {
    // Zeros where there is no randomness: they name no request, and refuse none either.
    let request_id = HEXLOWER.encode(&services.random_bytes::<12>().unwrap_or_default());
    let path = normalise_path(request.uri().path());
    let is_head = request.method() == Method::HEAD;
    let answered = route_request(services, &path, request).await;
    let mut response =
        answered.unwrap_or_else(|refusal| refusal.into_response(&request_id, find_family(&path)));
    if is_head {
        *response.body_mut() = Body::empty();
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Runs a route for an app, without a request.
pub(crate) async fn call_route(
    services: Arc<Services>,
    app: AppId,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request_id = HEXLOWER.encode(&services.random_bytes::<12>().unwrap_or_default());
    let answered = async {
        let route = ROUTES.iter().find(|route| route.path == path);
        let route = route.ok_or_else(|| missing_route_error(path))?;
        let app = services.store.find_app(app).await?;
        let app = app.ok_or_else(ApiError::unauthorised)?;
        let call = ApiRequest::new(
            Arc::clone(&services),
            Input::from_json(body)?,
            Some(Arc::new(app)),
        );
        (route.handler)(&call).await
    };
    let response = match answered.await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&request_id, find_family(path)),
    };
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), MAX_RESPONSE_BYTES).await;
    let body = body.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn route_request(services: Arc<Services>, path: &str, request: Request) -> ApiResponse {
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return Err(missing_route_error(path));
    };
    if request.method() == Method::OPTIONS {
        return Ok(respond_to_options(route));
    }
    if !route.methods.allows_method(request.method()) {
        return Err(ApiError::wrong_method(route.methods.as_str()));
    }
    let app = match route.access {
        Access::Open => None,
        Access::Either => auth::find_app_by_key(&services, request.headers()).await?,
        Access::Key => Some(auth::authenticate_app(&services, request.headers()).await?),
    };
    let headers = request.headers().clone();
    let (input, said) = Input::read_request(request).await?;
    let named = match &app {
        Some(app) if route.is_change() => {
            repeats::parse_idempotency_key(&headers, app.id, path, &said)?
        }
        _ => None,
    };
    let call = ApiRequest::new(services, input, app);
    let run = (route.handler)(&call);
    let mut answered = match named {
        Some(named) => repeats::run_once(&call.services, named, run).await,
        None => run.await,
    };
    if let (Access::Open | Access::Either, Ok(response)) = (route.access, &mut answered) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    answered
}

/// What may be done with a route. Pages of any origin may call what is open; what wants a secret key is
/// not for pages, so browsers are told of no origin that may.
fn respond_to_options(route: &Route) -> Response {
    let methods = HeaderValue::from_static(route.methods.as_str());
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, methods.clone());
    if route.access != Access::Key {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let fields = HeaderValue::from_static("content-type");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields);
    }
    response
}

fn missing_route_error(path: &str) -> ApiError {
    let mut segments = path.split('/');
    let first = segments.next().unwrap_or_default();
    let family = match first {
        "products" => segments.next().unwrap_or_default(),
        family => family,
    };
    if UNSUPPORTED_FAMILIES.contains(&family) {
        let message = format!("{family} is not part of this system, which syncs bank data");
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message);
    }
    let message = "There is no such endpoint";
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_okras_leads_to_one_path() {
        for path in [
            "/balance/refresh",
            "/v2/balance/refresh",
            "/v1/balance/refresh",
            "/sandbox/v2/balance/refresh",
            "/v2/sandbox/balance/refresh",
            "/v2/sandbox/sandbox/balance/refresh",
            "/v2//balance//refresh/",
            "/prod/v2/balance/refresh",
        ] {
            assert_eq!(normalise_path(path), "balance/refresh", "{path}");
        }
        assert_eq!(normalise_path("/"), "");
        assert_eq!(normalise_path("/v2"), "v2");
    }

    #[test]
    fn no_path_stands_twice() {
        let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}
