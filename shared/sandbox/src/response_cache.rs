//! Serialised responses, cached until the account changes: one [`AccountResponseCache`] for each account, all within
//! one [`CacheBudget`].

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::rows::movement::UnixSeconds;

/// Most responses cached for one account: its balance and the first pages of its transactions.
const MAX_CACHED_RESPONSES: usize = 8;

/// Bytes that all cached responses of a bank may take together.
#[derive(Debug)]
pub(crate) struct CacheBudget {
    remaining_bytes: AtomicUsize,
}

impl CacheBudget {
    pub(crate) const fn new(bytes: usize) -> Self {
        Self {
            remaining_bytes: AtomicUsize::new(bytes),
        }
    }

    fn reserve_bytes(&self, bytes: usize) -> bool {
        self.remaining_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| {
                remaining.checked_sub(bytes)
            })
            .is_ok()
    }

    fn release_bytes(&self, bytes: usize) {
        self.remaining_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A response is valid from the second it was built until the next known change.
#[derive(Debug)]
struct AccountCacheEntry {
    url: Box<str>,
    valid_from: UnixSeconds,
    valid_until: Option<UnixSeconds>,
    body: Bytes,
}

impl AccountCacheEntry {
    fn is_valid_at(&self, now: UnixSeconds) -> bool {
        self.valid_from <= now && self.valid_until.is_none_or(|until| now < until)
    }
}

/// The cached responses of one account, oldest first.
#[derive(Debug)]
pub(crate) struct AccountResponseCache {
    entries: VecDeque<AccountCacheEntry>,
    budget: Arc<CacheBudget>,
}

impl AccountResponseCache {
    pub(crate) const fn new(budget: Arc<CacheBudget>) -> Self {
        Self {
            entries: VecDeque::new(),
            budget,
        }
    }

    /// The response to a URL, where it is still valid.
    pub(crate) fn get_body(&self, url: &str, now: UnixSeconds) -> Option<Bytes> {
        self.entries
            .iter()
            .find(|entry| &*entry.url == url && entry.is_valid_at(now))
            .map(|entry| entry.body.clone())
    }

    /// Caches a response, where the bank's budget has room for it.
    pub(crate) fn insert_body(
        &mut self,
        url: &str,
        valid_from: UnixSeconds,
        valid_until: Option<UnixSeconds>,
        body: &Bytes,
    ) {
        if let Some(position) = self.entries.iter().position(|entry| &*entry.url == url) {
            self.evict_entry(position);
        }
        if self.entries.len() >= MAX_CACHED_RESPONSES {
            self.evict_entry(0);
        }
        if self.budget.reserve_bytes(body.len()) {
            self.entries.push_back(AccountCacheEntry {
                url: url.into(),
                valid_from,
                valid_until,
                body: body.clone(),
            });
        }
    }

    /// Removes every response, as after an edit of the account.
    pub(crate) fn clear_entries(&mut self) {
        while !self.entries.is_empty() {
            self.evict_entry(0);
        }
    }

    fn evict_entry(&mut self, position: usize) {
        if let Some(entry) = self.entries.remove(position) {
            self.budget.release_bytes(entry.body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_valid_from_its_second_to_the_next_change() {
        let mut cache = AccountResponseCache::new(Arc::new(CacheBudget::new(100)));
        let body = Bytes::from_static(b"{}");
        cache.insert_body("/a", 10, Some(20), &body);
        let found = |now| cache.get_body("/a", now).is_some();
        assert_eq!([9, 10, 19, 20].map(found), [false, true, true, false]);
        assert!(cache.get_body("/b", 10).is_none());
    }

    #[test]
    fn the_budget_is_never_exceeded_and_is_released() {
        let budget = Arc::new(CacheBudget::new(10));
        let mut cache = AccountResponseCache::new(Arc::clone(&budget));
        let body = Bytes::from_static(b"123456");
        cache.insert_body("/a", 0, None, &body);
        cache.insert_body("/b", 0, None, &body);
        assert!(cache.get_body("/a", 0).is_some());
        assert!(cache.get_body("/b", 0).is_none());
        cache.clear_entries();
        cache.insert_body("/b", 0, None, &body);
        assert!(cache.get_body("/b", 0).is_some());
        for number in 0..20 {
            cache.insert_body(&format!("/{number}"), 0, None, &Bytes::new());
        }
        assert!(cache.entries.len() <= MAX_CACHED_RESPONSES);
        assert_eq!(budget.remaining_bytes.load(Ordering::Relaxed), 10);
    }
}
