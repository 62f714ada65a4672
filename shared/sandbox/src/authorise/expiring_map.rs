//! Entries that wait to be used, by id: [`ExpiringMap`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::rows::movement::UnixSeconds;

/// Seconds that a consent, a login or a code waits to be used.
pub(super) const UNUSED_LIFE_S: UnixSeconds = 900;

/// Most consents, logins or codes that wait at once. Beyond it the one that expires first is removed.
const MAX_UNUSED_ENTRIES: usize = 10_000;

#[derive(Clone)]
struct ExpiringEntry<T> {
    expires_at: UnixSeconds,
    value: T,
}

/// Entries by id, each for [`UNUSED_LIFE_S`] seconds.
pub(super) struct ExpiringMap<T>(Mutex<HashMap<String, ExpiringEntry<T>>>);

impl<T> Default for ExpiringMap<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ExpiringMap<T> {
    fn lock_entries(&self) -> MutexGuard<'_, HashMap<String, ExpiringEntry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert_entry(&self, id: &str, now: UnixSeconds, value: T) {
        let mut entries = self.lock_entries();
        entries.retain(|_, entry| entry.expires_at > now);
        if entries.len() >= MAX_UNUSED_ENTRIES
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, entry)| entry.expires_at)
                .map(|(id, _)| id.clone())
        {
            entries.remove(&oldest);
        }
        let expires_at = now + UNUSED_LIFE_S;
        entries.insert(id.to_owned(), ExpiringEntry { expires_at, value });
    }

    pub(super) fn get_entry(&self, id: &str, now: UnixSeconds) -> Option<T> {
        let entries = self.lock_entries();
        let entry = entries.get(id)?;
        (entry.expires_at > now).then(|| entry.value.clone())
    }

    pub(super) fn take_entry(&self, id: &str, now: UnixSeconds) -> Option<T> {
        let entry = self.lock_entries().remove(id)?;
        (entry.expires_at > now).then_some(entry.value)
    }
}
