//! Authorisations: who linked what. There is one for each record, under the record's id.

use okra_core::model::snapshot::utc_date;
use okra_store::{Consistency, RecordHead};
use okra_wire::{
    envelope::Pagination,
    record::{ListedAuthResource, PopulatedAuthResource, RecordDetails},
};
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    names::DisplayNames,
    scope,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AuthListResponse {
    pagination: Pagination,
    auths: Vec<PopulatedAuthResource>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedAuthResponse {
    pagination: (),
    auths: Vec<ListedAuthResource>,
}

async fn render_auth<A: for<'a> From<&'a RecordDetails>>(
    request: &ApiRequest,
    heads: &[RecordHead],
) -> Result<Vec<A>, ApiError> {
    let names = DisplayNames::load_for_records(request, heads).await?;
    heads
        .iter()
        .map(|head| Ok(A::from(&names.build_record_view(request, head)?)))
        .collect()
}

async fn respond_with_auth(request: &ApiRequest, heads: Vec<RecordHead>) -> ApiResponse {
    let pagination = request.input.parse_page(heads.len())?;
    respond_with_page(request, pagination, heads).await
}

async fn respond_with_page(
    request: &ApiRequest,
    pagination: Pagination,
    heads: Vec<RecordHead>,
) -> ApiResponse {
    let auths: Vec<PopulatedAuthResource> =
        render_auth(request, &pagination.cut_page(heads)).await?;
    success_response(
        "Auth retrieved succesfully",
        AuthListResponse { pagination, auths },
    )
}

/// Those of records that were linked between two dates.
async fn respond_by_link_date(request: &ApiRequest, mut heads: Vec<RecordHead>) -> ApiResponse {
    let within = request.input.parse_date_filter()?;
    heads.retain(|head| within(utc_date(head.created_at)));
    respond_with_auth(request, heads).await
}

pub(crate) async fn get_auth_by_id(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_id(&["id", "_id", "auth"])?;
    let head = request
        .scope()?
        .load_own_record(id, Consistency::Eventual)
        .await;
    let head = head.map_err(|refusal| refusal.for_resource("auth"))?;
    respond_with_page(request, Pagination::single_document(), vec![head]).await
}

pub(crate) async fn get_auth_by_customer(request: &ApiRequest) -> ApiResponse {
    respond_with_auth(request, scope::load_customer_records(request).await?).await
}

pub(crate) async fn get_auth_by_bank(request: &ApiRequest) -> ApiResponse {
    respond_with_auth(request, scope::load_bank_records(request).await?).await
}

pub(crate) async fn get_auth_by_options(request: &ApiRequest) -> ApiResponse {
    respond_with_auth(request, scope::load_records_by_options(request).await?).await
}

pub(crate) async fn get_auth_by_date(request: &ApiRequest) -> ApiResponse {
    respond_by_link_date(request, scope::load_app_records(request).await?).await
}

pub(crate) async fn get_auth_by_customer_date(request: &ApiRequest) -> ApiResponse {
    respond_by_link_date(request, scope::load_customer_records(request).await?).await
}

/// `products/auths`: all of the app's, in an envelope of their own.
pub(crate) async fn list_all_auth(request: &ApiRequest) -> ApiResponse {
    let end = request.input.parse_page_end()?;
    let heads = scope::load_app_records_until(request, |heads| heads.len() >= end).await?;
    let page = request.input.parse_page(heads.len())?.cut_page(heads);
    let auths: Vec<ListedAuthResource> = render_auth(request, &page).await?;
    let pagination = ();
    success_response(
        "Auths retrieved successfully",
        ListedAuthResponse { pagination, auths },
    )
}

documented! {
    get_auth_by_id(ID) -> AuthListResponse: "One authorisation, in a list.";
    get_auth_by_customer(CUSTOMER, PAGE) -> AuthListResponse: "The authorisations of a customer.";
    get_auth_by_bank(BANK, make_optional(CUSTOMER), PAGE) -> AuthListResponse: "The authorisations at a bank.";
    get_auth_by_options(OPTIONS, make_optional(CUSTOMER), PAGE) -> AuthListResponse: "The authorisations of records linked with these options.";
    get_auth_by_date(make_optional(CUSTOMER), DATES, PAGE) -> AuthListResponse: "Authorisations given between two days.";
    get_auth_by_customer_date(CUSTOMER, DATES, PAGE) -> AuthListResponse: "A customer's authorisations given between two days.";
    list_all_auth(make_optional(CUSTOMER), PAGE) -> ListedAuthResponse: "All authorisations of the app.";
}
