//! The routes, in one table.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode},
    response::Response,
};
use data_encoding::HEXLOWER;

use crate::{
    ApiState, Handled, accounts, auth, auths, balances, banks,
    call::Call,
    callback, customers,
    envelope::{Answer, Refusal},
    input::Input,
    link, records, refresh, sync, system, transactions, webhooks,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// An app, with its secret key.
    Key,
}

/// Which methods a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    Get,
    Post,
    Both,
}

/// One route. Its path stands under every prefix of Okra's.
pub struct Route {
    /// Path after the prefix, without a leading slash.
    pub path: &'static str,
    methods: Methods,
    /// Who may call it.
    pub access: Access,
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
            Self::Post => post,
            Self::Both => get || post,
        }
    }

    /// As in the header `allow`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Both => "GET, POST",
        }
    }
}

impl Route {
    /// A method it answers.
    pub const fn method(&self) -> Method {
        match self.methods {
            Methods::Get => Method::GET,
            Methods::Post | Methods::Both => Method::POST,
        }
    }
}

macro_rules! routes {
    ($($method:ident $access:ident $path:literal => $handler:path;)+) => {
        /// The whole API.
        pub const ROUTES: &[Route] = &[$(Route {
            path: $path,
            methods: Methods::$method,
            access: Access::$access,
            handler: |call| Box::pin($handler(call)),
        }),+];
    };
}

routes! {
    Both Open "health" => system::health;
    Get Open "banks/list" => banks::list;
    Get Open "banks/getById" => banks::get_by_id;
    Post Key "banks/add" => banks::add;

    Post Key "customers/create" => customers::create;
    Post Key "customers/generate" => customers::generate;
    Post Key "customers/list" => customers::list;
    Post Key "customers/get" => customers::get;
    Post Key "customers/retry" => refresh::all;
    Post Key "records/link" => link::link;
    Post Key "products/records" => records::list;
    Post Key "products/records/get" => records::get;

    Post Key "auto-refresh" => sync::subscribe;
    Post Key "data-sync" => sync::subscribe;
    Post Key "data-sync/list" => sync::list;
    Post Key "data-sync/cancel" => sync::cancel;

    Post Key "auth/getById" => auths::get_by_id;
    Post Key "auth/getByCustomer" => auths::get_by_customer;
    Post Key "auth/getByBank" => auths::get_by_bank;
    Post Key "auth/getByDate" => auths::get_by_date;
    Post Key "auth/getByCustomerDate" => auths::get_by_customer_date;
    Post Key "auth/getByDateCustomer" => auths::get_by_customer_date;
    Post Key "auth/byOptions" => auths::get_by_options;
    Post Key "auth/getByOptions" => auths::get_by_options;
    Post Key "products/auths" => auths::all;
    Post Key "products/auth/get" => auths::all;

    Post Key "accounts/getById" => accounts::get_by_id;
    Post Key "account/getById" => accounts::get_by_id;
    Post Key "accounts/getAccountDetails" => accounts::details;
    Post Key "account/getAccountDetails" => accounts::details;
    Post Key "accounts/getByCustomer" => accounts::get_by_customer;
    Post Key "account/getByCustomer" => accounts::get_by_customer;
    Post Key "accounts/getByBank" => accounts::get_by_bank;
    Post Key "account/getByBank" => accounts::get_by_bank;
    Post Key "products/accounts" => accounts::all;

    Post Key "balance/refresh" => refresh::balance;
    Post Key "balance/check" => refresh::balance_check;
    Post Key "products/balance/periodic" => refresh::balance_periodic;
    Post Key "balance/getById" => balances::get_by_id;
    Post Key "balance/getBalanceById" => balances::get_by_id;
    Post Key "balance/getByCustomer" => balances::get_by_customer;
    Post Key "balance/getByAccount" => balances::get_by_account;
    Post Key "balance/getByBank" => balances::get_by_bank;
    Post Key "balance/getByDate" => balances::get_by_date;
    Post Key "balance/getByCustomerDate" => balances::get_by_customer_date;
    Post Key "balance/byOptions" => balances::get_by_options;
    Post Key "products/balances" => balances::all;

    Post Key "transactions/refresh" => refresh::transactions;
    Post Key "transaction/refresh" => refresh::transactions;
    Post Key "products/transactions/periodic" => refresh::transactions_periodic;
    Post Key "transactions/getById" => transactions::get_by_id;
    Post Key "transaction/getById" => transactions::get_by_id;
    Post Key "transactions/getByCustomer" => transactions::get_by_customer;
    Post Key "transaction/getByCustomer" => transactions::get_by_customer;
    Post Key "transactions/getByCustomerDate" => transactions::get_by_customer;
    Post Key "transaction/getByCustomerDate" => transactions::get_by_customer;
    Post Key "transactions/getByAccount" => transactions::get_by_account;
    Post Key "transaction/getByAccount" => transactions::get_by_account;
    Post Key "transactions/getByBank" => transactions::get_by_bank;
    Post Key "transaction/getByBank" => transactions::get_by_bank;
    Post Key "transactions/getByDate" => transactions::get_by_date;
    Post Key "transaction/getByDate" => transactions::get_by_date;
    Post Key "transactions/getByType" => transactions::get_by_type;
    Post Key "transaction/getByType" => transactions::get_by_type;
    Post Key "transactions/byOptions" => transactions::get_by_options;
    Post Key "transaction/byOptions" => transactions::get_by_options;
    Post Key "transactions/byRecord" => transactions::by_record;
    Post Key "transaction/byRecord" => transactions::by_record;
    Both Key "callback" => callback::callback;

    Post Key "webhooks/set" => webhooks::set;
    Post Key "webhooks/list" => webhooks::list;
    Post Key "webhooks/remove" => webhooks::remove;
    Post Key "webhooks/secret" => webhooks::secret;
}

/// First segments that Okra's hosts had before the path, in any mixture.
const PREFIXES: [&str; 3] = ["v1", "v2", "sandbox"];

/// Families that Okra had and this system does not: they answer 501 rather than 404.
const OUT_OF_SCOPE: [&str; 15] = [
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
    "spending-pattern",
    "spending-patterns",
    "total-debits-credits",
];

/// Prefix segments of a path at most.
const MAX_PREFIX: usize = 3;

/// The path after Okra's prefixes, with double slashes collapsed.
fn normal(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
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
fn family(path: &str) -> &'static str {
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
    let answered = answer(state, &path, request).await;
    let mut response =
        answered.unwrap_or_else(|refusal| refusal.into_response(&request_id, family(&path)));
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn answer(state: Arc<ApiState>, path: &str, request: Request) -> Answer {
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return Err(unknown(path));
    };
    if !route.methods.answer(request.method()) {
        return Err(Refusal::method(route.methods.as_str()));
    }
    let app = match route.access {
        Access::Open => None,
        Access::Key => Some(auth::app_of(&state, request.headers()).await?),
    };
    let input = Input::read(request).await?;
    (route.handler)(&Call::new(state, input, app)).await
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
