//! Counters of an app's calls within a minute or an hour: one write for each call that is counted, none for reads.

use jiff::Timestamp;
use okra_core::ids::AppId;

use crate::{
    Store, StoreError, apps,
    expression::{Update, When},
    item::{Key, TTL, n, ttl},
};

/// Seconds that a counter is kept beyond its window.
const KEPT_S: i64 = 3600;

/// A minute, in seconds.
pub const MINUTE_S: u32 = 60;

impl Store {
    /// Counts a call of this name in the window of `window_s` seconds that `now` lies in; false, and
    /// not counted, where there were `most` already. One write unit.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_call(
        &self,
        app: AppId,
        name: &str,
        (most, window_s): (u32, u32),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let window = now.as_second().div_euclid(i64::from(window_s).max(1));
        let key = Key::new(apps::partition(app), format!("LIM#{name}#{window}"));
        let update = Update::new(key)
            .add("n", n(1))
            .set(TTL, ttl(now, KEPT_S + i64::from(window_s)))
            .when(When::AbsentOrBelow("n", n(most)));
        self.update(update).await
    }
}
