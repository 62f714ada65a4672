//! Waking those who wait for messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The bells of all queues, by name.
#[derive(Default)]
pub(super) struct Bells(Mutex<HashMap<String, Bell>>);

struct Bell {
    notify: Arc<Notify>,
    /// When those who wait look again by themselves, in milliseconds since 1970: none sleeps longer.
    armed_ms: i64,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            notify: Arc::default(),
            armed_ms: i64::MAX,
        }
    }
}

impl Bells {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Bell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell<T>(&self, queue: &str, ring: impl FnOnce(&mut Bell) -> T) -> T {
        ring(self.all().entry(queue.to_owned()).or_default())
    }

    /// What rings when a message of the queue may have become ready.
    pub(super) fn of(&self, queue: &str) -> Arc<Notify> {
        self.bell(queue, |bell| Arc::clone(&bell.notify))
    }

    /// Messages are ready: wakes one for each.
    pub(super) fn arrived(&self, queue: &str, messages: usize) {
        self.bell(queue, |bell| {
            for _ in 0..messages {
                bell.notify.notify_one();
            }
        });
    }

    /// A message will be ready at this time: wakes all, if they would sleep longer.
    pub(super) fn due(&self, queue: &str, at_ms: i64) {
        self.bell(queue, |bell| {
            if at_ms < bell.armed_ms {
                bell.armed_ms = at_ms;
                bell.notify.notify_waiters();
            }
        });
    }

    /// One who found nothing will look again at this time.
    pub(super) fn arm(&self, queue: &str, at_ms: Option<i64>) {
        self.bell(queue, |bell| bell.armed_ms = at_ms.unwrap_or(i64::MAX));
    }

    /// Wakes everyone.
    pub(super) fn ring_all(&self) {
        for bell in self.all().values() {
            bell.notify.notify_waiters();
        }
    }
}
