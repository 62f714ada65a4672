//! Permits of a bank's rate limit for calls that are not part of a tick: linking, logins, refreshes on demand.
//! [`BankPermit`] says whether one was granted in time.
//!
//! The rule: no call to a bank is made without a permit, and none is waited for longer than the caller can wait.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{bank::BankConfig, ids::BankId};
use okra_store::{AdHocPermit, StoreError};

use crate::{
    app_scope::AppScope,
    error::{AppError, RetryTime},
    services::Services,
};

/// How long a caller waits for a permit: the bank's response has to come within the gateway's 30 seconds.
const MAX_PERMIT_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// Whether a permit was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BankPermit {
    /// The bank may be called now.
    Granted,
    /// The bank's rate limit has no permit before this time.
    ExhaustedUntil(Timestamp),
}

impl BankPermit {
    /// True where the bank may not be called.
    pub const fn is_exhausted(self) -> bool {
        matches!(self, Self::ExhaustedUntil(_))
    }
}

impl Services {
    /// Takes a bank's next permit and waits for it, 5 seconds at most. One permit covers all calls of one step: sending
    /// the user to the bank, taking the user back, linking a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn await_bank_permit(
        &self,
        bank: &BankConfig,
        now: Timestamp,
    ) -> Result<BankPermit, StoreError> {
        let rate = bank.limits.records_per_second;
        let permit = self
            .store
            .reserve_ad_hoc_permit(bank.id, rate, now, MAX_PERMIT_WAIT)
            .await?;
        match permit {
            AdHocPermit::GrantedAt(at) => {
                let wait = at.duration_since(now).unsigned_abs();
                tokio::time::sleep(wait.min(MAX_PERMIT_WAIT.unsigned_abs())).await;
                Ok(BankPermit::Granted)
            }
            AdHocPermit::ExhaustedUntil(at) => Ok(BankPermit::ExhaustedUntil(at)),
        }
    }
}

impl AppScope {
    /// Waits for a permit; without one the request fails with [`AppError::BankBusy`].
    pub(crate) async fn await_bank_permit(&self, bank: &BankConfig) -> Result<(), AppError> {
        let now = self.now();
        match self.services().await_bank_permit(bank, now).await? {
            BankPermit::Granted => Ok(()),
            BankPermit::ExhaustedUntil(at) => Err(AppError::BankBusy {
                retry: RetryTime::new(at, now),
            }),
        }
    }

    /// Reserves a permit that is due within `max_deferral`, without waiting for it.
    pub(crate) async fn reserve_bank_permit(
        &self,
        bank: BankId,
        max_deferral: SignedDuration,
    ) -> Result<AdHocPermit, AppError> {
        let config = self.store().find_bank(bank).await?;
        // A bank that is gone has the default rate.
        let limits = config.map(|config| config.limits).unwrap_or_default();
        let rate = limits.records_per_second;
        let permit = self
            .store()
            .reserve_ad_hoc_permit(bank, rate, self.now(), max_deferral);
        Ok(permit.await?)
    }
}
