//! Serialised answers, kept until the account changes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::movement::UnixSeconds;

/// Answers kept for one account at most: its balance and the first pages of its transactions.
const MAX_CACHED_RESPONSES: usize = 8;

/// Bytes that all kept answers of a bank may take together.
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
        let less = |left: usize| left.checked_sub(bytes);
        self.remaining_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn release_bytes(&self, bytes: usize) {
        self.remaining_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An answer holds from the second it was made to the next foreseen change.
#[derive(Debug)]
struct AccountCacheEntry {
    url: Box<str>,
    valid_from: UnixSeconds,
    valid_until: Option<UnixSeconds>,
    body: Bytes,
}

/// The kept answers of one account, oldest first.
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

    /// The answer to a URL, where it still holds.
    pub(crate) fn get_body(&self, url: &str, now: UnixSeconds) -> Option<Bytes> {
        let holds = |answer: &&AccountCacheEntry| {
            &*answer.url == url
                && answer.valid_from <= now
                && answer.valid_until.is_none_or(|until| now < until)
        };
        self.entries
            .iter()
            .find(holds)
            .map(|answer| answer.body.clone())
    }

    /// Keeps an answer, where the bank's budget has room for it.
    pub(crate) fn insert_body(
        &mut self,
        url: &str,
        valid_from: UnixSeconds,
        valid_until: Option<UnixSeconds>,
        body: &Bytes,
    ) {
        if let Some(position) = self.entries.iter().position(|answer| &*answer.url == url) {
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

    /// Forgets everything: the account was edited.
    pub(crate) fn clear_entries(&mut self) {
        while !self.entries.is_empty() {
            self.evict_entry(0);
        }
    }

    fn evict_entry(&mut self, position: usize) {
        if let Some(answer) = self.entries.remove(position) {
            self.budget.release_bytes(answer.body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_from_its_second_to_the_next_change() {
        let mut answers = AccountResponseCache::new(Arc::new(CacheBudget::new(100)));
        let body = Bytes::from_static(b"{}");
        answers.insert_body("/a", 10, Some(20), &body);
        let found = |now| answers.get_body("/a", now).is_some();
        assert_eq!([9, 10, 19, 20].map(found), [false, true, true, false]);
        assert!(answers.get_body("/b", 10).is_none());
    }

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let budget = Arc::new(CacheBudget::new(10));
        let mut answers = AccountResponseCache::new(Arc::clone(&budget));
        let body = Bytes::from_static(b"123456");
        answers.insert_body("/a", 0, None, &body);
        answers.insert_body("/b", 0, None, &body);
        assert!(answers.get_body("/a", 0).is_some());
        assert!(answers.get_body("/b", 0).is_none());
        answers.clear_entries();
        answers.insert_body("/b", 0, None, &body);
        assert!(answers.get_body("/b", 0).is_some());
        for number in 0..20 {
            answers.insert_body(&format!("/{number}"), 0, None, &Bytes::new());
        }
        assert!(answers.entries.len() <= MAX_CACHED_RESPONSES);
        assert_eq!(budget.remaining_bytes.load(Ordering::Relaxed), 10);
    }
}
