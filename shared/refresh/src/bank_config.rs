//! Bank configurations: [`BankCache`] keeps them in the process for [`CACHE_TTL`], so that a chunk does not read its
//! bank; and the permits that a bank's rate has beside the planned chunks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{bank::BankConfig, ids::BankId};
use okra_store::AdHocPermit;

use crate::{RefreshError, Refresher};

/// How long a configuration is cached: what an operator changes takes effect within this time.
const CACHE_TTL: SignedDuration = SignedDuration::from_secs(60);

/// Configurations cached at most.
const MAX_CACHED_BANKS: usize = 1_000;

#[derive(Default)]
pub(crate) struct BankCache(Mutex<HashMap<BankId, (Timestamp, Arc<BankConfig>)>>);

impl BankCache {
    fn get_fresh(&self, bank: BankId, now: Timestamp) -> Option<Arc<BankConfig>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, config) = cached.get(&bank)?;
        // The age is below zero where a test or a simulation set the clock back.
        let age = now.duration_since(*read_at);
        (age >= SignedDuration::ZERO && age < CACHE_TTL).then(|| Arc::clone(config))
    }

    fn put_config(&self, config: Arc<BankConfig>, now: Timestamp) {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= MAX_CACHED_BANKS {
            cached.clear();
        }
        cached.insert(config.id, (now, config));
    }
}

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

    /// The configuration of a bank, at most [`CACHE_TTL`] old.
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
