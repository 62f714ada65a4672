//! Times, money, counts and ids as people read them.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::Offset};
use maud::{Markup, html};
use okra_core::model::money::Money;

/// An amount with groups of three digits: `29,180.50`; a true minus sign.
pub(crate) fn format_amount(money: Money) -> String {
    let text = money.to_decimal();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("\u{2212}", digits),
        None => ("", text.as_str()),
    };
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits, None), |(a, b)| (a, Some(b)));
    let whole = group_digits(whole);
    match fraction {
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{whole}"),
    }
}

/// Digits in groups of three.
pub(crate) fn group_digits(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in groups of three.
pub(crate) fn format_count(number: impl std::fmt::Display) -> String {
    group_digits(&number.to_string())
}

/// An amount with its currency.
pub(crate) fn render_money(money: Money) -> Markup {
    html! { span.money { (format_amount(money)) " " span.unit { (money.currency) } } }
}

/// `3 Nov 2026, 12:04:31 UTC`.
pub(crate) fn format_instant(at: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(at);
    at.strftime("%-d %b %Y, %H:%M:%S UTC").to_string()
}

/// `3 Nov 2026`.
pub(crate) fn format_day(at: Timestamp) -> String {
    Offset::UTC
        .to_datetime(at)
        .strftime("%-d %b %Y")
        .to_string()
}

/// `3 Nov 2026`.
pub(crate) fn format_date(date: Date) -> String {
    date.strftime("%-d %b %Y").to_string()
}

/// `12:04`.
pub(crate) fn format_time_of_day(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%H:%M").to_string()
}

/// `3 Nov, 12:04`.
pub(crate) fn format_day_and_time(at: Timestamp) -> String {
    Offset::UTC
        .to_datetime(at)
        .strftime("%-d %b, %H:%M")
        .to_string()
}

/// A length of time in its largest unit: `40 s`, `12 min`, `3 h`, `5 days`. One below zero, of clocks that differ by
/// moments, is `0 s`.
pub(crate) fn format_duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago an instant was, or how long it is until then; the instant itself on hovering.
pub(crate) fn render_relative_time(now: Timestamp, at: Timestamp) -> Markup {
    let since = now.duration_since(at);
    let text = match since.as_secs() {
        0..=1 => "now".to_owned(),
        2.. => format!("{} ago", format_duration(since)),
        _ => format!("in {}", format_duration(-since)),
    };
    html! { time datetime=(at.to_string()) title=(format_instant(at)) { (text) } }
}

/// An id: in a narrow column it is cut by the style, and copied whole.
pub(crate) fn render_id(id: impl std::fmt::Display) -> Markup {
    html! { code.id { (id) } }
}

/// The last four digits of an account number: enough to distinguish accounts.
pub(crate) fn mask_account_number(number: &str) -> String {
    let skip = number.chars().count().saturating_sub(4);
    let tail: String = number.chars().skip(skip).collect();
    format!("•• {tail}")
}

#[cfg(test)]
mod tests {
    use okra_core::model::money::Currency;

    use super::*;

    #[test]
    fn amounts_are_grouped() {
        let check = |minor, expected: &str| {
            assert_eq!(format_amount(Money::new(minor, Currency::NGN)), expected);
        };
        check(0, "0.00");
        check(-5, "\u{2212}0.05");
        check(99_999, "999.99");
        check(123_456_789, "1,234,567.89");
        assert_eq!(format_count(1000), "1,000");
    }

    #[test]
    fn times_read_as_relative_to_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let check = |seconds: i64, expected: &str| {
            let at = Timestamp::from_second(1_000_000 + seconds).unwrap();
            let shown = render_relative_time(now, at).into_string();
            assert!(shown.contains(&format!(">{expected}<")), "{shown}");
        };
        check(0, "now");
        check(-40, "40 s ago");
        check(-720, "12 min ago");
        check(-90_000, "25 h ago");
        check(-400_000, "4 days ago");
        check(40, "in 40 s");
    }

    #[test]
    fn an_account_number_is_masked() {
        assert_eq!(mask_account_number("0123456789"), "•• 6789");
        assert_eq!(mask_account_number(""), "•• ");
    }
}
