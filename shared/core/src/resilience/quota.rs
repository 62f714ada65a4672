//! What a day's quota leaves to who asks in person.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far back a day's quota looks: the last 24 hours, wherever they began.
pub const QUOTA_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Times kept at most.
const MAX_COUNTED_REFRESHES: usize = 1_440;

/// When the refreshes on demand of a product of a record began that the bank counts: those without the
/// user. In order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OnDemandStarts(Vec<i64>);

impl OnDemandStarts {
    /// When the next one may be asked for where a day has `per_day`; `None`: now.
    ///
    /// With none a day it is a day from now: it never may, and nobody is told to ask sooner.
    pub fn exhausted_until(&self, per_day: u16, now: Timestamp) -> Option<Timestamp> {
        let recent = self.recent_starts(now);
        let per_day = usize::from(per_day);
        if recent.len() < per_day {
            return None;
        }
        // The one whose end makes room.
        let first = match per_day {
            0 => now.as_second(),
            _ => recent[recent.len() - per_day],
        };
        Timestamp::from_second(first)
            .and_then(|first| first.checked_add(QUOTA_WINDOW))
            .ok()
    }

    /// How many began in the last day.
    pub fn count_recent(&self, now: Timestamp) -> usize {
        self.recent_starts(now).len()
    }

    /// The same with one that begins at `at`; those of more than a day ago are forgotten.
    #[must_use]
    pub fn with_refresh_at(&self, at: Timestamp) -> Self {
        let mut kept = self.recent_starts(at).to_vec();
        // Rounded up: the bank's day is not over a part of a second early.
        kept.push(at.as_second() + 1);
        kept.drain(..kept.len().saturating_sub(MAX_COUNTED_REFRESHES));
        Self(kept)
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
        /// No 24 hours, wherever they begin, have more than the quota, and who waits as long as he is
        /// told may ask.
        #[test]
        fn no_day_has_more_than_its_quota(per_day in 1..6_u16, gaps in prop::collection::vec(0..40_000_i64, 1..60)) {
            let (mut asked, mut now, mut went) = (OnDemandStarts::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                match asked.exhausted_until(per_day, timestamp_at(now)) {
                    None => {
                        asked = asked.with_refresh_at(timestamp_at(now));
                        went.push(now);
                    }
                    Some(until) => {
                        prop_assert!(until > timestamp_at(now));
                        prop_assert_eq!(asked.exhausted_until(per_day, until), None);
                    }
                }
            }
            for from in &went {
                let within = went.iter().filter(|at| (*from..from + 86_400).contains(*at)).count();
                prop_assert!(within <= usize::from(per_day), "{}", within);
            }
        }
    }

    #[test]
    fn with_none_a_day_nobody_is_told_to_ask_soon() {
        assert_eq!(
            OnDemandStarts::default().exhausted_until(0, timestamp_at(0)),
            Some(timestamp_at(0) + QUOTA_WINDOW)
        );
        let asked = OnDemandStarts::default().with_refresh_at(timestamp_at(0));
        assert_eq!(serde_json::to_string(&asked).unwrap(), "[1800000001]");
        let counts = [0, 86_400, 86_401].map(|second| asked.count_recent(timestamp_at(second)));
        assert_eq!(counts, [1, 1, 0]);
    }
}
