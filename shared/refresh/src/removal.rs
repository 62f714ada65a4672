//! Removing records: they are refreshed no more, their apps are notified, their consents are revoked at the banks, and
//! what was stored of them is deleted.
//!
//! [`Removal`] is the receipt, in which each step is noted before the next; [`RemovalProgress`] says how far it has come.
//! The rule: a message that was sent before the first step goes on with a removal that was cut short. The same message
//! comes once more when no refresh can be under way any longer, and deletes what one may have written after the removal.

use jiff::SignedDuration;
use okra_connectors::ConsentId;
use okra_core::{
    model::{
        bank::BankConfig,
        ids::{AppId, CustomerId, ReceiptId},
    },
    sync::state::{RecordStatus, StateChange},
};
use okra_queue::RemovalStep;
use okra_store::{
    AdHocPermit, Consistency, Delivery, DeliveryState, MAX_REMOVED_PER_CALL, RecordHead,
    RecordRemoval, Removal, RemovedCounts, RevocationOutcome,
};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher, announce, open_client_secret};

/// Seconds after which a removal that was cut short goes on: longer than an API call can take.
const RESUME_DELAY_S: u16 = 60;

/// Seconds after which a consent is revoked whose bank had no permit left.
const PERMIT_RETRY_DELAY_S: u16 = 10;

/// Seconds after which a removal is checked for the last time, to delete its deliveries and what refreshes wrote after
/// it: longer than any refresh, and the longest delay of a message.
const FINAL_CHECK_DELAY_S: u16 = 900;

/// How long the deliveries of a removal are kept for endpoints that do not accept them.
const MAX_DELIVERY_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// How far a removal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalProgress {
    /// There is no such removal: it was not begun.
    NotFound,
    /// There is more to delete.
    InProgress,
    /// A bank's rate has no permit left; the consent is revoked when it has one.
    AwaitingPermit,
    /// All is deleted but the deliveries that announce it, or what a refresh may still write.
    Completed,
    /// Nothing is left.
    Finished,
}

/// How far the deletion of a record has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordDeletion {
    /// All of it is deleted.
    Complete,
    /// There is more than one call may delete.
    Partial,
    /// Its bank's rate has no permit left to revoke the consent.
    AwaitingPermit,
}

/// Whose records are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalScope {
    /// The app.
    pub app: AppId,
    /// The customer.
    pub customer: CustomerId,
    /// True where the customer is removed with all of its records.
    pub removes_customer: bool,
}

impl Refresher {
    /// Begins the removal of these records of a customer, and goes as far with it as one call may.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the removal goes on by itself where it was begun.
    pub async fn remove_records(
        &self,
        receipt: ReceiptId,
        scope: RemovalScope,
        heads: &[RecordHead],
    ) -> Result<Removal, RefreshError> {
        let mut records = Vec::with_capacity(heads.len());
        for head in heads {
            records.push(self.plan_record_removal(head).await?);
        }
        let mut removal = Removal {
            receipt,
            app: scope.app,
            customer: scope.customer,
            removes_customer: scope.removes_customer,
            records,
            removed_counts: RemovedCounts::default(),
            requested_at: self.clock.now(),
            completed_at: None,
            ended_at: None,
        };
        self.store.put_removal(&removal).await?;
        let step = RemovalStep {
            app: scope.app,
            receipt,
        };
        self.queues.send_removal_step(step, RESUME_DELAY_S).await?;
        self.advance_removal(&mut removal).await?;
        Ok(removal)
    }

    /// The removal of a record, before its first step.
    async fn plan_record_removal(&self, head: &RecordHead) -> Result<RecordRemoval, RefreshError> {
        let consent = self
            .store
            .find_consent(head.record, Consistency::Strong)
            .await?;
        let accounts = consent.iter().flat_map(|consent| &consent.accounts);
        Ok(RecordRemoval {
            record: head.record,
            bank: head.bank,
            accounts: accounts.map(|account| account.account_id).collect(),
            revocation: None,
            is_emptied: false,
        })
    }

    /// Goes on with a removal, and enqueues its next step where there has to be one.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]: repeat it.
    pub async fn continue_removal(
        &self,
        removal_key: RemovalStep,
    ) -> Result<RemovalProgress, RefreshError> {
        let Some(mut removal) = self
            .store
            .find_removal(removal_key.app, removal_key.receipt)
            .await?
        else {
            return Ok(RemovalProgress::NotFound);
        };
        let progress = self.advance_removal(&mut removal).await?;
        match progress {
            RemovalProgress::NotFound | RemovalProgress::Finished => {}
            RemovalProgress::InProgress => self.queues.send_removal_step(removal_key, 0).await?,
            RemovalProgress::AwaitingPermit => {
                self.queues
                    .send_removal_step(removal_key, PERMIT_RETRY_DELAY_S)
                    .await?;
            }
            RemovalProgress::Completed => {
                self.queues
                    .send_removal_step(removal_key, FINAL_CHECK_DELAY_S)
                    .await?;
            }
        }
        Ok(progress)
    }

    /// Makes the next steps, as many as one call may.
    async fn advance_removal(
        &self,
        removal: &mut Removal,
    ) -> Result<RemovalProgress, RefreshError> {
        let store = &self.store;
        if removal.ended_at.is_some() {
            return Ok(RemovalProgress::Finished);
        }
        if removal.completed_at.is_none() {
            if removal.removes_customer {
                self.block_customer(removal).await?;
            }
            let before = removal.removed_counts.total_items();
            let mut is_waiting = false;
            for index in 0..removal.records.len() {
                let deletion = self.remove_record(removal, index).await?;
                let removed = removal.removed_counts.total_items() - before;
                if removed >= MAX_REMOVED_PER_CALL || deletion == RecordDeletion::Partial {
                    store.put_removal(removal).await?;
                    return Ok(RemovalProgress::InProgress);
                }
                is_waiting |= deletion == RecordDeletion::AwaitingPermit;
            }
            if is_waiting {
                store.put_removal(removal).await?;
                return Ok(RemovalProgress::AwaitingPermit);
            }
            if removal.removes_customer {
                let customer = removal.customer;
                store.delete_customer(removal.app, customer).await?;
            }
            removal.completed_at = Some(self.clock.now());
            store.put_removal(removal).await?;
        }
        self.finish_removal(removal).await
    }

    /// Blocks a customer that is removed, so that nothing is linked to it any more. A record that was linked just before
    /// is removed as well.
    async fn block_customer(&self, removal: &mut Removal) -> Result<(), RefreshError> {
        let store = &self.store;
        let Some(mut customer) = store.find_customer(removal.customer).await? else {
            return Ok(());
        };
        if !customer.is_blocked {
            customer.is_blocked = true;
            store.put_customer(&customer).await?;
        }
        let heads = store.list_records_of_customer(removal.customer).await?;
        for head in heads {
            if removal.records.iter().any(|it| it.record == head.record) {
                continue;
            }
            removal.records.push(self.plan_record_removal(&head).await?);
        }
        Ok(store.put_removal(removal).await?)
    }

    /// Announces a record's removal, revokes its consent, and deletes what is stored of it.
    async fn remove_record(
        &self,
        removal: &mut Removal,
        index: usize,
    ) -> Result<RecordDeletion, RefreshError> {
        let record = removal.records.get(index).filter(|it| !it.is_emptied);
        let Some(record) = record.cloned() else {
            return Ok(RecordDeletion::Complete);
        };
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        let head = announce::commit_state_changes(store, queues, record.record, now, unlink_record)
            .await?;
        let Some(head) = head else {
            self.update_record_removal(removal, index, |it| it.is_emptied = true)
                .await?;
            return Ok(RecordDeletion::Complete);
        };
        // It may have been committed before, and not dispatched.
        announce::dispatch_state_changes(store, queues, &head).await?;
        if record.revocation.is_none() {
            let Some(revocation) = self.revoke_record_consent(&record).await? else {
                return Ok(RecordDeletion::AwaitingPermit);
            };
            self.update_record_removal(removal, index, |it| it.revocation = Some(revocation))
                .await?;
        }
        let (removed, is_empty) = store.empty_record(&head, &record.accounts).await?;
        removal.removed_counts = removal.removed_counts.add_counts(removed);
        if !is_empty {
            return Ok(RecordDeletion::Partial);
        }
        self.update_record_removal(removal, index, |it| it.is_emptied = true)
            .await?;
        Ok(RecordDeletion::Complete)
    }

    async fn update_record_removal(
        &self,
        removal: &mut Removal,
        index: usize,
        update: impl FnOnce(&mut RecordRemoval),
    ) -> Result<(), RefreshError> {
        if let Some(record) = removal.records.get_mut(index) {
            update(record);
        }
        Ok(self.store.put_removal(removal).await?)
    }

    /// Revokes a record's consent at its bank. That is tried once: the receipt says whether it succeeded, and the tokens
    /// are deleted in any case. `None` where the bank's rate has no permit left.
    async fn revoke_record_consent(
        &self,
        record_removal: &RecordRemoval,
    ) -> Result<Option<RevocationOutcome>, RefreshError> {
        let Some((bank, id, secret)) = self.load_revocable_consent(record_removal).await? else {
            return Ok(Some(RevocationOutcome::NotPossible));
        };
        if let AdHocPermit::ExhaustedUntil(_) = self.acquire_bank_permit(&bank).await? {
            return Ok(None);
        }
        let now = self.clock.now();
        let revoked = self
            .connectors
            .revoke_consent(&bank, &secret, &id, now)
            .await;
        Ok(Some(match revoked {
            Ok(()) => RevocationOutcome::Revoked,
            Err(fault) => {
                tracing::warn!(
                    bank.id = %bank.id,
                    record.id = %record_removal.record,
                    fault.detail,
                    "The consent could not be revoked at the bank; its tokens are deleted"
                );
                RevocationOutcome::Failed
            }
        }))
    }

    /// A record's bank, the id of its consent and our secret there, where the consent can be revoked.
    async fn load_revocable_consent(
        &self,
        record_removal: &RecordRemoval,
    ) -> Result<Option<(BankConfig, ConsentId, Zeroizing<String>)>, RefreshError> {
        let consent = self
            .store
            .find_consent(record_removal.record, Consistency::Strong)
            .await?;
        let bank = self.store.find_bank(record_removal.bank).await?;
        let bank = bank.filter(|bank| bank.oauth.is_some());
        let (Some(consent), Some(bank)) = (consent, bank) else {
            return Ok(None);
        };
        let id = self.open_tokens(&consent).ok();
        let id = id.and_then(|tokens| tokens.consent_secret().consent_id.clone());
        let secret = open_client_secret(&self.vault, &bank).ok();
        Ok(id.zip(secret).map(|(id, secret)| (bank, id, secret)))
    }

    /// Deletes the deliveries of the removal, once they have ended, and what refreshes wrote after it, once none
    /// can be under way.
    async fn finish_removal(&self, removal: &mut Removal) -> Result<RemovalProgress, RefreshError> {
        let (store, now) = (&self.store, self.clock.now());
        let age = now.duration_since(removal.requested_at);
        let is_settled = age >= SignedDuration::from_secs(FINAL_CHECK_DELAY_S.into());
        let mut is_announced = true;
        let before = removal.removed_counts;
        for record in &removal.records {
            let Some(head) = store.find_head(record.record, Consistency::Strong).await? else {
                continue;
            };
            let deliveries = store.find_last_state_deliveries(&head).await?;
            let mut deliveries = deliveries.iter();
            if deliveries.all(|it| is_delivery_over(it.as_ref(), is_settled))
                || age >= MAX_DELIVERY_WAIT
            {
                removal.removed_counts = removal
                    .removed_counts
                    .add_counts(store.delete_emptied_record(&head).await?);
            } else {
                is_announced = false;
            }
        }
        if is_settled {
            for record in &removal.records {
                for &account in &record.accounts {
                    let rows = store
                        .delete_transactions(account, MAX_REMOVED_PER_CALL)
                        .await?;
                    removal.removed_counts.transactions += rows;
                }
            }
        }
        if is_announced && is_settled {
            removal.ended_at = Some(now);
            for record in &mut removal.records {
                record.accounts.clear();
            }
        }
        if removal.removed_counts != before || removal.ended_at.is_some() {
            store.put_removal(removal).await?;
        }
        Ok(match removal.ended_at {
            Some(_) => RemovalProgress::Finished,
            None => RemovalProgress::Completed,
        })
    }
}

/// The change of a head whose record is unlinked; `None` where it is already.
fn unlink_record(head: &RecordHead) -> Option<announce::StatusTransition> {
    (head.status != RecordStatus::Invalid).then(|| announce::StatusTransition {
        status: RecordStatus::Invalid,
        changes: vec![(None, StateChange::Unlinked)],
    })
}

/// True where a delivery has ended. Nothing is stored of an event that an endpoint does not subscribe to; but until the
/// removal `is_settled`, it may still be on its way.
fn is_delivery_over(delivery: Option<&Delivery>, is_settled: bool) -> bool {
    delivery.map_or(is_settled, |it| {
        !matches!(it.state, DeliveryState::Retry | DeliveryState::Parked)
    })
}
