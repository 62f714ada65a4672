//! Consents: what a bank is called with, encrypted, and which accounts it opens.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    consent::ConsentClock,
    ids::{AccountId, AppId, BankId, RecordId},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    expression::{Update, When},
    item::{Attributes, Draft, JSON, Key, Reader, bytes, json, millis, n, s},
    records,
};

const KIND: &str = "consent";
const EXPIRES: &str = "xp";
const NOTICED: &str = "xn";

const SEALED: &str = "s";
const APP: &str = "app";

/// Until when one refresh has claimed the renewal of the tokens.
const CLAIM: &str = "rn";

/// An account that a consent opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentAccount {
    /// Ours.
    #[serde(rename = "i")]
    pub id: AccountId,
    /// The bank's id of the account, used in its URLs.
    #[serde(rename = "b")]
    pub bank_account_id: String,
}

/// A record's consent. All that a refresh without change reads of a record.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// The record.
    pub record: RecordId,
    /// Its app, for which its refreshes are counted; unknown to what was stored before they were.
    pub app: Option<AppId>,
    /// Its bank.
    pub bank: BankId,
    /// The secret as the vault sealed it.
    pub sealed: Vec<u8>,
    /// The accounts it opens.
    pub accounts: Vec<ConsentAccount>,
    /// When it ends, where that is known, and what was told of it.
    pub clock: Option<ConsentClock>,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent")
            .field("record", &self.record)
            .field("bank", &self.bank)
            .finish_non_exhaustive()
    }
}

fn key(record: RecordId) -> Key {
    Key::new(records::partition(record), "CRED")
}

pub(crate) fn write(consent: &Consent) -> Result<Attributes, StoreError> {
    Ok(Draft::new(key(consent.record))
        .maybe(APP, consent.app.map(|it| s(it.to_string())))
        .with("ins", s(consent.bank.to_string()))
        .with(SEALED, bytes(consent.sealed.as_slice()))
        .with(JSON, json(KIND, &consent.accounts)?)
        .maybe(EXPIRES, consent.clock.map(|it| millis(it.expires_at)))
        .maybe(NOTICED, consent.clock.and_then(|it| it.noticed).map(n))
        .done())
}

fn read(item: &Attributes) -> Result<Consent, StoreError> {
    let reader = Reader::new(KIND, item);
    let record = reader.text("pk")?.strip_prefix("REC#");
    Ok(Consent {
        record: record
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| reader.corrupt("pk"))?,
        app: reader.optional(APP, Reader::parse)?,
        bank: reader.parse("ins")?,
        sealed: reader.bytes(SEALED)?.to_vec(),
        accounts: reader.json(JSON)?,
        clock: clock(&reader)?,
    })
}

fn clock(reader: &Reader<'_>) -> Result<Option<ConsentClock>, StoreError> {
    let Some(expires_at) = reader.optional(EXPIRES, Reader::millis)? else {
        return Ok(None);
    };
    let noticed = reader.optional(NOTICED, Reader::number)?;
    Ok(Some(ConsentClock {
        expires_at,
        noticed,
    }))
}

/// The clock of a consent after notices were given, where nobody gave them meanwhile.
pub(crate) fn noticed(record: RecordId, before: ConsentClock, after: ConsentClock) -> Update {
    Update::new(key(record))
        .assign(NOTICED, after.noticed.map(n))
        .when(When::Is(EXPIRES, Some(millis(before.expires_at))))
        .when(When::Is(NOTICED, before.noticed.map(n)))
}

impl Store {
    /// Forgets when a consent ends: the bank went on answering after that.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn stop_clock(&self, record: RecordId) -> Result<(), StoreError> {
        let update = Update::new(key(record))
            .remove(EXPIRES)
            .remove(NOTICED)
            .when(When::Exists);
        self.update(update).await.map(drop)
    }

    /// The consents of these records that exist, in any order; read eventually. No record may be
    /// named twice. Each 100 are one call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn consents(&self, records: &[RecordId]) -> Result<Vec<Consent>, StoreError> {
        let keys = records.iter().copied().map(key).collect();
        let items = self.batch_get(keys, Consistency::Eventual).await?;
        items.iter().map(read).collect()
    }

    /// The consent of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn consent(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<Consent>, StoreError> {
        let item = self.get(key(record), consistency).await?;
        item.as_ref().map(read).transpose()
    }

    /// Stores a consent in place of the record's old one: the user linked again, or the bank gave
    /// another token.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_consent(&self, consent: &Consent) -> Result<(), StoreError> {
        self.put(write(consent)?).await
    }

    /// Claims the renewal of a consent's tokens until `until`: two refreshes that both spent the same
    /// refresh token would look like a thief to the bank. False where another has a claim that lasts at
    /// `now`, or where the consent is not what it was when it was read. A claim is never given back: the
    /// renewed consent has none, and after a failure it runs out.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_renewal(
        &self,
        consent: &Consent,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = Update::new(key(consent.record))
            .set(CLAIM, millis(until))
            .when(When::Is(SEALED, Some(bytes(consent.sealed.as_slice()))))
            .when(When::AbsentOrBelow(CLAIM, millis(now)));
        self.update(update).await
    }

    /// Stores renewed tokens in place of those of `consent`, and ends the claim. False, and nothing
    /// stored, where the consent was replaced or removed meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn renew_consent(
        &self,
        consent: &Consent,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let update = Update::new(key(consent.record))
            .set(SEALED, bytes(sealed))
            .remove(CLAIM)
            .when(When::Is(SEALED, Some(bytes(consent.sealed.as_slice()))));
        self.update(update).await
    }
}
