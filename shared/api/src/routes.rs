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
use okra_core::ids::AppId;
use serde_json::Value;

use crate::{
    ApiState, Handled, accounts, auth, auths, balances, banks,
    call::Call,
    callback, customers, deliveries, downloads,
    envelope::{Answer, Refusal},
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
    handler: fn(&Call) -> Handled<'_>,
}

impl Methods {
    fn answer(self, method: &Method) -> bool {
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
    pub const fn method(&self) -> Method {
        match self.methods {
            Methods::Get => Method::GET,
            Methods::Post | Methods::Change | Methods::Both => Method::POST,
        }
    }

    /// Whether a call of it changes something.
    pub fn changes(&self) -> bool {
        self.methods == Methods::Change
    }

    /// All methods it answers, `HEAD` aside.
    pub fn methods(&self) -> Vec<&'static str> {
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
    Both Open Ours "health" => system::health;
    Get Open Ours "openapi.json" => reference::openapi;
    Get Open Ours "docs" => reference::page;
    Both Either Okra "banks/list" => banks::list;
    Both Either Okra "banks/getById" => banks::get_by_id;
    Change Key Ours "banks/add" => banks::add;
    Change Key Ours "banks/remove" => banks::remove;

    Change Key Okra "customers/create" => customers::create;
    Change Key Okra "customers/generate" => customers::generate;
    Post Key Okra "customers/list" => customers::list;
    Post Key Okra "customers/get" => customers::get;
    Change Key Okra "customers/retry" => refresh::all;
    Post Key Okra "customers/find-customers-by" => customers::find;
    Change Key Okra "customers/remove" => removals::customer;
    Change Key Okra "customers/flag" => customers::flag;
    Change Key Okra "customers/unflag" => customers::unflag;
    Post Key Okra "customers/dti/get" => customers::debt_to_income;
    Change Key Ours "records/link" => link::link;
    Change Key Okra "links/new" => links::make;
    Post Key Ours "links/list" => links::list;
    Post Key Ours "links/get" => links::get;
    Change Key Ours "links/remove" => links::remove;
    Change Key Ours "records/unlink" => removals::unlink;
    Post Key Ours "receipts/get" => removals::receipt;
    Post Key Ours "receipts/list" => removals::receipts;
    Post Key Ours "keys/list" => keys::list;
    Change Key Ours "keys/rotate" => keys::rotate;
    Change Key Ours "keys/revoke" => keys::revoke;
    Post Key Okra "products/records" => records::list;
    Post Key Okra "products/records/get" => records::get;
    Post Key Okra "products/records/getByCustomerByBank" => records::get_by_customer_by_bank;
    Post Key Okra "products/list" => products::list;
    Post Key Okra "products/all/byRecord" => products::all_by_record;
    Post Key Okra "products/all/byCustomer" => products::all_by_customer;
    Post Key Okra "products/total-debits-credits" => products::totals;
    Post Key Okra "products/records/credit-debit/get" => products::totals;
    Post Key Okra "products/transactions/spending-pattern" => products::spending;
    Post Key Okra "products/spending-patterns/process" => products::spending;

    Change Key Okra "auto-refresh" => sync::subscribe;
    Change Key Ours "data-sync" => sync::subscribe;
    Post Key Ours "data-sync/list" => sync::list;
    Change Key Ours "data-sync/cancel" => sync::cancel;

    Post Key Okra "auth/getById" => auths::get_by_id;
    Post Key Okra "auth/getByCustomer" => auths::get_by_customer;
    Post Key Okra "auth/getByBank" => auths::get_by_bank;
    Post Key Okra "auth/getByDate" => auths::get_by_date;
    Post Key Okra "auth/getByCustomerDate" => auths::get_by_customer_date;
    Post Key Okra "auth/getByDateCustomer" => auths::get_by_customer_date;
    Post Key Okra "auth/byOptions" => auths::get_by_options;
    Post Key Okra "auth/getByOptions" => auths::get_by_options;
    Post Key Okra "products/auths" => auths::all;
    Post Key Okra "products/auth/get" => auths::all;

    Post Key Okra "accounts/getById" => accounts::get_by_id;
    Post Key Okra "account/getById" => accounts::get_by_id;
    Post Key Okra "accounts/getAccountDetails" => accounts::details;
    Post Key Okra "account/getAccountDetails" => accounts::details;
    Post Key Okra "accounts/getByCustomer" => accounts::get_by_customer;
    Post Key Okra "account/getByCustomer" => accounts::get_by_customer;
    Post Key Okra "accounts/getByBank" => accounts::get_by_bank;
    Post Key Okra "account/getByBank" => accounts::get_by_bank;
    Post Key Okra "accounts/getByDate" => accounts::get_by_date;
    Post Key Okra "account/getByDate" => accounts::get_by_date;
    Post Key Okra "accounts/getByName" => accounts::get_by_name;
    Post Key Okra "account/getByName" => accounts::get_by_name;
    Post Key Okra "accounts/getByBalance" => accounts::get_by_balance;
    Post Key Okra "account/getByBalance" => accounts::get_by_balance;
    Post Key Okra "accounts/getByCustomerDate" => accounts::get_by_customer_date;
    Post Key Okra "account/getByCustomerDate" => accounts::get_by_customer_date;
    Post Key Okra "products/accounts" => accounts::all;

    Change Key Okra "balance/refresh" => refresh::balance;
    Change Key Okra "balance/check" => refresh::balance_check;
    Change Key Okra "products/balance/periodic" => refresh::balance_periodic;
    Post Key Okra "balance/getById" => balances::get_by_id;
    Post Key Okra "balance/getBalanceById" => balances::get_by_id;
    Post Key Okra "balance/getByCustomer" => balances::get_by_customer;
    Post Key Okra "balance/getByAccount" => balances::get_by_account;
    Post Key Okra "balance/getByBank" => balances::get_by_bank;
    Post Key Okra "balance/getByDate" => balances::get_by_date;
    Post Key Okra "balance/getByCustomerDate" => balances::get_by_customer_date;
    Post Key Okra "balance/byOptions" => balances::get_by_options;
    Post Key Okra "balance/getByType" => balances::get_by_type;
    Post Key Okra "balance/process" => balances::process;
    Post Key Okra "transactions/balance/process" => balances::process;
    Post Key Okra "transaction/balance/process" => balances::process;
    Post Key Okra "products/balances" => balances::all;

    Change Key Okra "transactions/refresh" => refresh::transactions;
    Change Key Okra "transaction/refresh" => refresh::transactions;
    Change Key Okra "products/transactions/periodic" => refresh::transactions_periodic;
    Post Key Okra "transactions/getById" => transactions::get_by_id;
    Post Key Okra "transaction/getById" => transactions::get_by_id;
    Post Key Okra "transactions/getByCustomer" => transactions::get_by_customer;
    Post Key Okra "transaction/getByCustomer" => transactions::get_by_customer;
    Post Key Okra "transactions/getByCustomerDate" => transactions::get_by_customer;
    Post Key Okra "transaction/getByCustomerDate" => transactions::get_by_customer;
    Post Key Okra "transactions/getByAccount" => transactions::get_by_account;
    Post Key Okra "transaction/getByAccount" => transactions::get_by_account;
    Post Key Okra "transactions/getByBank" => transactions::get_by_bank;
    Post Key Okra "transaction/getByBank" => transactions::get_by_bank;
    Post Key Okra "transactions/getByDate" => transactions::get_by_date;
    Post Key Okra "transaction/getByDate" => transactions::get_by_date;
    Post Key Okra "transactions/getByType" => transactions::get_by_type;
    Post Key Okra "transaction/getByType" => transactions::get_by_type;
    Post Key Okra "transactions/byOptions" => transactions::get_by_options;
    Post Key Okra "transaction/byOptions" => transactions::get_by_options;
    Post Key Okra "transactions/byRecord" => transactions::by_record;
    Post Key Okra "transaction/byRecord" => transactions::by_record;
    Post Key Okra "records/transactions/get" => transactions::by_record;
    Post Key Okra "transactions/getByNuban" => transactions::get_by_nuban;
    Post Key Okra "transaction/getByNuban" => transactions::get_by_nuban;
    Post Key Okra "transactions/process" => transactions::get_by_account;
    Post Key Okra "transaction/process" => transactions::get_by_account;
    Post Key Okra "products/transactions" => transactions::counts;
    Post Key Okra "products/transactions/get" => transactions::counts;
    Post Key Okra "products/transactions/download" => downloads::transactions;
    Post Key Okra "products/record/download" => downloads::transactions;
    Both Key Okra "callback" => callback::callback;
    Both Key Ours "jobs/get" => jobs::get;

    Post Key Ours "feed/read" => feed::read;
    Post Key Ours "transactions/sync" => feed::read;
    Post Key Ours "history/versions" => history::versions;
    Post Key Ours "history/transaction" => history::transaction;
    Post Key Ours "history/balance" => history::balance;

    Change Key Ours "webhooks/set" => webhooks::set;
    Post Key Ours "webhooks/list" => webhooks::list;
    Change Key Ours "webhooks/remove" => webhooks::remove;
    Change Key Ours "webhooks/secret" => webhooks::secret;
    Change Key Ours "webhooks/test" => webhooks::test;
    Change Key Ours "webhooks/enable" => webhooks::enable;
    Change Key Ours "webhooks/disable" => webhooks::disable;
    Post Key Ours "webhooks/deliveries" => deliveries::list;
    Change Key Ours "webhooks/replay" => deliveries::replay;
    Post Key Ours "webhooks/replay/get" => deliveries::replay_get;
    Post Key Ours "webhooks/replay/list" => deliveries::replay_list;
    Change Key Ours "webhooks/replay/cancel" => deliveries::replay_cancel;

    Post Key Ours "events/list" => deliveries::events;
    Post Key Ours "events/deliveries" => deliveries::of_event;
    Change Key Ours "events/resend" => deliveries::resend;
    Change Key Okra "callback/trigger" => deliveries::trigger;
}

/// First segments that Okra's hosts had before the path, in any mixture.
const PREFIXES: [&str; 3] = ["v1", "v2", "sandbox"];

/// Families that Okra had and this system does not: they answer 501 rather than 404.
const OUT_OF_SCOPE: [&str; 12] = [
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
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Prefix segments of a path at most.
const MAX_PREFIX: usize = 3;

/// The path after Okra's prefixes, with double slashes collapsed.
pub(crate) fn normal(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // A stage that a gateway leaves in front of a prefix.
    if let [stage, prefix, _, ..] = segments.as_slice()
        && !PREFIXES.contains(stage)
        && PREFIXES.contains(prefix)
    {
        segments.remove(0);
    }
    for _ in 0..MAX_PREFIX {
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
pub(crate) fn family(path: &str) -> &'static str {
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

pub(crate) async fn serve(state: Arc<ApiState>, request: Request) -> Response {
    // Zeros where there is no randomness: they name no request, and refuse none either.
    let request_id = HEXLOWER.encode(&state.random::<12>().unwrap_or_default());
    let path = normal(request.uri().path());
    let is_head = request.method() == Method::HEAD;
    let answered = answer(state, &path, request).await;
    let mut response =
        answered.unwrap_or_else(|refusal| refusal.into_response(&request_id, family(&path)));
    if is_head {
        *response.body_mut() = Body::empty();
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Runs a route for an app, without a request.
pub(crate) async fn call(
    state: Arc<ApiState>,
    app: AppId,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request_id = HEXLOWER.encode(&state.random::<12>().unwrap_or_default());
    let answered = async {
        let route = ROUTES.iter().find(|route| route.path == path);
        let route = route.ok_or_else(|| unknown(path))?;
        let app = state.store.app(app).await?;
        let app = app.ok_or_else(Refusal::unauthorised)?;
        let call = Call::new(
            Arc::clone(&state),
            Input::of_value(body)?,
            Some(Arc::new(app)),
        );
        (route.handler)(&call).await
    };
    let response = match answered.await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&request_id, family(path)),
    };
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), MAX_ANSWER_BYTES).await;
    let body = body.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn answer(state: Arc<ApiState>, path: &str, request: Request) -> Answer {
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return Err(unknown(path));
    };
    if request.method() == Method::OPTIONS {
        return Ok(options(route));
    }
    if !route.methods.answer(request.method()) {
        return Err(Refusal::method(route.methods.as_str()));
    }
    let app = match route.access {
        Access::Open => None,
        Access::Either => auth::known_app(&state, request.headers()).await?,
        Access::Key => Some(auth::app_of(&state, request.headers()).await?),
    };
    let headers = request.headers().clone();
    let (input, said) = Input::read(request).await?;
    let named = match &app {
        Some(app) if route.changes() => repeats::name(&headers, app.id, path, &said)?,
        _ => None,
    };
    let call = Call::new(state, input, app);
    let run = (route.handler)(&call);
    let mut answered = match named {
        Some(named) => repeats::once(&call.state, named, run).await,
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
fn options(route: &Route) -> Response {
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

fn unknown(path: &str) -> Refusal {
    let mut segments = path.split('/');
    let first = segments.next().unwrap_or_default();
    let family = match first {
        "products" => segments.next().unwrap_or_default(),
        family => family,
    };
    if OUT_OF_SCOPE.contains(&family) {
        let message = format!("{family} is not part of this system, which syncs bank data");
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message);
    }
    let message = "There is no such endpoint";
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
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
            assert_eq!(normal(path), "balance/refresh", "{path}");
        }
        assert_eq!(normal("/"), "");
        assert_eq!(normal("/v2"), "v2");
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
