//! Callback data: the data of a record, of one of Okra's methods, which apps read after a refresh or a webhook
//! (`callback?record=..&method=..`).

use axum::http::StatusCode;
use jiff::Timestamp;
use okra_app::jobs::{LastJob, LastRefresh};
use okra_core::model::{ids::Seq, snapshot::Product};
use okra_store::{Account, RecordHead, RecordStatus};
use okra_wire::{
    callback::{CallbackData, CallbackFamily, CallbackResource},
    envelope::{MAX_PAGE_LIMIT, Pagination},
    record::{AuthResource, LastJobStatus, RefreshStatusResource},
    scalar::IsoInstant,
};

use crate::{
    data::{accounts, balances, transactions},
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        request::ApiRequest,
    },
    records::names::DisplayNames,
};

/// Methods that Okra had and this system does not.
const UNSUPPORTED_METHODS: [&str; 2] = ["IDENTITY", "INCOME"];

/// The data of one of Okra's methods, and what its status is built from.
struct FamilyData {
    resource: CallbackData,
    /// It was fetched at least once.
    is_complete: bool,
    /// The time of the newest transaction.
    latest: Option<IsoInstant>,
    /// When it was last fetched, as far as the accounts say.
    fetched_at: Option<Timestamp>,
    /// Since when it is not available, where it is not.
    unavailable_since: Option<Timestamp>,
}

impl FamilyData {
    /// Data that is there from the link on.
    const fn from_link(resource: CallbackData) -> Self {
        Self {
            resource,
            is_complete: true,
            latest: None,
            fetched_at: None,
            unavailable_since: None,
        }
    }
}

/// The data of a record, of one of Okra's methods. Receivers read all of it in one go, so a page is as long as it can be
/// unless they request less; transactions come newest first.
pub(crate) async fn get_callback_data(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    let (method, family) = parse_method(request)?;
    let product = match family {
        CallbackFamily::Balance => Some(Product::Balance),
        CallbackFamily::Transactions => Some(Product::Transactions),
        CallbackFamily::Auth | CallbackFamily::Accounts => None,
    };
    // The job is read before the data, so that what a finished job fetched is in it. No job fetches accounts.
    let last = match family {
        CallbackFamily::Accounts => LastRefresh::default(),
        _ => {
            let scope = request.scope()?;
            scope.load_last_refresh(head.record, product).await?
        }
    };
    let data = match family {
        CallbackFamily::Auth => load_auth_data(request, &head).await?,
        CallbackFamily::Accounts => load_account_data(request, &head).await?,
        CallbackFamily::Balance => load_balance_data(request, &head).await?,
        CallbackFamily::Transactions => load_transaction_data(request, &head).await?,
    };
    let is_active = head.status == RecordStatus::Active;
    let status = RefreshStatusResource::new(data.is_complete, is_active).with_refresh_times(
        last.succeeded_at.max(data.fetched_at),
        last.failed_at.max(data.unavailable_since),
    );
    let status = match last.job {
        Some(job) => status.with_last_job(describe_last_job(job)),
        None => status,
    };
    let resource = CallbackResource::new(method, head.record, status, data.latest, data.resource);
    success_response("Data retrieved successfully", resource)
}

/// The method that a request names, in Okra's spelling.
fn parse_method(request: &ApiRequest) -> Result<(&'static str, CallbackFamily), ApiError> {
    let method = request.input.require_text(&["method"])?;
    let mut unsupported = UNSUPPORTED_METHODS.iter();
    if unsupported.any(|it| method.eq_ignore_ascii_case(it)) {
        let message = format!("{method} is not part of this system, which only syncs bank data");
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "NOT_IMPLEMENTED",
            message,
        ));
    }
    CallbackFamily::from_method(&method).ok_or_else(|| {
        let known = CallbackFamily::METHODS.map(|(name, _)| name).join(", ");
        ApiError::invalid_field("method", format!("must be one of {known}"))
    })
}

async fn load_auth_data(request: &ApiRequest, head: &RecordHead) -> Result<FamilyData, ApiError> {
    let names = DisplayNames::load_for_records(request, std::slice::from_ref(head)).await?;
    let auth = AuthResource::from(&names.build_record_view(request, head)?);
    Ok(FamilyData::from_link(CallbackData::Auth { auth }))
}

async fn load_account_data(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<FamilyData, ApiError> {
    let accounts = load_accounts(request, head).await?;
    let page = parse_longest_page(request, accounts.len())?;
    let resources = accounts::render_accounts(request, &page.cut_page(accounts)).await?;
    let resource = CallbackData::accounts_page(resources, page);
    Ok(FamilyData::from_link(resource))
}

async fn load_balance_data(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<FamilyData, ApiError> {
    let accounts = load_accounts(request, head).await?;
    let unavailable_since = find_unavailable_since(&accounts, Product::Balance);
    let fetched_at = accounts.iter().filter_map(|it| it.balance_at).max();
    let page = parse_longest_page(request, accounts.len())?;
    let accounts = page.cut_page(accounts);
    let heads = std::slice::from_ref(head);
    let resources = balances::render_for_records(request, heads, &accounts).await?;
    Ok(FamilyData {
        resource: CallbackData::balances_page(resources, page),
        is_complete: was_fetched(head, Product::Balance),
        latest: None,
        fetched_at,
        unavailable_since,
    })
}

async fn load_transaction_data(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<FamilyData, ApiError> {
    let accounts = load_accounts(request, head).await?;
    let unavailable_since = find_unavailable_since(&accounts, Product::Transactions);
    let whole = transactions::AccountCoverage::Complete;
    let page = transactions::read_row_page(request, accounts, whole, MAX_PAGE_LIMIT);
    let (pagination, rows) = page.await?;
    let fetched_at = rows.iter().map(|(_, row)| row.last_updated).max();
    let newest = rows.first().map(|(_, row)| row.transaction.facts.booked_at);
    let transactions = transactions::render_for_callback(request, &pagination.cut_page(rows))?;
    Ok(FamilyData {
        resource: CallbackData::Transactions {
            transactions,
            pagination,
        },
        is_complete: was_fetched(head, Product::Transactions),
        latest: newest.map(IsoInstant),
        fetched_at,
        unavailable_since,
    })
}

async fn load_accounts(request: &ApiRequest, head: &RecordHead) -> Result<Vec<Account>, ApiError> {
    let heads = std::slice::from_ref(head);
    Ok(request.scope()?.load_accounts_of_records(heads).await?)
}

/// The page that the request names, as long as it can be unless the request says otherwise.
fn parse_longest_page(request: &ApiRequest, total: usize) -> Result<Pagination, ApiError> {
    request.input.parse_page_with_limit(total, MAX_PAGE_LIMIT)
}

/// True where a product was fetched at least once.
fn was_fetched(head: &RecordHead, product: Product) -> bool {
    head.watermarks
        .get(product)
        .is_some_and(|watermark| watermark.digest.is_some() || watermark.seq > Seq::ZERO)
}

/// Since when a product of any of these accounts is not available.
fn find_unavailable_since(accounts: &[Account], product: Product) -> Option<Timestamp> {
    let states = accounts.iter();
    let states = states.filter_map(|account| account.product_states.get(product));
    let unavailable = states.filter(|state| !state.is_available());
    unavailable.map(|state| state.since).max()
}

/// The last job of a record, as its status shows it.
fn describe_last_job(job: LastJob) -> LastJobStatus {
    LastJobStatus {
        job: job.id,
        is_running: job.is_running,
        outcome: job.outcome,
        reason: job.reason,
    }
}

routes! {
    Both Key [Okra "callback"] => get_callback_data(RECORD, METHOD, PAGE) -> CallbackResource:
        "Returns the status of a record's refresh with the data of one of Okra's methods.";
}
