//! Unlinking records and removing customers: what was kept of them is deleted, and a receipt says so.

use okra_core::ids::{CustomerId, RecordId};
use okra_store::{Consistency, Head, RecordStatus, Removed};
use okra_wire::scalar::Instant;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::RECORD,
};

/// What was deleted, and whether anything is left: then the same call goes on.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Receipt {
    receipt: RecordId,
    customer: CustomerId,
    /// False where the bounds of one call were reached: call again, until it is true.
    completed: bool,
    deleted: Deleted,
    at: Instant,
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

/// Removes these records as far as one call may. They are refused refreshes before anything is
/// deleted.
async fn remove(call: &Call, heads: &[Head]) -> Result<(Removed, bool), Refusal> {
    let store = &call.state.store;
    let mut removed = Removed::default();
    for head in heads {
        if head.status != RecordStatus::Invalid {
            store.set_status(head.record, RecordStatus::Invalid).await?;
        }
    }
    for head in heads {
        let (of_record, completed) = store.remove_record(head).await?;
        removed = removed.plus(of_record);
        if !completed || removed.items() >= okra_store::MAX_REMOVED_AT_ONCE {
            return Ok((removed, completed && heads.last() == Some(head)));
        }
    }
    Ok((removed, true))
}

async fn answer(
    call: &Call,
    customer: CustomerId,
    completed: bool,
    removed: Removed,
    message: &str,
) -> Answer {
    let receipt = Receipt {
        receipt: RecordId::from_bytes(call.state.random()?),
        customer,
        completed,
        deleted: removed.into(),
        at: Instant(call.now()),
    };
    let kept = serde_json::to_value(&receipt)?;
    let store = &call.state.store;
    store
        .put_receipt(call.app()?.id, &receipt.receipt.to_string(), &kept)
        .await?;
    success(message, receipt)
}

/// Unlinks a record: it is refreshed no more, and what was kept of it is deleted.
pub(crate) async fn unlink(call: &Call) -> Answer {
    let record = call.input.needed_id(RECORD)?;
    let head = call.own_record(record, Consistency::Strong).await?;
    let customer = head.customer;
    let (removed, completed) = remove(call, &[head]).await?;
    answer(call, customer, completed, removed, "Record unlinked").await
}

/// Removes a customer with all records.
pub(crate) async fn customer(call: &Call) -> Answer {
    let customer = call.customer().await?;
    let store = &call.state.store;
    let heads = store.records_of_customer(customer.id).await?;
    let (removed, completed) = remove(call, &heads).await?;
    if completed {
        store.remove_customer(call.app()?.id, customer.id).await?;
    }
    answer(call, customer.id, completed, removed, "Customer removed").await
}

documented! {
    unlink(RECORD) -> Receipt: "Unlinks a record and deletes what was kept of it.";
    customer(CUSTOMER) -> Receipt: "Removes a customer with all records, and deletes what was kept.";
}
