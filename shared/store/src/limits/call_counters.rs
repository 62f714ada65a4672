//! Counters of an app's calls within a minute or an hour: one write for each call that is counted, none for reads.

use jiff::Timestamp;
use okra_core::model::ids::AppId;

use crate::{
    Store, StoreError,
    table::{
        expression::{Condition, ItemUpdate},
        item::{Key, TTL_ATTRIBUTE, expiry_value, number_value},
    },
    tenants::apps,
};

/// Seconds that a counter is kept beyond its window.
const COUNTER_RETENTION_S: i64 = 3600;

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
        call_name: &str,
        (most, window_s): (u32, u32),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let window = now.as_second().div_euclid(i64::from(window_s).max(1));
        let key = Key::new(
            apps::app_partition(app),
            format!("LIM#{call_name}#{window}"),
        );
        let update = ItemUpdate::new(key)
            .add_to_number("n", number_value(1))
            .set_attribute(
                TTL_ATTRIBUTE,
                expiry_value(now, COUNTER_RETENTION_S + i64::from(window_s)),
            )
            .with_condition(Condition::AbsentOrBelow("n", number_value(most)));
        self.update_item(update).await
    }
}
