//! Removing records: they are refused refreshes and told of, their consents are taken back at the banks,
//! and what was kept of them is deleted.
//!
//! Each step is noted in the [`Removal`] before the next, and a message that was sent before the first
//! goes on with it where it was cut short. The same message comes once more when no refresh can be under
//! way any longer, and deletes what one may have written after the removal.

use jiff::SignedDuration;
use okra_banks::{ConsentId, oauth::Grant};
use okra_core::{
    bank::BankConfig,
    fault::BankFault,
    ids::{AppId, CustomerId, ReceiptId},
    state::{RecordStatus, StateChange},
};
use okra_queue::RemovalOf;
use okra_store::{
    Consistency, DeliveryState, Head, MAX_REMOVED_AT_ONCE, Place, RecordRemoval, Removal, Removed,
    Revocation,
};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher, announce, client_secret};

/// Seconds after which a removal that was cut short is gone on with: longer than an API call can take.
const GO_ON_S: u16 = 60;

/// Seconds after which a bank that had no place is asked to take a consent back.
const PLACE_AFTER_S: u16 = 10;

/// Seconds after which it is looked at again, to end what tells of it and to delete what came after it:
/// longer than any refresh, and the longest delay of a message.
const LOOK_AGAIN_S: u16 = 900;

/// How long what tells of a removal is kept for endpoints that do not take it.
const TELL_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The scope of a token that manages consents (OBIE).
const CONSENT_SCOPE: &str = "accounts";

/// How far a removal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removing {
    /// There is no such removal: it was not begun.
    Unknown,
    /// There is more to delete.
    Going,
    /// A bank is asked as often as it allows; it is asked to take a consent back when it has a place.
    Waiting,
    /// All is deleted but what tells of it, or it may still come again.
    Completed,
    /// Nothing is left.
    Ended,
}

/// What became of a record that is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emptied {
    /// All of it is deleted.
    Wholly,
    /// There is more than one call may delete.
    Partly,
    /// Its bank has no place now to be asked to take the consent back.
    NotYet,
}

impl Refresher {
    /// Begins the removal of these records of a customer, and of the customer too where `whole`, and
    /// goes as far with it as one call may.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the removal goes on by itself where it was begun.
    pub async fn remove(
        &self,
        receipt: ReceiptId,
        (app, customer, whole): (AppId, CustomerId, bool),
        heads: &[Head],
    ) -> Result<Removal, RefreshError> {
        let mut records = Vec::with_capacity(heads.len());
        for head in heads {
            records.push(self.planned(head).await?);
        }
        let mut removal = Removal {
            receipt,
            app,
            customer,
            whole,
            records,
            removed: Removed::default(),
            at: self.clock.now(),
            completed_at: None,
            ended_at: None,
        };
        self.store.put_removal(&removal).await?;
        let of = RemovalOf { app, receipt };
        self.queues.send_removal(of, GO_ON_S).await?;
        self.proceed(&mut removal).await?;
        Ok(removal)
    }

    /// The removal of a record, of which nothing was done.
    async fn planned(&self, head: &Head) -> Result<RecordRemoval, RefreshError> {
        let consent = self.store.consent(head.record, Consistency::Strong).await?;
        let accounts = consent.iter().flat_map(|consent| &consent.accounts);
        Ok(RecordRemoval {
            record: head.record,
            bank: head.bank,
            accounts: accounts.map(|account| account.id).collect(),
            consent: None,
            emptied: false,
        })
    }

    /// Goes on with a removal, and asks for the next time where there has to be one.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]: repeat it.
    pub async fn go_on_removing(&self, of: RemovalOf) -> Result<Removing, RefreshError> {
        let Some(mut removal) = self.store.removal(of.app, of.receipt).await? else {
            return Ok(Removing::Unknown);
        };
        let removing = self.proceed(&mut removal).await?;
        match removing {
            Removing::Unknown | Removing::Ended => {}
            Removing::Going => self.queues.send_removal(of, 0).await?,
            Removing::Waiting => self.queues.send_removal(of, PLACE_AFTER_S).await?,
            Removing::Completed => self.queues.send_removal(of, LOOK_AGAIN_S).await?,
        }
        Ok(removing)
    }

    /// Does what is next, as much as one call may.
    async fn proceed(&self, removal: &mut Removal) -> Result<Removing, RefreshError> {
        let store = &self.store;
        if removal.ended_at.is_some() {
            return Ok(Removing::Ended);
        }
        if removal.completed_at.is_none() {
            if removal.whole {
                self.bar(removal).await?;
            }
            let before = removal.removed.items();
            let mut waiting = false;
            for at in 0..removal.records.len() {
                let emptied = self.empty(removal, at).await?;
                let enough = removal.removed.items() - before >= MAX_REMOVED_AT_ONCE;
                if enough || emptied == Emptied::Partly {
                    store.put_removal(removal).await?;
                    return Ok(Removing::Going);
                }
                waiting |= emptied == Emptied::NotYet;
            }
            if waiting {
                store.put_removal(removal).await?;
                return Ok(Removing::Waiting);
            }
            if removal.whole {
                let customer = removal.customer;
                store.remove_customer(removal.app, customer).await?;
            }
            removal.completed_at = Some(self.clock.now());
            store.put_removal(removal).await?;
        }
        self.end(removal).await
    }

    /// Flags a customer that goes, so that nothing is linked to it any more. A record that was linked
    /// just before goes as well.
    async fn bar(&self, removal: &mut Removal) -> Result<(), RefreshError> {
        let store = &self.store;
        let Some(mut customer) = store.customer(removal.customer).await? else {
            return Ok(());
        };
        if !customer.blocked {
            customer.blocked = true;
            store.put_customer(&customer).await?;
        }
        let heads = store.records_of_customer(removal.customer).await?;
        for head in heads {
            if removal.records.iter().any(|it| it.record == head.record) {
                continue;
            }
            removal.records.push(self.planned(&head).await?);
        }
        Ok(store.put_removal(removal).await?)
    }

    /// Tells of a record's removal, takes its consent back, and deletes what is kept of it.
    async fn empty(&self, removal: &mut Removal, at: usize) -> Result<Emptied, RefreshError> {
        let of = removal.records.get(at).filter(|of| !of.emptied);
        let Some(of) = of.cloned() else {
            return Ok(Emptied::Wholly);
        };
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        // It may have been committed and not dispatched: whoever was told already is not told again.
        let unlinked = |head: &Head| {
            let linked = head.status != RecordStatus::Invalid;
            linked.then(|| (RecordStatus::Invalid, vec![(None, StateChange::Unlinked)]))
        };
        let head = announce::announce(store, queues, of.record, now, unlinked).await?;
        let Some(head) = head else {
            self.note(removal, at, |it| it.emptied = true).await?;
            return Ok(Emptied::Wholly);
        };
        announce::tell(store, queues, &head).await?;
        if of.consent.is_none() {
            let Some(revocation) = self.revoke(&of).await? else {
                return Ok(Emptied::NotYet);
            };
            self.note(removal, at, |it| it.consent = Some(revocation))
                .await?;
        }
        let (removed, whole) = store.empty_record(&head, &of.accounts).await?;
        removal.removed = removal.removed.plus(removed);
        if !whole {
            return Ok(Emptied::Partly);
        }
        self.note(removal, at, |it| it.emptied = true).await?;
        Ok(Emptied::Wholly)
    }

    async fn note(
        &self,
        removal: &mut Removal,
        at: usize,
        change: impl FnOnce(&mut RecordRemoval),
    ) -> Result<(), RefreshError> {
        if let Some(of) = removal.records.get_mut(at) {
            change(of);
        }
        Ok(self.store.put_removal(removal).await?)
    }

    /// Asks the bank to take a record's consent back. It is asked once: what it does not do is in the
    /// receipt, and the tokens are deleted whatever it says. `None`: it is asked as often as it allows.
    async fn revoke(&self, of: &RecordRemoval) -> Result<Option<Revocation>, RefreshError> {
        let Some((bank, id, secret)) = self.revocable(of).await? else {
            return Ok(Some(Revocation::NotPossible));
        };
        if let Place::Full(_) = self.take_place(&bank).await? {
            return Ok(None);
        }
        let now = self.clock.now();
        let grant = Grant::ClientCredentials {
            scope: CONSENT_SCOPE,
        };
        let asked: Result<(), BankFault> = async {
            let ours = self.connectors.token(&bank, &secret, grant, now).await?;
            self.connectors.revoke_consent(&bank, &ours, &id, now).await
        }
        .await;
        Ok(Some(match asked {
            Ok(()) => Revocation::Revoked,
            Err(fault) => {
                tracing::warn!(
                    bank = %bank.id,
                    record.id = %of.record,
                    fault.detail,
                    "a consent could not be taken back"
                );
                Revocation::Failed
            }
        }))
    }

    /// A record's consent, its bank and our secret there, where the bank can be asked to take it back.
    async fn revocable(
        &self,
        of: &RecordRemoval,
    ) -> Result<Option<(BankConfig, ConsentId, Zeroizing<String>)>, RefreshError> {
        let consent = self.store.consent(of.record, Consistency::Strong).await?;
        let bank = self.store.bank(of.bank).await?;
        let bank = bank.filter(|bank| bank.oauth.is_some());
        let (Some(consent), Some(bank)) = (consent, bank) else {
            return Ok(None);
        };
        let id = self.tokens(&consent).ok();
        let id = id.and_then(|tokens| tokens.secret().consent_id.clone());
        let secret = client_secret(&self.vault, &bank).ok();
        Ok(id.zip(secret).map(|(id, secret)| (bank, id, secret)))
    }

    /// Deletes what tells of the removal, once it is told, and what refreshes wrote after it, once none
    /// can be under way.
    async fn end(&self, removal: &mut Removal) -> Result<Removing, RefreshError> {
        let (store, now) = (&self.store, self.clock.now());
        let age = now.duration_since(removal.at);
        let settled = age >= SignedDuration::from_secs(LOOK_AGAIN_S.into());
        let mut told = true;
        let before = removal.removed;
        for of in &removal.records {
            let Some(head) = store.head(of.record, Consistency::Strong).await? else {
                continue;
            };
            let rows = store.last_told(&head).await?;
            let is_over = |row: &Option<okra_store::Delivery>| match row {
                Some(row) => !matches!(row.state, DeliveryState::Retry | DeliveryState::Parked),
                // Nothing is kept of what an endpoint does not want; but it may still be on its way.
                None => settled,
            };
            if rows.iter().all(is_over) || age >= TELL_FOR {
                removal.removed = removal.removed.plus(store.end_record(&head).await?);
            } else {
                told = false;
            }
        }
        if settled {
            for of in &removal.records {
                for &account in &of.accounts {
                    let rows = store.delete_rows(account, MAX_REMOVED_AT_ONCE).await?;
                    removal.removed.transactions += rows;
                }
            }
        }
        if told && settled {
            removal.ended_at = Some(now);
            for of in &mut removal.records {
                of.accounts.clear();
            }
        }
        if removal.removed != before || removal.ended_at.is_some() {
            store.put_removal(removal).await?;
        }
        Ok(match removal.ended_at {
            Some(_) => Removing::Ended,
            None => Removing::Completed,
        })
    }
}
