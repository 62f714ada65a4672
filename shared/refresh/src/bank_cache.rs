//! [`BankCache`]: bank configurations, kept in the process for [`CACHE_TTL`], so that a chunk does not read its bank.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{bank::BankConfig, ids::BankId};

/// How long a configuration is cached: what an operator changes takes effect within this time.
const CACHE_TTL: SignedDuration = SignedDuration::from_secs(60);

/// Configurations cached at most.
const MAX_CACHED_BANKS: usize = 1_000;

#[derive(Default)]
pub(crate) struct BankCache(Mutex<HashMap<BankId, (Timestamp, Arc<BankConfig>)>>);

impl BankCache {
    pub(crate) fn get_fresh(&self, bank: BankId, now: Timestamp) -> Option<Arc<BankConfig>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, config) = cached.get(&bank)?;
        // The age is below zero where a test or a simulation set the clock back.
        let age = now.duration_since(*read_at);
        (age >= SignedDuration::ZERO && age < CACHE_TTL).then(|| Arc::clone(config))
    }

    pub(crate) fn put_config(&self, config: Arc<BankConfig>, now: Timestamp) {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= MAX_CACHED_BANKS {
            cached.clear();
        }
        cached.insert(config.id, (now, config));
    }
}
