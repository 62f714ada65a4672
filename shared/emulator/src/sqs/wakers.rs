//! Waking those who wait for messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The bells of all queues, by name.
#[derive(Default)]
pub(super) struct QueueWakers(Mutex<HashMap<String, QueueWaker>>);

struct QueueWaker {
    notify: Arc<Notify>,
    /// When those who wait look again by themselves, in milliseconds since 1970: none sleeps longer.
    next_wake_ms: i64,
}

impl Default for QueueWaker {
    fn default() -> Self {
        Self {
            notify: Arc::default(),
            next_wake_ms: i64::MAX,
        }
    }
}

impl QueueWakers {
    fn lock_wakers(&self) -> MutexGuard<'_, HashMap<String, QueueWaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_waker<T>(&self, queue: &str, act: impl FnOnce(&mut QueueWaker) -> T) -> T {
        act(self.lock_wakers().entry(queue.to_owned()).or_default())
    }

    /// What rings when a message of the queue may have become ready.
    pub(super) fn notifier_for(&self, queue: &str) -> Arc<Notify> {
        self.with_waker(queue, |bell| Arc::clone(&bell.notify))
    }

    /// Messages are ready: wakes one for each.
    pub(super) fn wake_for_messages(&self, queue: &str, messages: usize) {
        self.with_waker(queue, |bell| {
            for _ in 0..messages {
                bell.notify.notify_one();
            }
        });
    }

    /// A message will be ready at this time: wakes all, if they would sleep longer.
    pub(super) fn wake_by(&self, queue: &str, at_ms: i64) {
        self.with_waker(queue, |bell| {
            if at_ms < bell.next_wake_ms {
                bell.next_wake_ms = at_ms;
                bell.notify.notify_waiters();
            }
        });
    }

    /// One who found nothing will look again at this time.
    pub(super) fn set_next_wake(&self, queue: &str, at_ms: Option<i64>) {
        self.with_waker(queue, |bell| bell.next_wake_ms = at_ms.unwrap_or(i64::MAX));
    }

    /// Wakes everyone.
    pub(super) fn wake_all(&self) {
        for bell in self.lock_wakers().values() {
            bell.notify.notify_waiters();
        }
    }
}
