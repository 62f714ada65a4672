//! Money. The cast: [`Money`], integer minor units of a [`Currency`] with its ISO 4217 exponent.
//!
//! The rules: never a float, never rounded, and an amount never loses its own currency.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An ISO 4217 alphabetic code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The naira.
    pub const NGN: Self = Self(*b"NGN");

    /// The three letters.
    pub fn as_str(&self) -> &str {
        // Made of three capital letters by its only constructor; XXX is ISO 4217's code for no currency.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Digits after the decimal point of the major unit (ISO 4217 table A.1): 2 unless listed here.
    pub const fn exponent(self) -> u8 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        match text.as_bytes() {
            [a, b, c] if text.bytes().all(|letter| letter.is_ascii_uppercase()) => {
                Ok(Self([*a, *b, *c]))
            }
            _ => Err(MoneyError::Currency),
        }
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Why a text is not money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not three capital letters.
    #[error("a currency must be three capital letters (ISO 4217)")]
    Currency,
    /// Not digits with at most one decimal point and a leading sign.
    #[error("an amount must be decimal digits with at most one point")]
    Syntax,
    /// A digit that is not zero below the currency's minor unit.
    #[error("an amount must not have more decimal places than its currency")]
    Precision,
    /// Beyond 64 bits of minor units.
    #[error("an amount must fit into 64 bits of minor units")]
    Range,
}

/// A signed amount in minor units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units (kobo, cents); negative where money is owed.
    #[serde(rename = "m")]
    pub minor: i64,
    /// The currency.
    #[serde(rename = "c")]
    pub currency: Currency,
}

impl Money {
    /// Minor units of a currency.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads a decimal in major units. `10`, `10.0` and `10.00` are the same money; a digit other
    /// than zero below the minor unit is an error, never rounded away.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty()
            || !whole
                .bytes()
                .chain(fraction.bytes())
                .all(|byte| byte.is_ascii_digit())
            || (fraction.is_empty() && digits.contains('.'))
        {
            return Err(MoneyError::Syntax);
        }
        let exponent = usize::from(currency.exponent());
        let (within, below) = fraction.split_at(fraction.len().min(exponent));
        if below.bytes().any(|byte| byte != b'0') {
            return Err(MoneyError::Precision);
        }
        let padding = std::iter::repeat_n(b'0', exponent - within.len());
        let minor = whole
            .bytes()
            .chain(within.bytes())
            .chain(padding)
            .try_fold(0_i64, |sum, byte| {
                sum.checked_mul(10)?.checked_add(i64::from(byte - b'0'))
            })
            .ok_or(MoneyError::Range)?;
        Ok(Self::new(if negative { -minor } else { minor }, currency))
    }

    /// The amount in major units with all decimal places of the currency: `29180.50`.
    pub fn to_decimal(self) -> String {
        let exponent = u32::from(self.currency.exponent());
        let sign = if self.minor < 0 { "-" } else { "" };
        let (unit, minor) = (10_u64.pow(exponent), self.minor.unsigned_abs());
        if exponent == 0 {
            return format!("{sign}{minor}");
        }
        let width = exponent as usize;
        format!("{sign}{}.{:0width$}", minor / unit, minor % unit)
    }

    /// The amount in major units as short as it can be: `29180`, `29180.5`. Okra's clients decode whole
    /// amounts as integers, so a whole amount never has a fraction.
    pub fn to_number(self) -> String {
        let text = self.to_decimal();
        if !text.contains('.') {
            return text;
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_decimal(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_currency(text: &str) -> Currency {
        text.parse().unwrap()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "reads better where it is called"
    )]
    fn check_parse(text: &str, code: &str, expected: Result<i64, MoneyError>) {
        let got = Money::parse(text, parse_currency(code)).map(|money| money.minor);
        assert_eq!(got, expected, "{text} {code}");
    }

    #[test]
    fn spellings_of_one_amount_are_one_amount() {
        for text in ["10", "10.0", "10.00", "10.00000", "010", "+10"] {
            check_parse(text, "NGN", Ok(1000));
        }
        check_parse("-0.05", "NGN", Ok(-5));
        check_parse("10", "JPY", Ok(10));
        check_parse("10.0", "JPY", Ok(10));
        check_parse("1.234", "KWD", Ok(1234));
        check_parse("92233720368547758.07", "NGN", Ok(i64::MAX));
    }

    #[test]
    fn other_texts_are_not_amounts() {
        for text in [
            "", ".", "1.", ".5", "1,50", "1e3", "NaN", "١", "1.2.3", "--1", " 1",
        ] {
            check_parse(text, "NGN", Err(MoneyError::Syntax));
        }
        check_parse("10.005", "NGN", Err(MoneyError::Precision));
        check_parse("10.5", "JPY", Err(MoneyError::Precision));
        check_parse("92233720368547758.08", "NGN", Err(MoneyError::Range));
        for code in ["", "NG", "ngn", "NGNN", "N1N"] {
            assert_eq!(
                code.parse::<Currency>(),
                Err(MoneyError::Currency),
                "{code}"
            );
        }
    }

    #[test]
    fn whole_amounts_are_written_without_a_fraction() {
        let naira = |minor| Money::new(minor, Currency::NGN).to_number();
        assert_eq!(naira(2_918_000), "29180");
        assert_eq!(naira(2_918_050), "29180.5");
        assert_eq!(naira(-5), "-0.05");
        assert_eq!(naira(0), "0");
        assert_eq!(Money::new(1200, parse_currency("JPY")).to_number(), "1200");
    }

    proptest! {
        #[test]
        fn money_survives_its_text(minor in -i64::MAX..=i64::MAX, code in "NGN|JPY|KWD|CLF|CZK") {
            let money = Money::new(minor, parse_currency(&code));
            prop_assert_eq!(Money::parse(&money.to_decimal(), money.currency), Ok(money));
            prop_assert_eq!(Money::parse(&money.to_number(), money.currency), Ok(money));
        }
    }
}
