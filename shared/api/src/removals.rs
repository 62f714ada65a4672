//! Unlinking records and removing customers: what was kept of them is deleted, and a receipt says so.

use okra_core::model::ids::{BankId, CustomerId, ReceiptId, RecordId};
use okra_refresh::removal::RemovalScope;
use okra_store::{Consistency, RecordHead, Removal, RemovedCounts, RevocationOutcome};
use okra_wire::{envelope::Pagination, scalar::IsoInstant};
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::RECORD,
};

/// Receipts that a list looks at, at most.
const MAX_RECEIPTS: usize = 1000;

/// What was deleted.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RemovalReceipt {
    receipt: ReceiptId,
    customer: CustomerId,
    /// False where the bounds of one call were reached, or a bank has no place yet to be asked to take a consent back:
    /// the removal goes on by itself.
    completed: bool,
    records: Vec<RemovedRecord>,
    deleted: DeletedCounts,
    at: IsoInstant,
    completed_at: Option<IsoInstant>,
    /// When the event that tells of it was deleted as well.
    ended_at: Option<IsoInstant>,
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

async fn remove_records(
    request: &ApiRequest,
    customer: CustomerId,
    removes_customer: bool,
    heads: &[RecordHead],
    message: &str,
) -> ApiResponse {
    let receipt = ReceiptId::from_bytes(request.services.random_bytes()?);
    let scope = RemovalScope {
        app: request.require_app()?.id,
        customer,
        removes_customer,
    };
    let removal = request
        .services
        .build_refresher()
        .remove_records(receipt, scope, heads)
        .await?;
    success_response(message, RemovalReceipt::from(removal))
}

/// Unlinks a record: it is refreshed no more, and what was kept of it is deleted.
pub(crate) async fn unlink_record(request: &ApiRequest) -> ApiResponse {
    let record = request.input.require_id(RECORD)?;
    let head = request
        .scope()?
        .load_own_record(record, Consistency::Strong)
        .await?;
    remove_records(request, head.customer, false, &[head], "Record unlinked").await
}

/// Removes a customer with all records.
pub(crate) async fn remove_customer(request: &ApiRequest) -> ApiResponse {
    let customer = request.load_requested_customer().await?;
    let heads = request
        .services
        .store
        .list_records_of_customer(customer.id)
        .await?;
    remove_records(request, customer.id, true, &heads, "Customer removed").await
}

/// How far a removal has come.
pub(crate) async fn get_receipt(request: &ApiRequest) -> ApiResponse {
    let receipt = request.input.require_id(&["receipt", "id"])?;
    let removal = request
        .services
        .store
        .find_removal(request.require_app()?.id, receipt)
        .await?;
    let removal = removal.ok_or_else(|| ApiError::not_found("receipt"))?;
    success_response(
        "Receipt retrieved successfully",
        RemovalReceipt::from(removal),
    )
}

pub(crate) async fn list_receipts(request: &ApiRequest) -> ApiResponse {
    let store = &request.services.store;
    let removals = store
        .list_removals(request.require_app()?.id, None, MAX_RECEIPTS)
        .await?;
    let pagination = request.input.parse_page(removals.len())?;
    let receipts = pagination
        .cut_page(removals)
        .into_iter()
        .map(RemovalReceipt::from);
    let receipts = receipts.collect();
    let data = ReceiptsResponse {
        pagination,
        receipts,
    };
    success_response("Receipts retrieved successfully", data)
}

documented! {
    unlink_record(RECORD) -> RemovalReceipt: "Unlinks a record and deletes what was kept of it.";
    remove_customer(CUSTOMER) -> RemovalReceipt: "Removes a customer with all records, and deletes what was kept.";
    get_receipt(RECEIPT) -> RemovalReceipt: "The receipt of a removal.";
    list_receipts(PAGE) -> ReceiptsResponse: "The receipts of the app's removals.";
}
