//! Identifiers. The cast: one id type for each kind of resource, [`Seq`] for the entries of a feed, [`EventId`] for
//! events.
//!
//! The rules: on the wire every id is Okra's, 24 hexadecimal digits (12 bytes). In code every id is a type of its own,
//! so that a customer can never be passed for a record.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// Bytes in an id.
pub const ID_BYTES: usize = 12;

/// A text that is not 24 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id must be 24 hexadecimal digits")]
pub struct ParseIdError;

fn parse_hex(text: &str) -> Result<[u8; ID_BYTES], ParseIdError> {
    let bytes = HEXLOWER
        .decode(text.to_ascii_lowercase().as_bytes())
        .map_err(|_| ParseIdError)?;
    bytes.try_into().map_err(|_| ParseIdError)
}

/// The first 12 bytes of SHA-256 over the parts, each preceded by its length so that
/// `("ab", "c")` and `("a", "bc")` differ.
fn derive_bytes(kind: &str, parts: &[&[u8]]) -> [u8; ID_BYTES] {
    let mut hash = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; ID_BYTES];
    bytes.copy_from_slice(&hash.finalize()[..ID_BYTES]);
    bytes
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_BYTES]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }

            /// The id that belongs to these parts: the same parts always give the same id.
            pub fn derive(parts: &[&[u8]]) -> Self {
                Self(derive_bytes($kind, parts))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// One integrating business.
    AppId "app";
    /// A person of an app, across banks.
    CustomerId "customer";
    /// An institution, reached through a connector.
    BankId "bank";
    /// One login (consent) of a customer at one bank: the unit that is refreshed.
    RecordId "record";
    /// One account of a record.
    AccountId "account";
    /// The balance of an account. There is one for each account; see [`BalanceId::for_account`].
    BalanceId "balance";
    /// One transaction of an account; see [`TransactionId::new`].
    TransactionId "transaction";
    /// A request for data sync: record, products, interval, webhook URL.
    SubscriptionId "subscription";
    /// A webhook URL of an app with its secrets; derived from the app (or subscription) and the URL.
    EndpointId "endpoint";
    /// A replay of events to an endpoint.
    ReplayId "replay";
    /// A short link that opens the widget.
    LinkId "link";
    /// A removal, and its receipt.
    ReceiptId "receipt";
}

/// Bytes of an account id that are repeated in the ids of its transactions.
pub const ACCOUNT_TAG_BYTES: usize = 5;

/// Bytes of a customer id that are repeated in the ids of its accounts.
pub const CUSTOMER_TAG_BYTES: usize = 5;

/// The first five bytes of a customer id: the partition that holds the customer and its accounts.
/// Two customers may share a tag, so a reader checks the customer.
pub type CustomerTag = [u8; CUSTOMER_TAG_BYTES];

impl CustomerId {
    /// The tag of the customer: see [`CustomerTag`].
    pub fn tag(&self) -> CustomerTag {
        let mut tag = [0; CUSTOMER_TAG_BYTES];
        tag.copy_from_slice(&self.0[..CUSTOMER_TAG_BYTES]);
        tag
    }
}

/// The first five bytes of an account id: the partition that holds the account's transactions.
/// Two accounts may share a tag (about 45 pairs among 10^7 accounts), so a reader checks the account.
pub type AccountTag = [u8; ACCOUNT_TAG_BYTES];

impl AccountId {
    /// The id of an account of a customer's record. It carries its keys: the account's own tag (5
    /// bytes), the customer's (5 bytes), and 2 bytes more of the hash of record and bank id. So an
    /// account is found by its id alone, and all accounts of a customer by one query.
    pub fn for_bank_account(customer: CustomerId, record: RecordId, bank_account_id: &str) -> Self {
        let mut id = Self::derive(&[record.as_bytes(), bank_account_id.as_bytes()]);
        id.0[ACCOUNT_TAG_BYTES..][..CUSTOMER_TAG_BYTES].copy_from_slice(&customer.tag());
        id
    }

    /// The tag of the account's customer: see [`AccountId::for_bank_account`].
    pub fn customer_tag(&self) -> CustomerTag {
        let mut tag = [0; CUSTOMER_TAG_BYTES];
        tag.copy_from_slice(&self.0[ACCOUNT_TAG_BYTES..][..CUSTOMER_TAG_BYTES]);
        tag
    }

    /// The tag of the account: see [`AccountTag`].
    pub fn tag(&self) -> AccountTag {
        let mut tag = [0; ACCOUNT_TAG_BYTES];
        tag.copy_from_slice(&self.0[..ACCOUNT_TAG_BYTES]);
        tag
    }
}

impl EndpointId {
    /// The endpoint that an app's URL is: the same URL of an app is the same endpoint, however many
    /// subscriptions name it.
    pub fn for_url(app: AppId, url: &str) -> Self {
        Self::derive(&[app.as_bytes(), url.as_bytes()])
    }
}

impl BalanceId {
    /// The id of an account's balance: the account's with its last byte inverted, so that each is derived from the other
    /// without an index.
    pub fn for_account(account: AccountId) -> Self {
        Self(invert_last_byte(account.0))
    }

    /// The account that this balance belongs to.
    pub fn account_id(&self) -> AccountId {
        AccountId(invert_last_byte(self.0))
    }
}

fn invert_last_byte(mut bytes: [u8; ID_BYTES]) -> [u8; ID_BYTES] {
    if let Some(last) = bytes.last_mut() {
        *last = !*last;
    }
    bytes
}

impl TransactionId {
    /// A transaction's id carries its own key: account tag (5 bytes), the day on which it was first seen (days since
    /// 1970-01-01, 2 bytes) and a hash of what identified it then (5 bytes). So a transaction is found by its id alone,
    /// without an index that would cost a write for each row.
    pub fn new(account: AccountId, day: EpochDay, discriminator: &[&[u8]]) -> Self {
        let mut parts: Vec<&[u8]> = vec![account.as_bytes()];
        parts.extend_from_slice(discriminator);
        let hash = derive_bytes("transaction", &parts);
        let mut bytes = [0; ID_BYTES];
        bytes[..5].copy_from_slice(&account.tag());
        bytes[5..7].copy_from_slice(&day.0.to_be_bytes());
        bytes[7..].copy_from_slice(&hash[..5]);
        Self(bytes)
    }

    /// The tag of the account that the transaction belongs to.
    pub fn account_tag(&self) -> AccountTag {
        let mut tag = [0; ACCOUNT_TAG_BYTES];
        tag.copy_from_slice(&self.0[..ACCOUNT_TAG_BYTES]);
        tag
    }

    /// The day on which the transaction was first seen. It never changes, even when the bank moves the row to another.
    pub fn day(&self) -> EpochDay {
        EpochDay(u16::from_be_bytes([self.0[5], self.0[6]]))
    }
}

/// Days since 1970-01-01, from that day to 2149-06-06; dates outside are clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochDay(pub u16);

impl EpochDay {
    /// The day of a date.
    pub fn from_date(date: Date) -> Self {
        let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
        // Clamped on purpose: the day is a part of a key, and a date so far off is the bank's mistake.
        Self(u16::try_from(days.max(0)).unwrap_or(u16::MAX))
    }
}

/// A record's dense, strictly increasing number of a feed entry; the first entry is 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The number `n` after this one.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        // A feed never has so many entries.
        Self(self.0.saturating_add(n))
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose feed an event belongs to. Its text is the record's id, or `app_` and the app's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeedSource {
    /// A record's: what changed at the bank.
    Record(RecordId),
    /// An app's: the health of its endpoints.
    App(AppId),
}

const APP_SOURCE_PREFIX: &str = "app_";

impl From<RecordId> for FeedSource {
    fn from(record: RecordId) -> Self {
        Self::Record(record)
    }
}

impl fmt::Display for FeedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => record.fmt(f),
            Self::App(app) => write!(f, "{APP_SOURCE_PREFIX}{app}"),
        }
    }
}

impl FromStr for FeedSource {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.strip_prefix(APP_SOURCE_PREFIX) {
            Some(app) => app.parse().map(Self::App),
            None => text.parse().map(Self::Record),
        }
    }
}

impl Serialize for FeedSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FeedSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The id of an event: derived from the record and the sequence number of its feed entry, so that a retried commit, a
/// second dispatch and a replay all have the same event. Sent as `webhook-id`; contains no `.`, as Standard Webhooks
/// requires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// The event of a feed entry.
    pub fn for_record_entry(record: RecordId, seq: Seq) -> Self {
        Self(format!("evt_{record}_{seq}"))
    }

    /// The event of an entry of any feed.
    pub fn for_feed_entry(source: FeedSource, seq: Seq) -> Self {
        Self(format!("evt_{source}_{seq}"))
    }

    /// The event of a ping to an endpoint; each ping has another.
    pub fn for_ping(endpoint: EndpointId, at: jiff::Timestamp) -> Self {
        Self(format!("ping_{endpoint}_{}", at.as_millisecond()))
    }

    /// The feed and the sequence number of an event's id; `None` for a text that is not the id of a feed's event.
    pub fn parse(text: &str) -> Option<(FeedSource, Seq)> {
        let (source, seq) = text.strip_prefix("evt_")?.rsplit_once('_')?;
        Some((source.parse().ok()?, Seq(seq.parse().ok()?)))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_its_text(bytes in any::<[u8; ID_BYTES]>()) {
            let id = RecordId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().len(), 24);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }

        #[test]
        fn an_event_leads_back_to_its_feed(bytes in any::<[u8; ID_BYTES]>(), seq: u64, app: bool) {
            let source = match app {
                true => FeedSource::App(AppId::from_bytes(bytes)),
                false => FeedSource::Record(RecordId::from_bytes(bytes)),
            };
            prop_assert_eq!(source.to_string().parse(), Ok(source));
            let id = EventId::for_feed_entry(source, Seq(seq));
            prop_assert_eq!(EventId::parse(id.as_str()), Some((source, Seq(seq))));
        }

        #[test]
        fn a_balance_leads_back_to_its_account(bytes in any::<[u8; ID_BYTES]>()) {
            let account = AccountId::from_bytes(bytes);
            prop_assert_eq!(BalanceId::for_account(account).account_id(), account);
            let balance = BalanceId::for_account(account);
            prop_assert_ne!(balance.as_bytes(), account.as_bytes());
        }

        #[test]
        fn an_account_carries_its_customers_tag(
            customer in any::<[u8; ID_BYTES]>(), record in any::<[u8; ID_BYTES]>(), text: String
        ) {
            let (customer, record) = (CustomerId::from_bytes(customer), RecordId::from_bytes(record));
            let account = AccountId::for_bank_account(customer, record, &text);
            prop_assert_eq!(account.customer_tag(), customer.tag());
            prop_assert_eq!(BalanceId::for_account(account).account_id().customer_tag(), customer.tag());
            let derived = AccountId::derive(&[record.as_bytes(), text.as_bytes()]);
            prop_assert_eq!(account.tag(), derived.tag());
        }

        #[test]
        fn a_transaction_carries_its_key(bytes in any::<[u8; ID_BYTES]>(), day in any::<u16>(), text: String) {
            let account = AccountId::from_bytes(bytes);
            let id = TransactionId::new(account, EpochDay(day), &[text.as_bytes()]);
            prop_assert_eq!(id.account_tag(), account.tag());
            prop_assert_eq!(id.day(), EpochDay(day));
        }
    }

    #[test]
    fn derivation_separates_its_parts() {
        assert_ne!(
            RecordId::derive(&[b"ab", b"c"]),
            RecordId::derive(&[b"a", b"bc"])
        );
        assert_ne!(
            RecordId::derive(&[b"x"]).as_bytes(),
            AccountId::derive(&[b"x"]).as_bytes()
        );
    }

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(EpochDay::from_date(date(1970, 1, 1)), EpochDay(0));
        assert_eq!(EpochDay::from_date(date(1993, 1, 1)), EpochDay(8401));
        assert_eq!(EpochDay::from_date(date(1960, 1, 1)), EpochDay(0));
        assert_eq!(EpochDay::from_date(date(2500, 1, 1)), EpochDay(u16::MAX));
    }

    #[test]
    fn other_texts_are_not_ids() {
        for text in [
            "",
            "zz",
            "64a0c0ffee0000000000000",
            "64a0c0ffee000000000000041",
        ] {
            assert_eq!(text.parse::<RecordId>(), Err(ParseIdError), "{text}");
        }
    }
}
