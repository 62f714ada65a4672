//! Waking receives that wait for messages: [`QueueWakers`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The wakers of all queues, by name.
#[derive(Default)]
pub(super) struct QueueWakers(Mutex<HashMap<String, QueueWaker>>);

struct QueueWaker {
    notify: Arc<Notify>,
    /// When waiting receives look again by themselves, in milliseconds since 1970: none sleeps longer.
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

    /// What is notified when a message of the queue may have become ready.
    pub(super) fn notifier_for(&self, queue: &str) -> Arc<Notify> {
        self.with_waker(queue, |waker| Arc::clone(&waker.notify))
    }

    /// Messages are ready: wakes one receive for each.
    pub(super) fn wake_for_messages(&self, queue: &str, messages: usize) {
        self.with_waker(queue, |waker| {
            for _ in 0..messages {
                waker.notify.notify_one();
            }
        });
    }

    /// A message will be ready at this time: wakes all receives, if they would sleep longer.
    pub(super) fn wake_by(&self, queue: &str, at_ms: i64) {
        self.with_waker(queue, |waker| {
            if at_ms < waker.next_wake_ms {
                waker.next_wake_ms = at_ms;
                waker.notify.notify_waiters();
            }
        });
    }

    /// A receive that found nothing will look again at this time.
    pub(super) fn set_next_wake(&self, queue: &str, at_ms: Option<i64>) {
        self.with_waker(queue, |waker| {
            waker.next_wake_ms = at_ms.unwrap_or(i64::MAX);
        });
    }

    /// Wakes everyone.
    pub(super) fn wake_all(&self) {
        for waker in self.lock_wakers().values() {
            waker.notify.notify_waiters();
        }
    }
}
