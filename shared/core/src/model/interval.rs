//! Which records a minute is for. The cast: [`Interval`], how often a product is refreshed; [`Slot`], a minute of an
//! interval, and [`Lane`], a shard of a slot; [`DueKey`], where a record's due entry is; [`Tick`], a minute of an interval
//! that is due.
//!
//! The rule: slot and lane are hashes of the record's id. Load is flat by construction, nothing is rewritten to advance
//! a due time, and the records of a bulk import are not due together.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::{BankId, RecordId};

/// How often a product of a record is refreshed. The spellings are Okra's, singular and plural as
/// Okra mixed them (docs.okra.ng, "auto-refresh").
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Every minute.
    OneMinute,
    /// Every 5 minutes.
    FiveMinute,
    /// Every 15 minutes.
    FifteenMinute,
    /// Every 30 minutes.
    ThirtyMinute,
    /// Every hour.
    OneHour,
    /// Every 6 hours.
    SixHours,
    /// Every 12 hours.
    TwelveHours,
    /// Once a day: the default of every linked record.
    #[default]
    Daily,
}

impl Interval {
    /// All, shortest first.
    pub const ALL: [Self; 8] = [
        Self::OneMinute,
        Self::FiveMinute,
        Self::FifteenMinute,
        Self::ThirtyMinute,
        Self::OneHour,
        Self::SixHours,
        Self::TwelveHours,
        Self::Daily,
    ];

    /// Okra's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneMinute => "one_minute",
            Self::FiveMinute => "five_minute",
            Self::FifteenMinute => "fifteen_minute",
            Self::ThirtyMinute => "thirty_minute",
            Self::OneHour => "one_hour",
            Self::SixHours => "six_hours",
            Self::TwelveHours => "twelve_hours",
            Self::Daily => "daily",
        }
    }

    /// Length in minutes; also the number of slots.
    pub const fn minutes(self) -> u16 {
        match self {
            Self::OneMinute => 1,
            Self::FiveMinute => 5,
            Self::FifteenMinute => 15,
            Self::ThirtyMinute => 30,
            Self::OneHour => 60,
            Self::SixHours => 360,
            Self::TwelveHours => 720,
            Self::Daily => 1440,
        }
    }

    /// Length in seconds.
    pub const fn seconds(self) -> u32 {
        self.minutes() as u32 * 60
    }

    /// The slot of the minute of `at`.
    pub fn slot_at(self, at: Timestamp) -> Slot {
        let minute = at.as_second().div_euclid(60);
        let slot = minute.rem_euclid(i64::from(self.minutes()));
        // A remainder of `minutes` fits.
        Slot(u16::try_from(slot).unwrap_or(0))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is none of Okra's interval names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an interval must be one of one_minute, five_minute, fifteen_minute, thirty_minute, one_hour, six_hours, twelve_hours and daily"
)]
pub struct ParseIntervalError;

impl FromStr for Interval {
    type Err = ParseIntervalError;

    fn from_str(text: &str) -> Result<Self, ParseIntervalError> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or(ParseIntervalError)
    }
}

/// Shards of a slot: 10^7 hourly records are 166,667 a slot, and one DynamoDB partition gives
/// 3,000 read units a second where such a slot needs 3,255 at once.
pub const LANES_PER_SLOT: u8 = 16;

/// A minute of an interval, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

/// A shard of a slot, below [`LANES_PER_SLOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lane(pub u8);

/// Where a record's due entry is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DueKey {
    /// The interval.
    pub interval: Interval,
    /// The record's bank: entries of one bank lie together, so that chunks do.
    pub bank: BankId,
    /// The record.
    pub record: RecordId,
}

impl DueKey {
    /// The slot of the record in this interval. Taken from four bytes of the id (ids are hashes or
    /// random); the lane takes others, so the two are independent.
    pub fn slot(&self) -> Slot {
        let [.., a, b, c, d] = *self.record.as_bytes();
        let hash = u32::from_be_bytes([a, b, c, d]).wrapping_mul(0x9E37_79B1);
        // Scaled from all of u32 to the interval's minutes, so it fits.
        let slot = (u64::from(hash) * u64::from(self.interval.minutes())) >> 32;
        Slot(u16::try_from(slot).unwrap_or(0))
    }

    /// The first minute after that of `now` whose tick is for this entry.
    pub fn next_due_at(&self, now: Timestamp) -> Timestamp {
        let length = i64::from(self.interval.minutes());
        let minute = now.as_second().div_euclid(60) + 1;
        let slot = i64::from(self.slot().0);
        let wait = (slot - minute.rem_euclid(length)).rem_euclid(length);
        // After the end of the calendar nothing is due.
        Timestamp::from_second((minute + wait) * 60).unwrap_or(Timestamp::MAX)
    }

    /// The lane of the record.
    pub fn lane(&self) -> Lane {
        Lane(self.record.as_bytes()[7] % LANES_PER_SLOT)
    }
}

/// Seconds over which a tick spreads its chunks: those of its own minute, because the next minute's tick needs the
/// bank's rate for records of its own. The last ten seconds are left for refreshes on demand, and for a chunk that is
/// received late.
pub const TICK_SPREAD_S: u32 = 50;

/// A minute of an interval: what is due in the minute of `at` is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tick {
    /// The interval of the rule.
    pub interval: Interval,
    /// When the rule was due to fire.
    pub at: Timestamp,
}

impl Tick {
    /// The slot of this tick.
    pub fn slot(&self) -> Slot {
        self.interval.slot_at(self.at)
    }

    /// After this instant a chunk of this tick is stale: the next tick of its slot covers it.
    pub fn not_after(&self) -> Timestamp {
        let length = jiff::SignedDuration::from_secs(i64::from(self.interval.seconds()));
        // After the end of the calendar nothing is stale.
        self.at.checked_add(length).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn okras_spellings_are_read_and_written() {
        for interval in Interval::ALL {
            assert_eq!(interval.as_str().parse(), Ok(interval));
            assert_eq!(
                serde_json::to_string(&interval).unwrap(),
                format!("\"{interval}\"")
            );
        }
        assert_eq!("one_hours".parse::<Interval>(), Err(ParseIntervalError));
        assert_eq!(Interval::default(), Interval::Daily);
    }

    #[test]
    fn every_slot_comes_once_an_interval() {
        for interval in Interval::ALL {
            let mut seen: Vec<u16> = (0..i64::from(interval.minutes()))
                .map(|minute| {
                    interval
                        .slot_at(Timestamp::from_second(1_700_000_000 + minute * 60).unwrap())
                        .0
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..interval.minutes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn records_spread_over_slots_and_lanes() {
        let mut slots = [0_u32; 60];
        let mut lanes = [0_u32; LANES_PER_SLOT as usize];
        for n in 0..60_000_u32 {
            let key = DueKey {
                interval: Interval::OneHour,
                bank: BankId::from_bytes([0; 12]),
                record: RecordId::derive(&[&n.to_be_bytes()]),
            };
            slots[usize::from(key.slot().0)] += 1;
            lanes[usize::from(key.lane().0)] += 1;
        }
        assert!(
            slots.iter().all(|count| (850..1150).contains(count)),
            "{slots:?}"
        );
        assert!(
            lanes.iter().all(|count| (3500..4000).contains(count)),
            "{lanes:?}"
        );
    }

    proptest! {
        #[test]
        fn a_record_has_a_slot_of_its_interval(bytes in any::<[u8; 12]>(), n in 0..8_usize) {
            let interval = Interval::ALL[n];
            let key = DueKey {
                interval,
                bank: BankId::from_bytes([0; 12]),
                record: RecordId::from_bytes(bytes),
            };
            prop_assert!(key.slot().0 < interval.minutes());
            prop_assert!(key.lane().0 < LANES_PER_SLOT);
            let now = Timestamp::from_second(1_700_000_001).unwrap();
            let next = key.next_due_at(now);
            prop_assert_eq!(interval.slot_at(next), key.slot());
            let wait = next.duration_since(now).as_secs();
            prop_assert!(wait > 0 && wait <= i64::from(interval.seconds()) + 60);
        }
    }
}
