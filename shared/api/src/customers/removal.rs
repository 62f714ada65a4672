//! The calls that unlink a record or remove a customer, and their receipts. What they do is in [`okra_app::removal`].

use okra_core::model::ids::{BankId, CustomerId, ReceiptId, RecordId};
use okra_store::{Removal, RemovedCounts, RevocationOutcome};
use okra_wire::{envelope::Pagination, scalar::IsoInstant};
use serde::Serialize;

use crate::http::{
    envelope::{ApiResponse, success_response},
    input::{CUSTOMER, RECORD},
    request::ApiRequest,
};

/// What was deleted.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RemovalReceipt {
    receipt: ReceiptId,
    customer: CustomerId,
    /// False where the bounds of one request were reached, or a bank's rate limit has no permit yet to revoke a consent:
    /// the removal goes on by itself.
    completed: bool,
    records: Vec<RemovedRecord>,
    deleted: DeletedCounts,
    at: IsoInstant,
    completed_at: Option<IsoInstant>,
    /// When the event about it was deleted as well.
    ended_at: Option<IsoInstant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RemovedRecord {
    record: RecordId,
    bank: BankId,
    /// What became of the consent at the bank: `revoked`, `not_possible` or `failed`; `pending` before the bank was
    /// called.
    consent: &'static str,
}

/// Items.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct DeletedCounts {
    records: usize,
    accounts: usize,
    transactions: usize,
    feed_entries: usize,
    deliveries: usize,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ReceiptsResponse {
    pagination: Pagination,
    receipts: Vec<RemovalReceipt>,
}

impl From<RemovedCounts> for DeletedCounts {
    fn from(removed: RemovedCounts) -> Self {
        Self {
            records: removed.records,
            accounts: removed.accounts,
            transactions: removed.transactions,
            feed_entries: removed.entries,
            deliveries: removed.deliveries,
        }
    }
}

impl From<Removal> for RemovalReceipt {
    fn from(removal: Removal) -> Self {
        let records = removal.records.into_iter().map(|of| RemovedRecord {
            record: of.record,
            bank: of.bank,
            consent: of.revocation.map_or("pending", RevocationOutcome::as_str),
        });
        Self {
            receipt: removal.receipt,
            customer: removal.customer,
            completed: removal.completed_at.is_some(),
            records: records.collect(),
            deleted: removal.removed_counts.into(),
            at: IsoInstant(removal.requested_at),
            completed_at: removal.completed_at.map(IsoInstant),
            ended_at: removal.ended_at.map(IsoInstant),
        }
    }
}

pub(crate) async fn unlink_record(request: &ApiRequest) -> ApiResponse {
    let record = request.input.require_id(RECORD)?;
    let removal = request.scope()?.unlink_record(record).await?;
    success_response("Record unlinked", RemovalReceipt::from(removal))
}

pub(crate) async fn remove_customer(request: &ApiRequest) -> ApiResponse {
    let customer = request.input.require_id(CUSTOMER)?;
    let removal = request.scope()?.remove_customer(customer).await?;
    success_response("Customer removed", RemovalReceipt::from(removal))
}

pub(crate) async fn get_receipt(request: &ApiRequest) -> ApiResponse {
    let receipt = request.input.require_id(&["receipt", "id"])?;
    let removal = request.scope()?.load_receipt(receipt).await?;
    success_response(
        "Receipt retrieved successfully",
        RemovalReceipt::from(removal),
    )
}

pub(crate) async fn list_receipts(request: &ApiRequest) -> ApiResponse {
    let removals = request.scope()?.list_receipts().await?;
    let pagination = request.input.parse_page(removals.len())?;
    let receipts = pagination.cut_page(removals).into_iter();
    let data = ReceiptsResponse {
        receipts: receipts.map(RemovalReceipt::from).collect(),
        pagination,
    };
    success_response("Receipts retrieved successfully", data)
}

routes! {
    Change Key [Ours "records/unlink"] => unlink_record(RECORD) -> RemovalReceipt:
        "Unlinks a record, revokes its consent, deletes its data, and returns a receipt.";
    Change Key [Okra "customers/remove"] => remove_customer(CUSTOMER) -> RemovalReceipt:
        "Removes a customer with all records and data, and returns a receipt.";
    Post Key [Ours "receipts/get"] => get_receipt(RECEIPT) -> RemovalReceipt:
        "Returns the receipt of a removal, with its progress.";
    Post Key [Ours "receipts/list"] => list_receipts(PAGE) -> ReceiptsResponse:
        "Lists the receipts of the app's removals.";
}
