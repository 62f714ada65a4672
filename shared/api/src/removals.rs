//! Unlinking records and removing customers: what was kept of them is deleted, and a receipt says so.

use okra_core::ids::{BankId, CustomerId, ReceiptId, RecordId};
use okra_store::{Consistency, Head, Removal, Removed, Revocation};
use okra_wire::{envelope::Pagination, scalar::Instant};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::RECORD,
};

/// Receipts that a list looks at, at most.
const MAX_RECEIPTS: usize = 1000;

/// What was deleted.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Receipt {
    receipt: ReceiptId,
    customer: CustomerId,
    /// False where the bounds of one call were reached, or a bank has no place yet to be asked to take a consent back:
    /// the removal goes on by itself.
    completed: bool,
    records: Vec<RemovedRecord>,
    deleted: Deleted,
    at: Instant,
    completed_at: Option<Instant>,
    /// When the event that tells of it was deleted as well.
    ended_at: Option<Instant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RemovedRecord {
    record: RecordId,
    bank: BankId,
    /// What became of the consent at the bank: `revoked`, `not_possible`, `failed`; `pending` where the
    /// bank was not asked yet.
    consent: &'static str,
}

/// Items.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Deleted {
    records: usize,
    accounts: usize,
    transactions: usize,
    feed_entries: usize,
    deliveries: usize,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Receipts {
    pagination: Pagination,
    receipts: Vec<Receipt>,
}

impl From<Removed> for Deleted {
    fn from(removed: Removed) -> Self {
        Self {
            records: removed.records,
            accounts: removed.accounts,
            transactions: removed.transactions,
            feed_entries: removed.entries,
            deliveries: removed.deliveries,
        }
    }
}

impl From<Removal> for Receipt {
    fn from(removal: Removal) -> Self {
        let records = removal.records.into_iter().map(|of| RemovedRecord {
            record: of.record,
            bank: of.bank,
            consent: of.consent.map_or("pending", Revocation::as_str),
        });
        Self {
            receipt: removal.receipt,
            customer: removal.customer,
            completed: removal.completed_at.is_some(),
            records: records.collect(),
            deleted: removal.removed.into(),
            at: Instant(removal.at),
            completed_at: removal.completed_at.map(Instant),
            ended_at: removal.ended_at.map(Instant),
        }
    }
}

async fn remove(
    call: &Call,
    (customer, whole): (CustomerId, bool),
    heads: &[Head],
    message: &str,
) -> Answer {
    let receipt = ReceiptId::from_bytes(call.state.random()?);
    let of = (call.app()?.id, customer, whole);
    let removal = call.state.refresher().remove(receipt, of, heads).await?;
    success(message, Receipt::from(removal))
}

/// Unlinks a record: it is refreshed no more, and what was kept of it is deleted.
pub(crate) async fn unlink(call: &Call) -> Answer {
    let record = call.input.needed_id(RECORD)?;
    let head = call.own_record(record, Consistency::Strong).await?;
    remove(call, (head.customer, false), &[head], "Record unlinked").await
}

/// Removes a customer with all records.
pub(crate) async fn customer(call: &Call) -> Answer {
    let customer = call.customer().await?;
    let heads = call.state.store.records_of_customer(customer.id).await?;
    remove(call, (customer.id, true), &heads, "Customer removed").await
}

/// How far a removal has come.
pub(crate) async fn receipt(call: &Call) -> Answer {
    let receipt = call.input.needed_id(&["receipt", "id"])?;
    let removal = call.state.store.removal(call.app()?.id, receipt).await?;
    let removal = removal.ok_or_else(|| Refusal::not_found("receipt"))?;
    success("Receipt retrieved successfully", Receipt::from(removal))
}

pub(crate) async fn receipts(call: &Call) -> Answer {
    let store = &call.state.store;
    let removals = store.removals(call.app()?.id, None, MAX_RECEIPTS).await?;
    let pagination = call.input.page(removals.len())?;
    let receipts = pagination.cut(removals).into_iter().map(Receipt::from);
    let receipts = receipts.collect();
    let data = Receipts {
        pagination,
        receipts,
    };
    success("Receipts retrieved successfully", data)
}

documented! {
    unlink(RECORD) -> Receipt: "Unlinks a record and deletes what was kept of it.";
    customer(CUSTOMER) -> Receipt: "Removes a customer with all records, and deletes what was kept.";
    receipt(RECEIPT) -> Receipt: "The receipt of a removal.";
    receipts(PAGE) -> Receipts: "The receipts of the app's removals.";
}
