//! What a process keeps for some seconds so that not every call reads it: apps by their keys, and the
//! banks. A key that is revoked elsewhere, and a bank that is changed, are believed that much longer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::ids::{AppId, BankId};
use okra_store::{App, KeyHash, KeyOwner, OwnedBank, Store, StoreError};

/// How long something is kept.
const CACHE_TTL: SignedDuration = SignedDuration::from_secs(5);

/// Keys whose apps are kept at most.
const MAX_CACHED_KEYS: usize = 1000;

/// Banks in the order of their ids.
pub(crate) type CachedBanks = Arc<Vec<Arc<OwnedBank>>>;

struct CachedApp {
    app: Arc<App>,
    owner: KeyOwner,
    read_at: Timestamp,
}

/// What is kept.
#[derive(Default)]
pub(crate) struct AppBankCache {
    apps: Mutex<HashMap<KeyHash, CachedApp>>,
    banks: Mutex<Option<(Timestamp, CachedBanks)>>,
}

fn lock_unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_fresh(read_at: Timestamp, now: Timestamp) -> bool {
    // An age below zero: a driven clock was set back.
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
        if let Some(kept) = lock_unpoisoned(&self.apps).get(&key)
            && is_fresh(kept.read_at, now)
        {
            return Ok(kept.owner.is_valid(now).then(|| Arc::clone(&kept.app)));
        }
        let owner = store.find_key_owner(key).await?;
        let Some(owner) = owner.filter(|it| it.is_valid(now)) else {
            return Ok(None);
        };
        let Some(app) = store.find_app(owner.app).await?.map(Arc::new) else {
            return Ok(None);
        };
        let kept = CachedApp {
            app: Arc::clone(&app),
            owner,
            read_at: now,
        };
        let mut apps = lock_unpoisoned(&self.apps);
        if apps.len() >= MAX_CACHED_KEYS {
            apps.clear();
        }
        apps.insert(key, kept);
        Ok(Some(app))
    }

    /// Forgets the keys of an app: they have changed.
    pub(crate) fn forget_keys(&self, app: AppId) {
        lock_unpoisoned(&self.apps).retain(|_, kept| kept.app.id != app);
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

    /// A bank. One that is not among those kept may have been added meanwhile, and is looked for.
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

    /// Forgets the banks: they have changed.
    pub(crate) fn forget_banks(&self) {
        *lock_unpoisoned(&self.banks) = None;
    }
}
