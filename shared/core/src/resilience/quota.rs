//! What a bank's daily quota leaves for refreshes on demand. The cast: [`OnDemandStarts`], when the unattended refreshes
//! on demand of the last day began.
//!
//! The rule: no 24 hours, wherever they begin, have more refreshes than the quota.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The window of a daily quota: any 24 hours.
pub const QUOTA_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Starts that are remembered at most.
const MAX_COUNTED_REFRESHES: usize = 1_440;

/// When the unattended refreshes on demand of a product of a record began, in seconds since 1970 and in order. Only
/// these count towards the bank's quota.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OnDemandStarts(Vec<i64>);

impl OnDemandStarts {
    /// Until when the quota of `per_day` is exhausted; `None` where a refresh may begin now. With a quota of none it is a
    /// day from now, so that no caller retries sooner.
    pub fn exhausted_until(&self, per_day: u16, now: Timestamp) -> Option<Timestamp> {
        let recent = self.recent_starts(now);
        let per_day = usize::from(per_day);
        if recent.len() < per_day {
            return None;
        }
        // The start that has to leave the window first.
        let first = match per_day {
            0 => now.as_second(),
            _ => recent[recent.len() - per_day],
        };
        Timestamp::from_second(first)
            .and_then(|first| first.checked_add(QUOTA_WINDOW))
            .ok()
    }

    /// How many began in the last 24 hours.
    pub fn count_recent(&self, now: Timestamp) -> usize {
        self.recent_starts(now).len()
    }

    /// The same with one that begins at `at`, without those of more than a day before.
    #[must_use]
    pub fn with_refresh_at(&self, at: Timestamp) -> Self {
        let mut starts = self.recent_starts(at).to_vec();
        // Rounded up, so that the bank's day does not end a part of a second early.
        starts.push(at.as_second() + 1);
        starts.drain(..starts.len().saturating_sub(MAX_COUNTED_REFRESHES));
        Self(starts)
    }

    fn recent_starts(&self, now: Timestamp) -> &[i64] {
        let start = now.as_second() - QUOTA_WINDOW.as_secs();
        let old = self.0.iter().take_while(|second| **second <= start).count();
        &self.0[old..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    proptest! {
        /// No 24 hours, wherever they begin, have more than the quota, and after the stated wait a refresh may begin.
        #[test]
        fn no_day_has_more_than_its_quota(per_day in 1..6_u16, gaps in prop::collection::vec(0..40_000_i64, 1..60)) {
            let (mut starts, mut now, mut started) = (OnDemandStarts::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                match starts.exhausted_until(per_day, timestamp_at(now)) {
                    None => {
                        starts = starts.with_refresh_at(timestamp_at(now));
                        started.push(now);
                    }
                    Some(until) => {
                        prop_assert!(until > timestamp_at(now));
                        prop_assert_eq!(starts.exhausted_until(per_day, until), None);
                    }
                }
            }
            for from in &started {
                let within = started.iter().filter(|at| (*from..from + 86_400).contains(*at)).count();
                prop_assert!(within <= usize::from(per_day), "{}", within);
            }
        }
    }

    #[test]
    fn a_quota_of_none_is_exhausted_for_a_day() {
        assert_eq!(
            OnDemandStarts::default().exhausted_until(0, timestamp_at(0)),
            Some(timestamp_at(0) + QUOTA_WINDOW)
        );
        let starts = OnDemandStarts::default().with_refresh_at(timestamp_at(0));
        assert_eq!(serde_json::to_string(&starts).unwrap(), "[1800000001]");
        let counts = [0, 86_400, 86_401].map(|second| starts.count_recent(timestamp_at(second)));
        assert_eq!(counts, [1, 1, 0]);
    }
}
