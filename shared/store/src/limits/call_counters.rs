//! Counters of an app's calls within a window of time: one write for each call that is counted, none for reads.

use jiff::Timestamp;
use okra_core::model::ids::AppId;

use crate::{
    Store, StoreError,
    key::Key,
    table::{
        attributes::{TTL_ATTRIBUTE, expiry_value, number_value},
        expression::{Condition, ItemUpdate},
    },
};

/// Seconds that a counter is stored beyond its window.
const COUNTER_RETENTION_S: i64 = 3600;

/// A minute, in seconds.
pub const MINUTE_S: u32 = 60;

const COUNT_ATTRIBUTE: &str = "n";

/// How often an app may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimit {
    /// Calls in one window at most.
    pub max_calls: u32,
    /// The length of a window in seconds; windows begin at multiples of it.
    pub window_s: u32,
}

impl Store {
    /// Counts a call of this name in the window that `now` lies in. False, and not counted, where there were as many
    /// as the limit allows already. One write unit.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_call(
        &self,
        app: AppId,
        call_name: &str,
        limit: CallLimit,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let window_s = i64::from(limit.window_s).max(1);
        let key = Key::CallCounter {
            app,
            call: call_name,
            window: now.as_second().div_euclid(window_s),
        };
        let update = ItemUpdate::new(key)
            .add_to_number(COUNT_ATTRIBUTE, number_value(1))
            .set_attribute(
                TTL_ATTRIBUTE,
                expiry_value(now, COUNTER_RETENTION_S + window_s),
            )
            .with_condition(Condition::AbsentOrBelow(
                COUNT_ATTRIBUTE,
                number_value(limit.max_calls),
            ));
        self.update_item(update).await
    }
}
