//! [`FetchedRecord`]: what a bank answered for a record, as the changed path takes it; [`account_ref`] is an account as
//! the connector takes it.

use std::net::IpAddr;

use jiff::{Timestamp, civil::Date};
use okra_connectors::{AccountRef, ConsentSecret};
use okra_core::{
    model::{bank::BankConfig, snapshot::Snapshot},
    resilience::failure_state::SuspendedProducts,
    sync::decide::SnapshotDigests,
};
use okra_store::{Consent, ConsentAccount};

/// An account as the connector takes it.
pub(crate) fn account_ref(account: &ConsentAccount) -> AccountRef<'_> {
    AccountRef {
        id: account.account_id,
        bank_account_id: &account.bank_account_id,
    }
}

/// What a bank answered for a record, and how it was called.
#[derive(Clone, Copy)]
pub(crate) struct FetchedRecord<'a> {
    pub(crate) bank: &'a BankConfig,
    pub(crate) secret: &'a ConsentSecret,
    pub(crate) consent: &'a Consent,
    /// The address of the bank's customer, where they are present.
    pub(crate) user_present: Option<IpAddr>,
    /// What was not fetched because it is suspended.
    pub(crate) suspended_products: &'a SuspendedProducts,
    pub(crate) window_from: Date,
    pub(crate) requested_at: Timestamp,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) snapshot_digests: &'a SnapshotDigests,
}

impl FetchedRecord<'_> {
    /// True where the bank counts the calls of this refresh, so that no further call is made for it.
    pub(crate) const fn has_call_quota(&self) -> bool {
        self.user_present.is_none() && self.bank.limits.unattended_per_day.is_some()
    }
}
