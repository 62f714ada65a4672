//! A small cache of items that rarely change.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

/// How long a value is used before it is read again.
const CACHE_TTL: SignedDuration = SignedDuration::from_secs(60);

/// Values that are cached at most; when there are more, all are dropped.
const MAX_VALUES: usize = 4096;

/// Values by key, each cached for [`CACHE_TTL`].
pub(crate) struct TimedCache<K, V>(Mutex<HashMap<K, (Timestamp, V)>>);

impl<K, V> Default for TimedCache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> TimedCache<K, V> {
    /// The value of a key, from `read` where it is not cached. A missing value is not cached.
    pub(crate) async fn get_or_read<E>(
        &self,
        key: K,
        now: Timestamp,
        read: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        if let Some((since, value)) = self.lock_values().get(&key)
            && now.duration_since(*since) < CACHE_TTL
        {
            return Ok(Some(value.clone()));
        }
        let value = read.await?;
        if let Some(value) = &value {
            let mut values = self.lock_values();
            if values.len() >= MAX_VALUES {
                values.clear();
            }
            values.insert(key, (now, value.clone()));
        }
        Ok(value)
    }

    fn lock_values(&self) -> std::sync::MutexGuard<'_, HashMap<K, (Timestamp, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible, future::ready};

    use super::*;

    #[tokio::test]
    async fn a_value_is_read_once_a_minute_and_its_absence_each_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cache = TimedCache::default();
        let reads = Cell::new(0);
        let read = |value: Option<u8>| {
            let reads = &reads;
            async move {
                reads.set(reads.get() + 1);
                ready(Ok::<_, Infallible>(value)).await
            }
        };
        for (second, stored, expected, reads_so_far) in [
            (0, None, None, 1),
            (0, Some(1), Some(1), 2),
            (59, Some(2), Some(1), 2),
            (60, Some(2), Some(2), 3),
            (61, None, Some(2), 3),
        ] {
            let Ok(value) = cache.get_or_read("key", at(second), read(stored)).await;
            assert_eq!((value, reads.get()), (expected, reads_so_far), "{second}");
        }
    }
}
