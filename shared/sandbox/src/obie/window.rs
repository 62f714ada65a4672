//! Which rows a request for transactions is about: a [`BookingDateWindow`] and the page of it.

use jiff::civil;
use serde::Deserialize;

use super::error::AccountApiError;
use crate::rows::movement::UnixSeconds;

/// The parameters of a request for transactions. `page` is not in the standard: it is in the bank's own links, and
/// clients do not interpret it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TransactionsQuery {
    #[serde(rename = "fromBookingDateTime")]
    from: Option<String>,
    #[serde(rename = "toBookingDateTime")]
    to: Option<String>,
    page: Option<String>,
}

/// A range of booking dates, and how many rows of it earlier pages had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BookingDateWindow {
    pub(super) from: UnixSeconds,
    pub(super) to: UnixSeconds,
    pub(super) offset: usize,
}

impl BookingDateWindow {
    pub(super) fn from_query(query: &TransactionsQuery) -> Result<Self, AccountApiError> {
        if let Some(page) = &query.page {
            return Self::parse_page(page).ok_or(AccountApiError::NoSuchPage);
        }
        let from = parse_bound(query.from.as_deref(), "fromBookingDateTime")?;
        let to = parse_bound(query.to.as_deref(), "toBookingDateTime")?;
        Ok(Self {
            from: from.unwrap_or(UnixSeconds::MIN),
            to: to.unwrap_or(UnixSeconds::MAX),
            offset: 0,
        })
    }

    /// The `page` parameter of a link to the page that starts at a row.
    pub(super) fn page_parameter(self, offset: usize) -> String {
        let (from, to) = (self.from.cast_unsigned(), self.to.cast_unsigned());
        format!("{from:x}-{to:x}-{offset:x}")
    }

    fn parse_page(page: &str) -> Option<Self> {
        let mut numbers = page.split('-');
        let window = Self {
            from: parse_hexadecimal(numbers.next()?)?.cast_signed(),
            to: parse_hexadecimal(numbers.next()?)?.cast_signed(),
            offset: usize::try_from(parse_hexadecimal(numbers.next()?)?).ok()?,
        };
        numbers.next().is_none().then_some(window)
    }
}

fn parse_hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn parse_bound(
    text: Option<&str>,
    name: &'static str,
) -> Result<Option<UnixSeconds>, AccountApiError> {
    text.map(|text| parse_seconds(text).ok_or(AccountApiError::InvalidDate(name)))
        .transpose()
}

/// Reads a date with or without a time. "If the Date Time contains a timezone, the ASPSP must ignore
/// the timezone component", and a `+` of it may have arrived as a space.
fn parse_seconds(text: &str) -> Option<UnixSeconds> {
    let bare = match text.split_once('T') {
        Some((date, time)) => {
            let end = time.find(['Z', '+', '-', ' ']).unwrap_or(time.len());
            format!("{date}T{}", &time[..end])
        }
        None => format!("{text}T00:00:00"),
    };
    let at: civil::DateTime = bare.parse().ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(at).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_from_its_text() {
        for window in [
            BookingDateWindow {
                from: UnixSeconds::MIN,
                to: UnixSeconds::MAX,
                offset: 0,
            },
            BookingDateWindow {
                from: -5,
                to: 1_800_000_000,
                offset: 12_345,
            },
        ] {
            assert_eq!(
                BookingDateWindow::parse_page(&window.page_parameter(window.offset)),
                Some(window)
            );
        }
        for text in ["", "1", "1-2", "1-2-3-4", "x-1-1", "1-2-"] {
            assert_eq!(BookingDateWindow::parse_page(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read_without_their_zone() {
        let midnight = Some(1_767_225_600);
        for text in [
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00+05:00",
            "2026-01-01T00:00:00 05:00",
            "2026-01-01T00:00:00-05:00",
        ] {
            assert_eq!(parse_seconds(text), midnight, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-01-01T25:00:00",
            "01/01/2026",
        ] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }
}
