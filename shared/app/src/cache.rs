//! [`AppBankCache`]: apps by their keys, and the banks, so that not every request reads them.
//!
//! The rule: an entry is used for [`CACHE_TTL`] at most. A key that another process revokes, and a bank that another
//! process changes, stay in use for that long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::ids::{AppId, BankId};
use okra_store::{App, KeyHash, KeyOwner, OwnedBank, Store, StoreError};

/// How long an entry is used.
const CACHE_TTL: SignedDuration = SignedDuration::from_secs(5);

/// Most keys whose apps are cached.
const MAX_CACHED_KEYS: usize = 1000;

/// Banks in the order of their ids.
pub type CachedBanks = Arc<Vec<Arc<OwnedBank>>>;

struct CachedApp {
    app: Arc<App>,
    owner: KeyOwner,
    read_at: Timestamp,
}

/// Apps by the hash of a key, and all banks.
#[derive(Default)]
pub(crate) struct AppBankCache {
    apps: Mutex<HashMap<KeyHash, CachedApp>>,
    banks: Mutex<Option<(Timestamp, CachedBanks)>>,
}

fn lock_unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_fresh(read_at: Timestamp, now: Timestamp) -> bool {
    // The age is negative where a test clock was set back.
    let age = now.duration_since(read_at);
    age >= SignedDuration::ZERO && age < CACHE_TTL
}

impl AppBankCache {
    /// The app of a key that has not expired.
    pub(crate) async fn load_app(
        &self,
        store: &Store,
        key: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<App>>, StoreError> {
        if let Some(cached) = lock_unpoisoned(&self.apps).get(&key)
            && is_fresh(cached.read_at, now)
        {
            return Ok(cached.owner.is_valid(now).then(|| Arc::clone(&cached.app)));
        }
        let owner = store.find_key_owner(key).await?;
        let Some(owner) = owner.filter(|it| it.is_valid(now)) else {
            return Ok(None);
        };
        let Some(app) = store.find_app(owner.app).await?.map(Arc::new) else {
            return Ok(None);
        };
        let entry = CachedApp {
            app: Arc::clone(&app),
            owner,
            read_at: now,
        };
        let mut apps = lock_unpoisoned(&self.apps);
        if apps.len() >= MAX_CACHED_KEYS {
            apps.clear();
        }
        apps.insert(key, entry);
        Ok(Some(app))
    }

    /// Drops the keys of an app, which have changed.
    pub(crate) fn forget_keys(&self, app: AppId) {
        lock_unpoisoned(&self.apps).retain(|_, cached| cached.app.id != app);
    }

    /// All banks.
    pub(crate) async fn load_banks(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<CachedBanks, StoreError> {
        if let Some((read_at, banks)) = &*lock_unpoisoned(&self.banks)
            && is_fresh(*read_at, now)
        {
            return Ok(Arc::clone(banks));
        }
        let banks = store.list_banks().await?.into_iter().map(Arc::new);
        let banks: CachedBanks = Arc::new(banks.collect());
        *lock_unpoisoned(&self.banks) = Some((now, Arc::clone(&banks)));
        Ok(banks)
    }

    /// A bank. One that is not cached may have been added meanwhile, so it is read from the store.
    pub(crate) async fn load_bank(
        &self,
        store: &Store,
        bank: BankId,
        now: Timestamp,
    ) -> Result<Option<Arc<OwnedBank>>, StoreError> {
        let banks = self.load_banks(store, now).await?;
        if let Ok(at) = banks.binary_search_by_key(&bank, |it| it.id) {
            return Ok(banks.get(at).cloned());
        }
        Ok(store.find_owned_bank(bank).await?.map(Arc::new))
    }

    /// Drops the banks, which have changed.
    pub(crate) fn forget_banks(&self) {
        *lock_unpoisoned(&self.banks) = None;
    }
}
