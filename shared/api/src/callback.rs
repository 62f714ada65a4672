//! The pull half of webhooks and refreshes: `callback?record=..&method=..`.

use axum::http::StatusCode;
use okra_app::jobs::LastRefresh;
use okra_core::model::{ids::Seq, snapshot::Product};
use okra_store::{Account, RecordStatus};
use okra_wire::{
    callback::{CallbackData, CallbackFamily, CallbackResource},
    envelope::MAX_PAGE_LIMIT,
    record::{AuthResource, RefreshStatusResource},
    scalar::IsoInstant,
};

use crate::{
    accounts, balances,
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    jobs::describe_last_job,
    names::DisplayNames,
    transactions,
};

/// Methods that Okra had and this system does not.
const UNSUPPORTED_METHODS: [&str; 2] = ["IDENTITY", "INCOME"];

/// What is known of a record, of one of Okra's methods. Receivers read all of it in one go, so a page
/// is as long as it can be unless they ask for less; transactions come newest first.
pub(crate) async fn get_callback_data(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    let method = request.input.require_text(&["method"])?;
    if UNSUPPORTED_METHODS
        .iter()
        .any(|it| method.eq_ignore_ascii_case(it))
    {
        let message = format!("{method} is not part of this system, which syncs bank data");
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "NOT_IMPLEMENTED",
            message,
        ));
    }
    let (method, family) = CallbackFamily::from_method(&method).ok_or_else(|| {
        let known = CallbackFamily::METHODS.map(|(name, _)| name).join(", ");
        ApiError::invalid_field("method", format!("is one of {known}"))
    })?;
    let scope = request.scope()?;
    let accounts = || scope.load_accounts_of_records(std::slice::from_ref(&head));
    let page = |total| request.input.parse_page_with_limit(total, MAX_PAGE_LIMIT);
    let pulled = |product| {
        let mark = head.watermarks.get(product).copied().unwrap_or_default();
        mark.digest.is_some() || mark.seq > Seq::ZERO
    };
    let product = match family {
        CallbackFamily::Balance => Some(Product::Balance),
        CallbackFamily::Transactions => Some(Product::Transactions),
        CallbackFamily::Auth | CallbackFamily::Accounts => None,
    };
    // Before the data, so that a refresh that is told to be done is in it. None asks for the accounts.
    let last = match family {
        CallbackFamily::Accounts => LastRefresh::default(),
        _ => scope.load_last_refresh(head.record, product).await?,
    };
    let (mut had, mut lacking) = (last.succeeded_at, last.failed_at);
    let mut of_accounts = |accounts: &[Account], product| {
        let states = accounts
            .iter()
            .filter_map(|it| it.product_states.get(product));
        let lacks = states.filter(|state| !state.is_available());
        lacking = lacking.max(lacks.map(|state| state.since).max());
    };
    let (completed, latest, resource) = match family {
        CallbackFamily::Auth => {
            let names =
                DisplayNames::load_for_records(request, std::slice::from_ref(&head)).await?;
            let auth = AuthResource::from(&names.build_record_view(request, &head)?);
            (true, None, CallbackData::Auth { auth })
        }
        CallbackFamily::Accounts => {
            let accounts = accounts().await?;
            let page = page(accounts.len())?;
            let shown = accounts::render_accounts(request, &page.cut_page(accounts)).await?;
            (true, None, CallbackData::accounts_page(shown, page))
        }
        CallbackFamily::Balance => {
            let accounts = accounts().await?;
            of_accounts(&accounts, Product::Balance);
            had = had.max(accounts.iter().filter_map(|it| it.balance_at).max());
            let page = page(accounts.len())?;
            let shown = balances::render_for_records(
                request,
                std::slice::from_ref(&head),
                &page.cut_page(accounts),
            )
            .await?;
            let resource = CallbackData::balances_page(shown, page);
            (pulled(Product::Balance), None, resource)
        }
        CallbackFamily::Transactions => {
            let accounts = accounts().await?;
            of_accounts(&accounts, Product::Transactions);
            let whole = transactions::AccountCoverage::Complete;
            let page = transactions::read_row_page(request, accounts, whole, MAX_PAGE_LIMIT);
            let (pagination, rows) = page.await?;
            had = had.max(rows.iter().map(|(_, row)| row.last_updated).max());
            let latest = rows.first().map(|(_, row)| row.transaction.facts.booked_at);
            let transactions =
                transactions::render_for_callback(request, &pagination.cut_page(rows))?;
            let resource = CallbackData::Transactions {
                transactions,
                pagination,
            };
            (
                pulled(Product::Transactions),
                latest.map(IsoInstant),
                resource,
            )
        }
    };
    let status = RefreshStatusResource::new(completed, head.status == RecordStatus::Active);
    let status = status.with_refresh_times(had, lacking);
    let status = match last.job {
        Some(job) => status.with_last_job(describe_last_job(job)),
        None => status,
    };
    let data = CallbackResource::new(method, head.record, status, latest, resource);
    success_response("Data retrieved successfully", data)
}

documented! {
    get_callback_data(RECORD, METHOD, PAGE) -> CallbackResource: "What is known of a record, of one of Okra's methods.";
}
