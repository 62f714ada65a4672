//! Cursors of the change feed. The cast: [`Cursor`], how far a reader has read a [`FeedScope`]; [`FeedPosition`], how far
//! one record's feed was read; [`CursorError`].
//!
//! A cursor is opaque to apps and versioned. It holds no secret and grants nothing: every read is checked against the
//! caller's app first. So it is not signed; a checksum over its bytes and the app distinguishes our cursors from texts
//! that were damaged, made up or issued to another app.
//!
//! It stays valid for as long as the feed is kept, because entries never change and never move: a
//! refresh while a reader pages only adds entries after those that were read.
//!
//! Bytes, in base64url without padding: version, kind, id of the record or customer (12), positions,
//! check (8). A record has one position; a customer has one for each record that was read from, each
//! after four bytes of a hash of the record's id. A position is the number of the last entry that was
//! read whole, and how many rows of the next one, as variable-length integers. A record's cursor has
//! at most 58 characters; a customer's at most 256 with up to 18 records, and [`MAX_CURSOR_CHARS`] with
//! as many as a customer can have.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::model::ids::{AppId, CustomerId, ID_BYTES, RecordId, Seq};

/// Records that one cursor has a position for, at most: as many as a customer can have.
pub const MAX_POSITIONS: usize = 100;

/// Characters of a cursor at most.
pub const MAX_CURSOR_CHARS: usize = 2_400;

const CURSOR_VERSION: u8 = 1;
const RECORD_KIND: u8 = 0;
const CUSTOMER_KIND: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const FINGERPRINT_BYTES: usize = 4;

/// Whose feed is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedScope {
    /// One record's.
    Record(RecordId),
    /// Those of all records of a customer.
    Customer(CustomerId),
}

/// How far a feed was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition {
    /// The last entry that was read whole.
    pub seq: Seq,
    /// Rows of the next entry that were read; 0 to [`crate::sync::feed::MAX_CHANGES_PER_ENTRY`].
    pub rows: u16,
}

impl FeedPosition {
    /// Before the first entry.
    pub const START: Self = Self {
        seq: Seq::ZERO,
        rows: 0,
    };
}

type RecordFingerprint = [u8; FINGERPRINT_BYTES];

/// How far a reader has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    scope: FeedScope,
    positions: BTreeMap<RecordFingerprint, FeedPosition>,
}

/// Why a text is not a valid cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not one of ours: damaged, made up, or issued to another app.
    #[error("the cursor is damaged or belongs to another app; start again without a cursor")]
    Garbled,
    /// Of a version this system does not know.
    #[error("the cursor has an unknown version; start again without a cursor")]
    Version,
    /// Of another record or customer, or of a record where a customer's was expected.
    #[error("the cursor belongs to another record or customer; send the one returned for this one")]
    Foreign,
}

impl Cursor {
    /// Before everything.
    pub const fn at_start(scope: FeedScope) -> Self {
        Self {
            scope,
            positions: BTreeMap::new(),
        }
    }

    /// How far a record was read.
    pub fn record_position(&self, record: RecordId) -> FeedPosition {
        let position = self.positions.get(&fingerprint_record(record));
        position.copied().unwrap_or_default()
    }

    /// Sets how far a record was read.
    pub fn advance_record(&mut self, record: RecordId, position: FeedPosition) {
        if position != FeedPosition::START {
            self.positions.insert(fingerprint_record(record), position);
        }
    }

    /// The cursor as a text, for this app.
    pub fn encode_for_app(&self, app: AppId) -> String {
        let mut bytes = vec![CURSOR_VERSION];
        match self.scope {
            FeedScope::Record(record) => {
                bytes.push(RECORD_KIND);
                bytes.extend_from_slice(record.as_bytes());
                write_position(&mut bytes, self.record_position(record));
            }
            FeedScope::Customer(customer) => {
                bytes.push(CUSTOMER_KIND);
                bytes.extend_from_slice(customer.as_bytes());
                for (fingerprint, position) in self.positions.iter().take(MAX_POSITIONS) {
                    bytes.extend_from_slice(fingerprint);
                    write_position(&mut bytes, *position);
                }
            }
        }
        let check = compute_checksum(app, &bytes);
        bytes.extend_from_slice(&check);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The cursor of a text, which must be this app's and of this scope.
    ///
    /// # Errors
    ///
    /// [`CursorError`]: the text is not a cursor of this app and scope.
    pub fn decode_for_app(text: &str, app: AppId, scope: FeedScope) -> Result<Self, CursorError> {
        if text.len() > MAX_CURSOR_CHARS {
            return Err(CursorError::Garbled);
        }
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| CursorError::Garbled)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES);
        let (payload, checksum) = bytes.split_at(at.ok_or(CursorError::Garbled)?);
        if checksum != compute_checksum(app, payload) {
            return Err(CursorError::Garbled);
        }
        let mut rest = payload;
        let [version, kind] = take_bytes(&mut rest).ok_or(CursorError::Garbled)?;
        if version != CURSOR_VERSION {
            return Err(CursorError::Version);
        }
        let id: [u8; ID_BYTES] = take_bytes(&mut rest).ok_or(CursorError::Garbled)?;
        let mut cursor = Self::at_start(scope);
        match (kind, scope) {
            (RECORD_KIND, FeedScope::Record(record)) if *record.as_bytes() == id => {
                let position = read_position(&mut rest).ok_or(CursorError::Garbled)?;
                cursor.advance_record(record, position);
            }
            (CUSTOMER_KIND, FeedScope::Customer(customer)) if *customer.as_bytes() == id => {
                while !rest.is_empty() && cursor.positions.len() < MAX_POSITIONS {
                    let fingerprint: RecordFingerprint =
                        take_bytes(&mut rest).ok_or(CursorError::Garbled)?;
                    let position = read_position(&mut rest).ok_or(CursorError::Garbled)?;
                    cursor.positions.insert(fingerprint, position);
                }
            }
            (RECORD_KIND | CUSTOMER_KIND, _) => return Err(CursorError::Foreign),
            _ => return Err(CursorError::Garbled),
        }
        if rest.is_empty() {
            Ok(cursor)
        } else {
            Err(CursorError::Garbled)
        }
    }
}

/// Two of a customer's 100 records share a fingerprint in one case of a million.
fn fingerprint_record(record: RecordId) -> RecordFingerprint {
    truncate_hash(&Sha256::digest(record.as_bytes()))
}

fn compute_checksum(app: AppId, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new()
        .chain_update(b"cursor")
        .chain_update(app.as_bytes())
        .chain_update(payload)
        .finalize();
    truncate_hash(&hash)
}

fn truncate_hash<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    bytes
}

fn write_position(bytes: &mut Vec<u8>, position: FeedPosition) {
    // Most positions are between entries: one bit tells the others.
    write_number(
        bytes,
        position.seq.0.min(u64::MAX >> 1) << 1 | u64::from(position.rows > 0),
    );
    if position.rows > 0 {
        write_number(bytes, u64::from(position.rows));
    }
}

fn read_position(bytes: &mut &[u8]) -> Option<FeedPosition> {
    let number = read_number(bytes)?;
    let rows = match number & 1 {
        0 => 0,
        _ => u16::try_from(read_number(bytes)?)
            .ok()
            .filter(|rows| *rows > 0)?,
    };
    Some(FeedPosition {
        seq: Seq(number >> 1),
        rows,
    })
}

/// LEB128: seven bits a byte, the lowest first.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        // Seven bits fit.
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_bytes(bytes)?;
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            // One number, one spelling.
            return (shift == 0 || byte != 0).then_some(number);
        }
    }
    None
}

fn take_bytes<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APP: AppId = AppId::from_bytes([1; 12]);

    fn record(n: u32) -> RecordId {
        RecordId::derive(&[&n.to_be_bytes()])
    }

    fn any_position() -> impl Strategy<Value = FeedPosition> {
        (prop_oneof![0..300_u64, 0..999_999_999_999_u64], 0..=100_u16).prop_map(|(seq, rows)| {
            FeedPosition {
                seq: Seq(seq),
                rows,
            }
        })
    }

    fn any_scope() -> impl Strategy<Value = FeedScope> {
        (any::<bool>(), any::<u8>()).prop_map(|(of_record, n)| {
            if of_record {
                FeedScope::Record(record(u32::from(n)))
            } else {
                FeedScope::Customer(CustomerId::derive(&[&[n]]))
            }
        })
    }

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        (
            any_scope(),
            prop::collection::vec(any_position(), 0..MAX_POSITIONS),
        )
            .prop_map(|(scope, positions)| {
                let mut cursor = Cursor::at_start(scope);
                match scope {
                    FeedScope::Record(record) => {
                        cursor
                            .advance_record(record, positions.first().copied().unwrap_or_default());
                    }
                    FeedScope::Customer(_) => {
                        for (n, position) in (0..).zip(positions) {
                            cursor.advance_record(record(n), position);
                        }
                    }
                }
                cursor
            })
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(cursor in any_cursor()) {
            let text = cursor.encode_for_app(APP);
            prop_assert!(text.len() <= MAX_CURSOR_CHARS, "{}", text.len());
            prop_assert_eq!(Cursor::decode_for_app(&text, APP, cursor.scope), Ok(cursor));
        }

        #[test]
        fn a_cursor_belongs_to_one_app_and_scope(cursor in any_cursor(), other in any_scope(), app: [u8; 12]) {
            let text = cursor.encode_for_app(APP);
            prop_assume!(other != cursor.scope && app != *APP.as_bytes());
            prop_assert_eq!(Cursor::decode_for_app(&text, APP, other), Err(CursorError::Foreign));
            let theirs = Cursor::decode_for_app(&text, AppId::from_bytes(app), cursor.scope);
            prop_assert_eq!(theirs, Err(CursorError::Garbled));
        }

        #[test]
        fn a_damaged_cursor_is_rejected(cursor in any_cursor(), at: prop::sample::Index, with in "[A-Za-z0-9_-]") {
            let mut text = cursor.encode_for_app(APP);
            let at = at.index(text.len());
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert_eq!(Cursor::decode_for_app(&text, APP, cursor.scope), Err(CursorError::Garbled));
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80), scope in any_scope()) {
            prop_assert!(Cursor::decode_for_app(&text, APP, scope).is_err());
            let _ = Cursor::decode_for_app(&BASE64URL_NOPAD.encode(&bytes), APP, scope);
        }
    }

    #[test]
    fn cursors_are_short() {
        let mut one = Cursor::at_start(FeedScope::Record(record(0)));
        one.advance_record(
            record(0),
            FeedPosition {
                seq: Seq(999_999_999_999),
                rows: 99,
            },
        );
        assert!(
            one.encode_for_app(APP).len() <= 58,
            "{}",
            one.encode_for_app(APP).len()
        );
        let mut many = Cursor::at_start(FeedScope::Customer(CustomerId::derive(&[b"c"])));
        for n in 0..18 {
            many.advance_record(
                record(n),
                FeedPosition {
                    seq: Seq(1_000_000),
                    rows: 0,
                },
            );
        }
        assert!(
            many.encode_for_app(APP).len() <= 256,
            "{}",
            many.encode_for_app(APP).len()
        );
    }

    #[test]
    fn another_version_is_reported_as_such() {
        let mut bytes = vec![2, RECORD_KIND];
        bytes.extend_from_slice(record(0).as_bytes());
        bytes.push(0);
        let check = compute_checksum(APP, &bytes);
        bytes.extend_from_slice(&check);
        let text = BASE64URL_NOPAD.encode(&bytes);
        let scope = FeedScope::Record(record(0));
        assert_eq!(
            Cursor::decode_for_app(&text, APP, scope),
            Err(CursorError::Version)
        );
    }
}
