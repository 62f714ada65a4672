//! The configuration of a bank, and the permits that its rate has beside the planned chunks.

use std::sync::Arc;

use jiff::SignedDuration;
use okra_core::model::{bank::BankConfig, ids::BankId};
use okra_store::AdHocPermit;

use crate::{RefreshError, Refresher};

impl Refresher {
    /// Takes a permit of the rate that a bank has beside its ticks, where one is free now.
    pub(crate) async fn acquire_bank_permit(
        &self,
        bank: &BankConfig,
    ) -> Result<AdHocPermit, RefreshError> {
        let (rate, now) = (bank.limits.records_per_second, self.clock.now());
        let ahead = SignedDuration::ZERO;
        Ok(self
            .store
            .reserve_ad_hoc_permit(bank.id, rate, now, ahead)
            .await?)
    }

    /// Records of the bank that may be refreshed in a second; `None` where the bank is no longer configured.
    pub(crate) async fn bank_rate_limit(&self, bank: BankId) -> Result<Option<u32>, RefreshError> {
        match self.bank_config(bank).await {
            Ok(config) => Ok(Some(config.limits.records_per_second)),
            Err(RefreshError::UnknownBank(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The configuration of a bank, as it was at most a minute ago.
    pub(crate) async fn bank_config(&self, bank: BankId) -> Result<Arc<BankConfig>, RefreshError> {
        let now = self.clock.now();
        if let Some(config) = self.banks.get_fresh(bank, now) {
            return Ok(config);
        }
        let config = self
            .store
            .find_bank(bank)
            .await?
            .ok_or(RefreshError::UnknownBank(bank))?;
        let config = Arc::new(config);
        self.banks.put_config(Arc::clone(&config), now);
        Ok(config)
    }
}
