//! Counters of an app's calls within a minute: one write for each call that is counted, none for reads.

use jiff::Timestamp;
use okra_core::ids::AppId;

use crate::{
    Store, StoreError, apps,
    expression::{Update, When},
    item::{Key, TTL, n, ttl},
};

/// Seconds that a counter is kept beyond its minute.
const KEPT_S: i64 = 3600;

impl Store {
    /// Counts a call of this name in the minute of `now`; false, and not counted, where there were
    /// `most` already.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_call(
        &self,
        app: AppId,
        name: &str,
        most: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let minute = now.as_second().div_euclid(60);
        let key = Key::new(apps::partition(app), format!("LIM#{name}#{minute}"));
        let update = Update::new(key)
            .add("n", n(1))
            .set(TTL, ttl(now, KEPT_S))
            .when(When::AbsentOrBelow("n", n(most)));
        self.update(update).await
    }
}
