//! When an app is notified that a consent will end. The cast: [`ConsentClock`], the end of a consent and the last notice
//! that was given.
//!
//! The rule: each notice is given once and in order, however long nothing runs in between.

use jiff::{SignedDuration, Timestamp};

/// Days before the end on which a notice is given, each once.
pub const EXPIRY_NOTICE_DAYS: [u8; 3] = [14, 7, 1];

/// The end of a consent, and the notices of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentClock {
    /// When the consent ends.
    pub expires_at: Timestamp,
    /// The last notice given, in days before the end, or left out because the consent began later than that; `None`
    /// before the first.
    pub last_notice_days: Option<u8>,
}

impl ConsentClock {
    /// The clock of a consent that begins at `now`. Notices whose time is over are left out.
    pub fn start_at(expires_at: Timestamp, now: Timestamp) -> Self {
        let passed = EXPIRY_NOTICE_DAYS
            .into_iter()
            .filter(|days| notice_time(expires_at, *days) <= now);
        Self {
            expires_at,
            last_notice_days: passed.min(),
        }
    }

    /// The notices that are due at `now` and were not given, the earliest first; several after days without a refresh.
    pub fn due_notices(&self, now: Timestamp) -> Vec<u8> {
        let open = self.pending_notices();
        open.filter(|days| notice_time(self.expires_at, *days) <= now)
            .collect()
    }

    /// The same clock after the notices that are due at `now` were given.
    #[must_use]
    pub fn after_due_notices(self, now: Timestamp) -> Self {
        Self {
            last_notice_days: self
                .due_notices(now)
                .into_iter()
                .min()
                .or(self.last_notice_days),
            ..self
        }
    }

    /// When the next notice is due, or after the last one, the end.
    pub fn next_notice_at(&self) -> Timestamp {
        self.pending_notices()
            .map(|days| notice_time(self.expires_at, days))
            .next()
            .unwrap_or(self.expires_at)
    }

    /// True once the consent has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    fn pending_notices(&self) -> impl Iterator<Item = u8> {
        let noticed = self.last_notice_days;
        EXPIRY_NOTICE_DAYS
            .into_iter()
            .filter(move |days| noticed.is_none_or(|noticed| *days < noticed))
    }
}

fn notice_time(expires_at: Timestamp, days: u8) -> Timestamp {
    let length = SignedDuration::from_hours(24 * i64::from(days));
    // Before the beginning of the calendar: the notice is due.
    expires_at.checked_sub(length).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timestamp_at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    #[test]
    fn a_consent_that_begins_late_gets_no_notice_that_is_over() {
        let clock = ConsentClock::start_at(timestamp_at(5), timestamp_at(0));
        assert!(clock.due_notices(timestamp_at(0)).is_empty());
        assert_eq!(clock.next_notice_at(), timestamp_at(4));
        assert_eq!(clock.due_notices(timestamp_at(4)), [1]);
        assert_eq!(
            clock.after_due_notices(timestamp_at(4)).next_notice_at(),
            timestamp_at(5)
        );
        assert!(clock.is_expired(timestamp_at(5)) && !clock.is_expired(timestamp_at(4)));
    }

    proptest! {
        /// However many days nothing runs, each notice is given once, and in order.
        #[test]
        fn each_notice_is_given_once(days in prop::collection::vec(0..40_i64, 0..60)) {
            let mut days = days;
            days.sort_unstable();
            let mut clock = ConsentClock::start_at(timestamp_at(30), timestamp_at(0));
            let mut given = Vec::new();
            for day in days {
                let due = clock.due_notices(timestamp_at(day));
                prop_assert_eq!(!due.is_empty(), !clock.is_expired(timestamp_at(0)) && clock.next_notice_at() <= timestamp_at(day) && clock.next_notice_at() < clock.expires_at);
                given.extend(due);
                clock = clock.after_due_notices(timestamp_at(day));
                prop_assert!(clock.due_notices(timestamp_at(day)).is_empty());
            }
            prop_assert!(EXPIRY_NOTICE_DAYS.starts_with(&given));
        }
    }
}
