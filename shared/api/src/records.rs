//! Records.

use okra_core::ids::BankId;
use okra_store::{Account, Head};
use okra_wire::record::Record;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::BANK,
    names::Names,
    scope,
    states::{self, RecordState},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Records {
    pagination: (),
    records: Vec<Record>,
}

/// One record, under the name of many: so it was.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct OneRecord {
    pagination: (),
    records: Record,
    state: RecordState,
}

/// Records in Okra's shape; with their currencies, where their accounts are at hand.
pub(crate) async fn shown(
    call: &Call,
    heads: &[Head],
    accounts: &[Account],
) -> Result<Vec<Record>, Refusal> {
    let names = Names::of_records(call, heads).await?;
    heads
        .iter()
        .map(|head| {
            let mut view = names.record(call, head)?;
            let account = accounts.iter().find(|it| it.record == head.record);
            view.currency = account.map(|it| it.facts.currency);
            Ok(Record::from(&view))
        })
        .collect()
}

/// All of the app's.
pub(crate) async fn list(call: &Call) -> Answer {
    let end = call.input.page_end()?;
    let heads = scope::records_until(call, |heads| heads.len() >= end).await?;
    let page = call.input.page(heads.len())?.cut(heads);
    let records = shown(call, &page, &[]).await?;
    let data = Records {
        pagination: (),
        records,
    };
    success("Records retrieved successfully", data)
}

/// One. `records` is the record itself: so it was.
pub(crate) async fn get(call: &Call) -> Answer {
    let head = call.record().await?;
    // The state first: what it reads has the customer with it.
    let (state, accounts) = states::of(call, &head).await?;
    let names = Names::of_records(call, std::slice::from_ref(&head)).await?;
    let mut view = names.record(call, &head)?;
    view.currency = accounts.first().map(|account| account.facts.currency);
    let data = OneRecord {
        pagination: (),
        records: Record::from(&view),
        state,
    };
    success("Record retrieved successfully", data)
}

/// A customer's at one bank.
pub(crate) async fn get_by_customer_by_bank(call: &Call) -> Answer {
    let bank: BankId = call.input.needed_id(BANK)?;
    let mut heads = scope::records_of_customer(call).await?;
    heads.retain(|head| head.bank == bank);
    let page = call.input.page(heads.len())?.cut(heads);
    let data = Records {
        pagination: (),
        records: shown(call, &page, &[]).await?,
    };
    success("Records retrieved successfully", data)
}

documented! {
    get_by_customer_by_bank(CUSTOMER, BANK, PAGE) -> Records: "A customer's records at one bank.";
    list(optional(CUSTOMER), PAGE) -> Records: "All records of the app.";
    get(RECORD) -> OneRecord: "One record.";
}
