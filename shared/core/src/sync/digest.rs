//! Normal form and digest. The cast: [`normalise_text`]; [`Digest`], made by [`digest_balances`] and
//! [`digest_transactions`].
//!
//! The rule: two responses that mean the same have the same digest. Key order, white space, number spelling, volatile
//! fields and row order are gone before a digest is made: the connector parses into typed facts (money as minor units,
//! instants in UTC, texts through [`normalise_text`]), and rows are digested as a set with multiplicity.

use std::fmt;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::model::{
    ids::AccountId,
    money::Money,
    snapshot::{BalanceFacts, TransactionFacts, TransactionWindow},
};

/// 16 bytes of SHA-256 over the normal form of what a bank said of one product of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest must be 32 hexadecimal digits")]
pub struct ParseDigestError;

impl std::str::FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let bytes = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| ParseDigestError)?;
        bytes.try_into().map(Self).map_err(|_| ParseDigestError)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Bytes of a normalised text at most. The longest text of the UK standard is 500 characters; a longer one could make a
/// row outgrow a stored item.
pub const MAX_TEXT_BYTES: usize = 512;

/// A bank's text in normal form: trimmed, runs of white space as one space, control characters
/// gone, cut at [`MAX_TEXT_BYTES`].
pub fn normalise_text(raw: &str) -> String {
    let mut normal = String::with_capacity(raw.len().min(MAX_TEXT_BYTES));
    for word in raw.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if normal.len() >= MAX_TEXT_BYTES {
            break;
        }
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    let end = (0..=normal.len().min(MAX_TEXT_BYTES))
        .rev()
        .find(|&at| normal.is_char_boundary(at));
    // Position 0 is always a boundary.
    normal.truncate(end.unwrap_or(0));
    normal
}

/// An optional text in normal form; one that is blank is none.
pub fn normalise_optional_text(raw: Option<&str>) -> Option<String> {
    raw.map(normalise_text).filter(|text| !text.is_empty())
}

/// Feeds fields to a hash so that no two different sequences of fields give the same bytes: each
/// is preceded by its length, an absent one is marked.
struct DigestFields<'a>(&'a mut Vec<u8>);

impl DigestFields<'_> {
    fn push_bytes(&mut self, bytes: &[u8]) {
        // Texts are at most MAX_TEXT_BYTES long.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn push_optional(&mut self, field: Option<&str>) {
        match field {
            Some(field) => self.push_bytes(field.as_bytes()),
            None => self.0.extend_from_slice(&u32::MAX.to_be_bytes()),
        }
    }

    fn push_number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn push_money(&mut self, money: Option<Money>) {
        match money {
            Some(money) => {
                self.0.extend_from_slice(money.currency.as_str().as_bytes());
                self.push_number(money.minor);
            }
            None => self.0.extend_from_slice(&[0; 3]),
        }
    }

    fn push_row(&mut self, row: &TransactionFacts) {
        self.push_optional(row.bank_id.as_deref());
        self.0.push(row.status as u8);
        self.0.push(row.direction as u8);
        self.push_money(Some(row.amount));
        self.push_number(row.booked_at.as_millisecond());
        self.push_number(row.value_at.map_or(i64::MIN, Timestamp::as_millisecond));
        self.push_bytes(row.description.as_bytes());
        self.push_optional(row.reference.as_deref());
        self.push_optional(row.code.as_deref());
        self.push_money(row.balance_after);
    }
}

fn truncate_hash(hash: Sha256) -> Digest {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Digest(bytes)
}

/// The digest of a record's balances: one pair for each account, in any order.
pub fn digest_balances(balances: &[(AccountId, BalanceFacts)]) -> Digest {
    let mut sorted: Vec<_> = balances.iter().collect();
    sorted.sort_unstable_by_key(|(account, _)| *account);
    let mut buffer = Vec::with_capacity(sorted.len() * 64);
    for (account, facts) in sorted {
        let mut fields = DigestFields(&mut buffer);
        fields.push_bytes(account.as_bytes());
        fields.push_money(facts.available);
        fields.push_money(facts.ledger);
    }
    truncate_hash(Sha256::new_with_prefix(&buffer))
}

/// The digest of a record's transactions: one window for each account, in any order, its rows in
/// any order. Equal rows count as often as they occur.
pub fn digest_transactions(windows: &[(AccountId, &TransactionWindow)]) -> Digest {
    let mut sorted: Vec<_> = windows.iter().collect();
    sorted.sort_unstable_by_key(|(account, _)| *account);
    let mut hash = Sha256::new();
    let mut buffer = Vec::with_capacity(256);
    let mut rows = Vec::new();
    for (account, window) in sorted {
        rows.clear();
        rows.extend(window.rows.iter().map(|row| {
            buffer.clear();
            DigestFields(&mut buffer).push_row(row);
            truncate_hash(Sha256::new_with_prefix(&buffer))
        }));
        // What cannot be read counts as long as it is there, so that a response without it is another one.
        rows.extend(window.unreadable.iter().map(|row| {
            buffer.clear();
            let mut fields = DigestFields(&mut buffer);
            fields.push_optional(row.bank_id.as_deref());
            fields.push_optional(row.day.map(|day| day.to_string()).as_deref());
            truncate_hash(Sha256::new_with_prefix(&buffer))
        }));
        rows.sort_unstable();
        hash.update(account.as_bytes());
        hash.update((rows.len() as u64).to_be_bytes());
        for row in &rows {
            hash.update(row.0);
        }
    }
    truncate_hash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_folded_and_cut_between_characters() {
        assert_eq!(
            normalise_text("  POS \t SHOPRITE\u{0}\nIKEJA "),
            "POS SHOPRITE IKEJA"
        );
        assert_eq!(normalise_text("\u{a0}"), "");
        assert_eq!(normalise_optional_text(Some(" ")), None);
        let long = "₦".repeat(400);
        assert_eq!(normalise_text(&long).len(), 510);
        assert_eq!(normalise_text(&"a ".repeat(10_000)).len(), MAX_TEXT_BYTES);
    }
}
