//! Authorisations: who linked what. There is one for each record, under the record's id.

use okra_core::model::snapshot::utc_date;
use okra_store::{Consistency, RecordHead};
use okra_wire::{
    envelope::Pagination,
    record::{ListedAuthResource, PopulatedAuthResource, RecordDetails},
};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope},
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
    let head = head.map_err(|error| error.for_resource("auth"))?;
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

routes! {
    Post Key [Okra "auth/getById"] => get_auth_by_id(ID) -> AuthListResponse:
        "Returns one authorisation, in a list.";
    Post Key [Okra "auth/getByCustomer"] => get_auth_by_customer(CUSTOMER, PAGE) -> AuthListResponse:
        "Lists the authorisations of a customer.";
    Post Key [Okra "auth/getByBank"] => get_auth_by_bank(BANK, make_optional(CUSTOMER), PAGE) -> AuthListResponse:
        "Lists the app's authorisations at a bank.";
    Post Key [
        Okra "auth/byOptions",
        Okra "auth/getByOptions",
    ] => get_auth_by_options(OPTIONS, make_optional(CUSTOMER), PAGE) -> AuthListResponse:
        "Lists the authorisations of records that were linked with these options.";
    Post Key [Okra "auth/getByDate"] => get_auth_by_date(make_optional(CUSTOMER), DATES, PAGE) -> AuthListResponse:
        "Lists the authorisations that were given between two days.";
    Post Key [
        Okra "auth/getByCustomerDate",
        Okra "auth/getByDateCustomer",
    ] => get_auth_by_customer_date(CUSTOMER, DATES, PAGE) -> AuthListResponse:
        "Lists a customer's authorisations that were given between two days.";
    Post Key [
        Okra "products/auths",
        Okra "products/auth/get",
    ] => list_all_auth(make_optional(CUSTOMER), PAGE) -> ListedAuthResponse:
        "Lists all authorisations of the app.";
}
