//! Serialised answers, kept until the account changes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::movement::Second;

/// Answers kept for one account at most: its balance and the first pages of its transactions.
const MAX_ANSWERS: usize = 8;

/// Bytes that all kept answers of a bank may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An answer holds from the second it was made to the next foreseen change.
#[derive(Debug)]
struct Answer {
    url: Box<str>,
    from: Second,
    until: Option<Second>,
    body: Bytes,
}

/// The kept answers of one account, oldest first.
#[derive(Debug)]
pub(crate) struct Answers {
    kept: VecDeque<Answer>,
    budget: Arc<Budget>,
}

impl Answers {
    pub(crate) const fn new(budget: Arc<Budget>) -> Self {
        Self {
            kept: VecDeque::new(),
            budget,
        }
    }

    /// The answer to a URL, where it still holds.
    pub(crate) fn get(&self, url: &str, now: Second) -> Option<Bytes> {
        let holds = |answer: &&Answer| {
            &*answer.url == url
                && answer.from <= now
                && answer.until.is_none_or(|until| now < until)
        };
        self.kept
            .iter()
            .find(holds)
            .map(|answer| answer.body.clone())
    }

    /// Keeps an answer, where the bank's budget has room for it.
    pub(crate) fn put(&mut self, url: &str, from: Second, until: Option<Second>, body: &Bytes) {
        if let Some(position) = self.kept.iter().position(|answer| &*answer.url == url) {
            self.forget(position);
        }
        if self.kept.len() >= MAX_ANSWERS {
            self.forget(0);
        }
        if self.budget.take(body.len()) {
            self.kept.push_back(Answer {
                url: url.into(),
                from,
                until,
                body: body.clone(),
            });
        }
    }

    /// Forgets everything: the account was edited.
    pub(crate) fn clear(&mut self) {
        while !self.kept.is_empty() {
            self.forget(0);
        }
    }

    fn forget(&mut self, position: usize) {
        if let Some(answer) = self.kept.remove(position) {
            self.budget.give_back(answer.body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_from_its_second_to_the_next_change() {
        let mut answers = Answers::new(Arc::new(Budget::new(100)));
        let body = Bytes::from_static(b"{}");
        answers.put("/a", 10, Some(20), &body);
        let found = |now| answers.get("/a", now).is_some();
        assert_eq!([9, 10, 19, 20].map(found), [false, true, true, false]);
        assert!(answers.get("/b", 10).is_none());
    }

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let mut answers = Answers::new(Arc::clone(&budget));
        let body = Bytes::from_static(b"123456");
        answers.put("/a", 0, None, &body);
        answers.put("/b", 0, None, &body);
        assert!(answers.get("/a", 0).is_some());
        assert!(answers.get("/b", 0).is_none());
        answers.clear();
        answers.put("/b", 0, None, &body);
        assert!(answers.get("/b", 0).is_some());
        for number in 0..20 {
            answers.put(&format!("/{number}"), 0, None, &Bytes::new());
        }
        assert!(answers.kept.len() <= MAX_ANSWERS);
        assert_eq!(budget.left.load(Ordering::Relaxed), 10);
    }
}
