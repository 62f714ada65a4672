//! Dates and times as banks write them (`ISODateTime`): [`BankDateTime`] is what we keep of one.
//!
//! The rule: a date is the calendar day that the bank wrote, and no time zone moves it. Nigeria is an hour ahead of UTC
//! all year: `2026-12-01T00:00:00+01:00` is a payment of December, although it is still November in UTC.

use std::fmt;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    fmt::temporal::{Pieces, PiecesOffset},
    tz::Offset,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// The last year that can be written.
const LAST_YEAR: i16 = 9999;

/// The end of a day, to the millisecond.
const LAST_TIME: Time = Time::constant(23, 59, 59, 999_000_000);

/// A date and time of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BankDateTime {
    /// When it is, cut to milliseconds: a bank that adds micro- or nanoseconds to some responses and not to others would
    /// make false changes.
    pub(super) instant: Timestamp,
    /// The calendar day, as the bank wrote it.
    pub(super) day: Date,
}

impl BankDateTime {
    /// Reads a date and time with an offset. Some banks leave the offset out, or the time: then the day begins at
    /// midnight of UTC. The last day of the year 9999, by which some banks mean "never", is the last instant that there
    /// is. `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let pieces = Pieces::parse(text.trim()).ok()?;
        let written = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or_default());
        let offset = match pieces.offset() {
            Some(PiecesOffset::Numeric(numeric)) => numeric.offset(),
            Some(_) | None => Offset::UTC,
        };
        let instant = match offset.to_timestamp(written) {
            Ok(instant) => instant,
            Err(_) if written.year() == LAST_YEAR => Timestamp::MAX,
            Err(_) => return None,
        };
        // Cutting moves an instant towards 1970, so the result is always in range.
        let instant = Timestamp::from_millisecond(instant.as_millisecond()).unwrap_or(instant);
        Some(Self {
            instant,
            day: written.date(),
        })
    }

    /// The instant; where its day in UTC is another than the bank's, the moment of the bank's day that is next to it. So
    /// the UTC date is always the bank's date, and one instant is the same with any offset that leaves its day.
    pub(super) fn within_day(self) -> Timestamp {
        let first = Offset::UTC.to_timestamp(self.day.at(0, 0, 0, 0));
        let last = Offset::UTC.to_timestamp(self.day.to_datetime(LAST_TIME));
        match (first, last) {
            (Ok(first), _) if self.instant < first => first,
            (_, Ok(last)) if last < self.instant => last,
            _ => self.instant,
        }
    }

    /// True where the bank means "never": no consent lives that long.
    pub(super) fn is_never(self) -> bool {
        self.day.year() == LAST_YEAR
    }
}

impl<'de> Deserialize<'de> for BankDateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DateTimeVisitor;

        impl Visitor<'_> for DateTimeVisitor {
            type Value = BankDateTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date and time")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<BankDateTime, E> {
                BankDateTime::parse(text).ok_or_else(|| E::custom("not a date and time"))
            }
        }

        deserializer.deserialize_str(DateTimeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::model::snapshot::utc_date;
    use proptest::prelude::*;

    use super::*;

    fn parse_text(text: &str) -> String {
        BankDateTime::parse(text).unwrap().within_day().to_string()
    }

    #[test]
    fn midnight_of_another_time_zone_stays_on_its_day() {
        let check = |text, expected: &str| assert_eq!(parse_text(text), expected, "{text}");
        check("2026-11-25T00:00:00+01:00", "2026-11-25T00:00:00Z");
        check("2026-12-01T00:30:00+01:00", "2026-12-01T00:00:00Z");
        check("2026-11-25T23:30:00-05:00", "2026-11-25T23:59:59.999Z");
        check("2026-11-25T12:00:00+01:00", "2026-11-25T11:00:00Z");
        check("2026-11-25T10:43:07.123456Z", "2026-11-25T10:43:07.123Z");
    }

    #[test]
    fn what_banks_write_besides_the_standards_form_is_read() {
        let check = |text, expected: &str| assert_eq!(parse_text(text), expected, "{text}");
        check("2026-11-25", "2026-11-25T00:00:00Z");
        check("2026-11-25T08:30:00", "2026-11-25T08:30:00Z");
        check("2026-11-25 08:30:00Z", "2026-11-25T08:30:00Z");
        check("2026-11-25T08:30:00+0100", "2026-11-25T07:30:00Z");
        check("9999-12-30T00:00:00+01:00", "9999-12-30T00:00:00Z");
        check("9999-12-31T00:00:00Z", &Timestamp::MAX.to_string());
        for text in ["", "0", "25.11.2026", "2026-13-01T00:00:00Z", "tomorrow"] {
            assert_eq!(BankDateTime::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_day_is_the_one_that_the_bank_wrote(
            second in 0..4_000_000_000_i64,
            offset_minutes in -12 * 60..=14 * 60_i32,
        ) {
            let offset = Offset::from_seconds(offset_minutes * 60).unwrap();
            let written = offset.to_datetime(Timestamp::from_second(second).unwrap());
            let (sign, minutes) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.abs());
            let text = format!("{written}{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            let read = BankDateTime::parse(&text).unwrap();
            prop_assert_eq!(read.day.to_string(), &text[..10]);
            prop_assert_eq!(utc_date(read.within_day()), read.day);
        }

        #[test]
        fn one_instant_of_one_day_is_the_same_with_any_offset(
            second in 0..4_000_000_000_i64,
            minutes in (-12 * 60..=14 * 60_i32, -12 * 60..=14 * 60_i32),
        ) {
            let instant = Timestamp::from_second(second).unwrap();
            let [one, other] = [minutes.0, minutes.1].map(|minutes| BankDateTime {
                instant,
                day: Offset::from_seconds(minutes * 60).unwrap().to_datetime(instant).date(),
            });
            prop_assert_eq!(one.within_day() == other.within_day(), one.day == other.day);
        }
    }
}
