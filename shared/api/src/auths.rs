//! Authorisations: who linked what. There is one for each record, under the record's id.

use okra_core::model::date_of;
use okra_store::{Consistency, Head};
use okra_wire::{
    envelope::Pagination,
    record::{ListedAuth, PopulatedAuth, RecordView},
};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    names::Names,
    scope,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Auths {
    pagination: Pagination,
    auths: Vec<PopulatedAuth>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedAuths {
    pagination: (),
    auths: Vec<ListedAuth>,
}

async fn shown<A: for<'a> From<&'a RecordView>>(
    call: &Call,
    heads: &[Head],
) -> Result<Vec<A>, Refusal> {
    let names = Names::of_records(call, heads).await?;
    heads
        .iter()
        .map(|head| Ok(A::from(&names.record(call, head)?)))
        .collect()
}

async fn answer(call: &Call, heads: Vec<Head>) -> Answer {
    let pagination = call.input.page(heads.len())?;
    answer_page(call, pagination, heads).await
}

async fn answer_page(call: &Call, pagination: Pagination, heads: Vec<Head>) -> Answer {
    let auths: Vec<PopulatedAuth> = shown(call, &pagination.cut(heads)).await?;
    success("Auth retrieved succesfully", Auths { pagination, auths })
}

/// Those of records that were linked between two dates.
async fn answer_dated(call: &Call, mut heads: Vec<Head>) -> Answer {
    let within = call.input.within()?;
    heads.retain(|head| within(date_of(head.created_at)));
    answer(call, heads).await
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let id = call.input.needed_id(&["id", "_id", "auth"])?;
    let head = call.own_record(id, Consistency::Eventual).await;
    let head = head.map_err(|refusal| refusal.about("auth"))?;
    answer_page(call, Pagination::of_one(), vec![head]).await
}

pub(crate) async fn get_by_customer(call: &Call) -> Answer {
    answer(call, scope::records_of_customer(call).await?).await
}

pub(crate) async fn get_by_bank(call: &Call) -> Answer {
    answer(call, scope::records_of_bank(call).await?).await
}

pub(crate) async fn get_by_options(call: &Call) -> Answer {
    answer(call, scope::records_of_options(call).await?).await
}

pub(crate) async fn get_by_date(call: &Call) -> Answer {
    answer_dated(call, scope::records(call).await?).await
}

pub(crate) async fn get_by_customer_date(call: &Call) -> Answer {
    answer_dated(call, scope::records_of_customer(call).await?).await
}

/// `products/auths`: all of the app's, in an envelope of their own.
pub(crate) async fn all(call: &Call) -> Answer {
    let end = call.input.page_end()?;
    let heads = scope::records_until(call, |heads| heads.len() >= end).await?;
    let page = call.input.page(heads.len())?.cut(heads);
    let auths: Vec<ListedAuth> = shown(call, &page).await?;
    let pagination = ();
    success(
        "Auths retrieved successfully",
        ListedAuths { pagination, auths },
    )
}

documented! {
    get_by_id(ID) -> Auths: "One authorisation, in a list.";
    get_by_customer(CUSTOMER, PAGE) -> Auths: "The authorisations of a customer.";
    get_by_bank(BANK, optional(CUSTOMER), PAGE) -> Auths: "The authorisations at a bank.";
    get_by_options(OPTIONS, optional(CUSTOMER), PAGE) -> Auths: "The authorisations of records linked with these options.";
    get_by_date(optional(CUSTOMER), DATES, PAGE) -> Auths: "Authorisations given between two days.";
    get_by_customer_date(CUSTOMER, DATES, PAGE) -> Auths: "A customer's authorisations given between two days.";
    all(optional(CUSTOMER), PAGE) -> ListedAuths: "All authorisations of the app.";
}
