//! Removal: a record is unlinked, or a customer removed with all records, and their data is deleted. The receipt of a
//! removal ([`Removal`]) says what was deleted and what became of each consent.
//!
//! The rule: a removal that reaches the bounds of one request, or waits for a bank's permit to revoke a consent, goes on
//! by itself; its receipt says how far it has come.

use okra_core::model::ids::{CustomerId, ReceiptId, RecordId};
use okra_refresh::removal::RemovalScope;
use okra_store::{Consistency, RecordHead, Removal};

use crate::{app_scope::AppScope, error::AppError};

/// Most receipts that a list looks at.
const MAX_RECEIPTS: usize = 1000;

impl AppScope {
    /// Unlinks a record: it is refreshed no more, and its data is deleted.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the record is not the app's.
    pub async fn unlink_record(&self, record: RecordId) -> Result<Removal, AppError> {
        let head = self.load_own_record(record, Consistency::Strong).await?;
        self.remove_records(head.customer, false, &[head]).await
    }

    /// Removes a customer with all records.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the customer is not the app's.
    pub async fn remove_customer(&self, customer: CustomerId) -> Result<Removal, AppError> {
        let customer = self.load_own_customer(customer).await?.id;
        let heads = self.store().list_records_of_customer(customer).await?;
        self.remove_records(customer, true, &heads).await
    }

    /// The receipt of a removal.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none with that id.
    pub async fn load_receipt(&self, receipt: ReceiptId) -> Result<Removal, AppError> {
        let removal = self.store().find_removal(self.app().id, receipt).await?;
        removal.ok_or(AppError::NotFound { what: "receipt" })
    }

    /// The receipts of the app, 1,000 at most.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn list_receipts(&self) -> Result<Vec<Removal>, AppError> {
        let removals = self
            .store()
            .list_removals(self.app().id, None, MAX_RECEIPTS);
        Ok(removals.await?)
    }

    async fn remove_records(
        &self,
        customer: CustomerId,
        removes_customer: bool,
        heads: &[RecordHead],
    ) -> Result<Removal, AppError> {
        let receipt = ReceiptId::from_bytes(self.services().random_bytes()?);
        let refresher = self.services().build_refresher();
        let scope = RemovalScope {
            app: self.app().id,
            customer,
            removes_customer,
        };
        Ok(refresher.remove_records(receipt, scope, heads).await?)
    }
}
