//! Records.

use okra_core::model::ids::BankId;
use okra_store::{Account, RecordHead};
use okra_wire::record::RecordResource;
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::BANK,
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope, state::RecordState},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RecordsResponse {
    pagination: (),
    records: Vec<RecordResource>,
}

/// One record, under the name of many: so it was.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RecordResponse {
    pagination: (),
    records: RecordResource,
    state: RecordState,
}

/// Records in Okra's shape; with their currencies, where their accounts are at hand.
pub(crate) async fn render_records(
    request: &ApiRequest,
    heads: &[RecordHead],
    accounts: &[Account],
) -> Result<Vec<RecordResource>, ApiError> {
    let names = DisplayNames::load_for_records(request, heads).await?;
    heads
        .iter()
        .map(|head| {
            let mut view = names.build_record_view(request, head)?;
            let account = accounts.iter().find(|it| it.record == head.record);
            view.currency = account.map(|it| it.facts.currency);
            Ok(RecordResource::from(&view))
        })
        .collect()
}

/// All of the app's.
pub(crate) async fn list_records(request: &ApiRequest) -> ApiResponse {
    let end = request.input.parse_page_end()?;
    let heads = scope::load_app_records_until(request, |heads| heads.len() >= end).await?;
    let page = request.input.parse_page(heads.len())?.cut_page(heads);
    let records = render_records(request, &page, &[]).await?;
    let data = RecordsResponse {
        pagination: (),
        records,
    };
    success_response("Records retrieved successfully", data)
}

/// One. `records` is the record itself: so it was.
pub(crate) async fn get_record(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    // The state first: the customer is read with it.
    let (state, accounts) = request.scope()?.load_record_state(&head).await?;
    let names = DisplayNames::load_for_records(request, std::slice::from_ref(&head)).await?;
    let mut view = names.build_record_view(request, &head)?;
    view.currency = accounts.first().map(|account| account.facts.currency);
    let data = RecordResponse {
        pagination: (),
        records: RecordResource::from(&view),
        state: state.into(),
    };
    success_response("Record retrieved successfully", data)
}

/// A customer's at one bank.
pub(crate) async fn get_records_by_customer_by_bank(request: &ApiRequest) -> ApiResponse {
    let bank: BankId = request.input.require_id(BANK)?;
    let mut heads = scope::load_customer_records(request).await?;
    heads.retain(|head| head.bank == bank);
    let page = request.input.parse_page(heads.len())?.cut_page(heads);
    let data = RecordsResponse {
        pagination: (),
        records: render_records(request, &page, &[]).await?,
    };
    success_response("Records retrieved successfully", data)
}

routes! {
    Post Key [Okra "products/records/getByCustomerByBank"] => get_records_by_customer_by_bank(CUSTOMER, BANK, PAGE) -> RecordsResponse:
        "Lists a customer's records at one bank.";
    Post Key [Okra "products/records"] => list_records(make_optional(CUSTOMER), PAGE) -> RecordsResponse:
        "Lists all records of the app.";
    Post Key [Okra "products/records/get"] => get_record(RECORD) -> RecordResponse:
        "Returns one record with the state of each product, the backfill, and when it is refreshed next.";
}
