//! The calls that refresh a record on demand. What they do is in [`okra_app::refresh`].

use okra_app::refresh::RefreshRequest;
use okra_core::model::snapshot::Product;
use okra_wire::record::RefreshAcknowledgement;

use crate::{
    data::balances,
    http::{
        envelope::{ApiResponse, success_response},
        input::{ACCOUNT, RECORD},
        request::ApiRequest,
    },
    sync::jobs::count_changes,
};

/// The field that asks to wait.
const WAIT_FIELD: &str = "wait";

/// Starts a refresh; with `wait`, responds with its outcome where it is done in time.
async fn refresh_record(
    request: &ApiRequest,
    product: Option<Product>,
    method: &'static str,
    message: &str,
) -> ApiResponse {
    let (input, scope) = (&request.input, request.scope()?);
    let (record, account) = (input.parse_id(RECORD)?, input.parse_id(ACCOUNT)?);
    let record = scope.resolve_refresh_record(record, account).await?;
    let wanted = RefreshRequest {
        record,
        product,
        user_address: input.parse_user_address()?,
    };
    let started = scope.start_refresh(&wanted).await?;
    let acknowledged = RefreshAcknowledgement::new(&request.services.public_url, record, method);
    let finished = match input.is_true(WAIT_FIELD) {
        true => scope.wait_for_refresh(&started).await?,
        false => None,
    };
    let Some(finished) = finished else {
        let acknowledged = acknowledged.with_jobs(&started.jobs, started.next_refresh_at);
        return success_response(message, acknowledged);
    };
    let balances = match finished.fetched_products.contains(&Product::Balance) {
        true => {
            let accounts = scope.load_refreshed_accounts(record).await?;
            Some(balances::render_for_callback(request, &accounts).await?)
        }
        false => None,
    };
    let result = finished.result;
    let acknowledged = acknowledged
        .with_jobs(&started.jobs, finished.next_refresh_at)
        .with_outcome(
            // A job that was replaced by a later one is done and has no outcome of its own.
            result.outcome.unwrap_or_default(),
            result.reason,
            count_changes(result.findings),
            balances,
        );
    success_response(message, acknowledged)
}

async fn refresh_balance_as(request: &ApiRequest, method: &'static str) -> ApiResponse {
    let product = Some(Product::Balance);
    refresh_record(request, product, method, "Balance checking...").await
}

async fn refresh_transactions_as(request: &ApiRequest, method: &'static str) -> ApiResponse {
    let product = Some(Product::Transactions);
    refresh_record(request, product, method, "Transactions processing...").await
}

pub(crate) async fn refresh_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "BALANCE").await
}

pub(crate) async fn check_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "CHECK_BALANCE").await
}

pub(crate) async fn refresh_periodic_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "PERIODIC_BALANCE").await
}

pub(crate) async fn refresh_transactions(request: &ApiRequest) -> ApiResponse {
    refresh_transactions_as(request, "REFRESH_TRANSACTIONS").await
}

pub(crate) async fn refresh_periodic_transactions(request: &ApiRequest) -> ApiResponse {
    refresh_transactions_as(request, "PERIODIC_TRANSACTIONS").await
}

/// `customers/retry`: everything of a record.
pub(crate) async fn refresh_all_products(request: &ApiRequest) -> ApiResponse {
    refresh_record(request, None, "AUTH", "Record processing...").await
}

routes! {
    Change Key [Okra "balance/refresh"] => refresh_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's balances and returns its job; with wait, returns the outcome and the balances.";
    Change Key [Okra "balance/check"] => check_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's balances and returns its job; with wait, returns the outcome and the balances.";
    Change Key [Okra "products/balance/periodic"] => refresh_periodic_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's balances and returns its job; with wait, returns the outcome and the balances.";
    Change Key [
        Okra "transactions/refresh",
        Okra "transaction/refresh",
    ] => refresh_transactions(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's transactions and returns its job; with wait, returns the outcome.";
    Change Key [Okra "products/transactions/periodic"] => refresh_periodic_transactions(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's transactions and returns its job; with wait, returns the outcome.";
    Change Key [Okra "customers/retry"] => refresh_all_products(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement:
        "Starts or joins a refresh of a record's balances and transactions and returns its job; with wait, returns the outcome.";
}
