//! Removing records: they are refused refreshes and told of, their consents are taken back at the banks,
//! and what was kept of them is deleted.
//!
//! Each step is noted in the [`Removal`] before the next, and a message that was sent before the first
//! goes on with it where it was cut short. The same message comes once more when no refresh can be under
//! way any longer, and deletes what one may have written after the removal.

use jiff::SignedDuration;
use okra_connectors::{ConsentId, oauth::TokenGrant};
use okra_core::{
    model::{
        bank::BankConfig,
        fault::BankFault,
        ids::{AppId, CustomerId, ReceiptId},
    },
    sync::state::{RecordStatus, StateChange},
};
use okra_queue::RemovalStep;
use okra_store::{
    AdHocPermit, Consistency, DeliveryState, MAX_REMOVED_PER_CALL, RecordHead, RecordRemoval,
    Removal, RemovedCounts, RevocationOutcome,
};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher, announce, open_client_secret};

/// Seconds after which a removal that was cut short is gone on with: longer than an API call can take.
const RESUME_DELAY_S: u16 = 60;

/// Seconds after which a bank that had no place is asked to take a consent back.
const PERMIT_RETRY_DELAY_S: u16 = 10;

/// Seconds after which it is looked at again, to end what tells of it and to delete what came after it:
/// longer than any refresh, and the longest delay of a message.
const FINAL_CHECK_DELAY_S: u16 = 900;

/// How long what tells of a removal is kept for endpoints that do not take it.
const MAX_DELIVERY_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// The scope of a token that manages consents (OBIE).
const CONSENT_SCOPE: &str = "accounts";

/// How far a removal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalProgress {
    /// There is no such removal: it was not begun.
    NotFound,
    /// There is more to delete.
    InProgress,
    /// A bank is asked as often as it allows; it is asked to take a consent back when it has a place.
    AwaitingPermit,
    /// All is deleted but what tells of it, or it may still come again.
    Completed,
    /// Nothing is left.
    Finished,
}

/// What became of a record that is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordDeletion {
    /// All of it is deleted.
    Complete,
    /// There is more than one call may delete.
    Partial,
    /// Its bank has no place now to be asked to take the consent back.
    AwaitingPermit,
}

impl Refresher {
    /// Begins the removal of these records of a customer, and of the customer too where `whole`, and
    /// goes as far with it as one call may.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the removal goes on by itself where it was begun.
    pub async fn remove_records(
        &self,
        receipt: ReceiptId,
        (app, customer, whole): (AppId, CustomerId, bool),
        heads: &[RecordHead],
    ) -> Result<Removal, RefreshError> {
        let mut records = Vec::with_capacity(heads.len());
        for head in heads {
            records.push(self.plan_record_removal(head).await?);
        }
        let mut removal = Removal {
            receipt,
            app,
            customer,
            removes_customer: whole,
            records,
            removed_counts: RemovedCounts::default(),
            requested_at: self.clock.now(),
            completed_at: None,
            ended_at: None,
        };
        self.store.put_removal(&removal).await?;
        let of = RemovalStep { app, receipt };
        self.queues.send_removal_step(of, RESUME_DELAY_S).await?;
        self.advance_removal(&mut removal).await?;
        Ok(removal)
    }

    /// The removal of a record, of which nothing was done.
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

    /// Goes on with a removal, and asks for the next time where there has to be one.
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
        let removing = self.advance_removal(&mut removal).await?;
        match removing {
            RemovalProgress::NotFound | RemovalProgress::Finished => {}
            RemovalProgress::InProgress => self.queues.send_removal_step(removal_key, 0).await?,
            RemovalProgress::AwaitingPermit => {
                self.queues
                    .send_removal_step(removal_key, PERMIT_RETRY_DELAY_S)
                    .await?
            }
            RemovalProgress::Completed => {
                self.queues
                    .send_removal_step(removal_key, FINAL_CHECK_DELAY_S)
                    .await?
            }
        }
        Ok(removing)
    }

    /// Does what is next, as much as one call may.
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
            let mut waiting = false;
            for at in 0..removal.records.len() {
                let emptied = self.remove_record(removal, at).await?;
                let enough = removal.removed_counts.total_items() - before >= MAX_REMOVED_PER_CALL;
                if enough || emptied == RecordDeletion::Partial {
                    store.put_removal(removal).await?;
                    return Ok(RemovalProgress::InProgress);
                }
                waiting |= emptied == RecordDeletion::AwaitingPermit;
            }
            if waiting {
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

    /// Flags a customer that goes, so that nothing is linked to it any more. A record that was linked
    /// just before goes as well.
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

    /// Tells of a record's removal, takes its consent back, and deletes what is kept of it.
    async fn remove_record(
        &self,
        removal: &mut Removal,
        index: usize,
    ) -> Result<RecordDeletion, RefreshError> {
        let of = removal.records.get(index).filter(|of| !of.is_emptied);
        let Some(of) = of.cloned() else {
            return Ok(RecordDeletion::Complete);
        };
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        // It may have been committed and not dispatched: whoever was told already is not told again.
        let unlinked = |head: &RecordHead| {
            let linked = head.status != RecordStatus::Invalid;
            linked.then(|| (RecordStatus::Invalid, vec![(None, StateChange::Unlinked)]))
        };
        let head = announce::commit_state_changes(store, queues, of.record, now, unlinked).await?;
        let Some(head) = head else {
            self.update_record_removal(removal, index, |it| it.is_emptied = true)
                .await?;
            return Ok(RecordDeletion::Complete);
        };
        announce::dispatch_state_changes(store, queues, &head).await?;
        if of.revocation.is_none() {
            let Some(revocation) = self.revoke_record_consent(&of).await? else {
                return Ok(RecordDeletion::AwaitingPermit);
            };
            self.update_record_removal(removal, index, |it| it.revocation = Some(revocation))
                .await?;
        }
        let (removed, whole) = store.empty_record(&head, &of.accounts).await?;
        removal.removed_counts = removal.removed_counts.add_counts(removed);
        if !whole {
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
        if let Some(of) = removal.records.get_mut(index) {
            update(of);
        }
        Ok(self.store.put_removal(removal).await?)
    }

    /// Asks the bank to take a record's consent back. It is asked once: what it does not do is in the
    /// receipt, and the tokens are deleted whatever it says. `None`: it is asked as often as it allows.
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
        let grant = TokenGrant::ClientCredentials {
            scope: CONSENT_SCOPE,
        };
        let asked: Result<(), BankFault> = async {
            let ours = self
                .connectors
                .request_token(&bank, &secret, grant, now)
                .await?;
            self.connectors.revoke_consent(&bank, &ours, &id, now).await
        }
        .await;
        Ok(Some(match asked {
            Ok(()) => RevocationOutcome::Revoked,
            Err(fault) => {
                tracing::warn!(
                    bank = %bank.id,
                    record.id = %record_removal.record,
                    fault.detail,
                    "a consent could not be taken back"
                );
                RevocationOutcome::Failed
            }
        }))
    }

    /// A record's consent, its bank and our secret there, where the bank can be asked to take it back.
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

    /// Deletes what tells of the removal, once it is told, and what refreshes wrote after it, once none
    /// can be under way.
    async fn finish_removal(&self, removal: &mut Removal) -> Result<RemovalProgress, RefreshError> {
        let (store, now) = (&self.store, self.clock.now());
        let age = now.duration_since(removal.requested_at);
        let settled = age >= SignedDuration::from_secs(FINAL_CHECK_DELAY_S.into());
        let mut told = true;
        let before = removal.removed_counts;
        for of in &removal.records {
            let Some(head) = store.find_head(of.record, Consistency::Strong).await? else {
                continue;
            };
            let rows = store.find_last_state_deliveries(&head).await?;
            let is_over = |row: &Option<okra_store::Delivery>| match row {
                Some(row) => !matches!(row.state, DeliveryState::Retry | DeliveryState::Parked),
                // Nothing is kept of what an endpoint does not want; but it may still be on its way.
                None => settled,
            };
            if rows.iter().all(is_over) || age >= MAX_DELIVERY_WAIT {
                removal.removed_counts = removal
                    .removed_counts
                    .add_counts(store.delete_emptied_record(&head).await?);
            } else {
                told = false;
            }
        }
        if settled {
            for of in &removal.records {
                for &account in &of.accounts {
                    let rows = store
                        .delete_transactions(account, MAX_REMOVED_PER_CALL)
                        .await?;
                    removal.removed_counts.transactions += rows;
                }
            }
        }
        if told && settled {
            removal.ended_at = Some(now);
            for of in &mut removal.records {
                of.accounts.clear();
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
