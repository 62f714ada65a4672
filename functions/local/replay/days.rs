//! Days as times.

use jiff::{Timestamp, civil::Date, tz::Offset};

/// 12:00 UTC of a day of the file.
pub(super) fn noon_of_day(date: Date) -> Timestamp {
    let noon = Offset::UTC.to_timestamp(date.at(12, 0, 0, 0));
    debug_assert!(noon.is_ok(), "{date} has no noon in UTC");
    noon.unwrap_or(Timestamp::UNIX_EPOCH)
}
