//! Consents: the secret that a bank is called with, sealed by the vault, and the accounts that it opens. A [`Consent`]
//! is all that an unchanged refresh reads of a record besides its due entry.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    model::ids::{AccountId, AppId, BankId, RecordId},
    schedule::consent_clock::ConsentClock,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{
            Attributes, JSON_ATTRIBUTE, bytes_value, millis_value, number_value, text_value,
        },
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
    },
};

const KIND: &str = "consent";
const EXPIRES_ATTRIBUTE: &str = "xp";
const NOTICED_ATTRIBUTE: &str = "xn";
const SEALED_ATTRIBUTE: &str = "s";
const APP_ATTRIBUTE: &str = "app";
const BANK_ATTRIBUTE: &str = "ins";

/// Until when one refresh has claimed the renewal of the tokens.
const RENEWAL_CLAIM_ATTRIBUTE: &str = "rn";

/// An account that a consent opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentAccount {
    /// Our id of the account.
    #[serde(rename = "i")]
    pub account_id: AccountId,
    /// The bank's id of the account, used in its URLs.
    #[serde(rename = "b")]
    pub bank_account_id: String,
}

/// A record's consent at its bank.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// The record.
    pub record: RecordId,
    /// Its app, for which its refreshes are counted; `None` in consents that were stored before refreshes were counted.
    pub app: Option<AppId>,
    /// Its bank.
    pub bank: BankId,
    /// The secret as the vault sealed it.
    pub sealed_secret: Vec<u8>,
    /// The accounts it opens.
    pub accounts: Vec<ConsentAccount>,
    /// When it ends, where that is known, and which notices of its end were given.
    pub consent_clock: Option<ConsentClock>,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent")
            .field("record", &self.record)
            .field("bank", &self.bank)
            .finish_non_exhaustive()
    }
}

pub(crate) fn write_consent(consent: &Consent) -> Result<Attributes, StoreError> {
    Ok(ItemBuilder::new(Key::Consent(consent.record))
        .with_optional(APP_ATTRIBUTE, consent.app.map(text_value))
        .with_attribute(BANK_ATTRIBUTE, text_value(consent.bank))
        .with_attribute(
            SEALED_ATTRIBUTE,
            bytes_value(consent.sealed_secret.as_slice()),
        )
        .with_json(KIND, &consent.accounts)?
        .with_optional(
            EXPIRES_ATTRIBUTE,
            consent
                .consent_clock
                .map(|clock| millis_value(clock.expires_at)),
        )
        .with_optional(
            NOTICED_ATTRIBUTE,
            consent
                .consent_clock
                .and_then(|clock| clock.last_notice_days)
                .map(number_value),
        )
        .build())
}

fn read_consent(item: &Attributes) -> Result<Consent, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(Consent {
        record: reader.parse_partition(key::parse_record_partition)?,
        app: reader.read_optional(APP_ATTRIBUTE, ItemReader::read_parsed)?,
        bank: reader.read_parsed(BANK_ATTRIBUTE)?,
        sealed_secret: reader.read_bytes(SEALED_ATTRIBUTE)?.to_vec(),
        accounts: reader.read_json(JSON_ATTRIBUTE)?,
        consent_clock: read_clock(&reader)?,
    })
}

fn read_clock(reader: &ItemReader<'_>) -> Result<Option<ConsentClock>, StoreError> {
    let Some(expires_at) = reader.read_optional(EXPIRES_ATTRIBUTE, ItemReader::read_millis)? else {
        return Ok(None);
    };
    let noticed = reader.read_optional(NOTICED_ATTRIBUTE, ItemReader::read_number)?;
    Ok(Some(ConsentClock {
        expires_at,
        last_notice_days: noticed,
    }))
}

/// Stores that notices of a consent's end were given, where nobody gave them meanwhile.
pub(crate) fn notices_update(
    record: RecordId,
    expected: ConsentClock,
    updated: ConsentClock,
) -> ItemUpdate {
    ItemUpdate::new(Key::Consent(record))
        .set_or_remove(
            NOTICED_ATTRIBUTE,
            updated.last_notice_days.map(number_value),
        )
        .with_condition(Condition::Equals(
            EXPIRES_ATTRIBUTE,
            Some(millis_value(expected.expires_at)),
        ))
        .with_condition(Condition::Equals(
            NOTICED_ATTRIBUTE,
            expected.last_notice_days.map(number_value),
        ))
}

impl Store {
    /// Removes what is stored of when a consent ends: the bank went on to respond after that.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn clear_consent_clock(&self, record: RecordId) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::Consent(record))
            .remove_attribute(EXPIRES_ATTRIBUTE)
            .remove_attribute(NOTICED_ATTRIBUTE)
            .with_condition(Condition::Exists);
        self.update_item(update).await.map(drop)
    }

    /// The consents of these records that exist, in any order; read eventually. No record may be
    /// there twice. Each 100 are one call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_consents(&self, records: &[RecordId]) -> Result<Vec<Consent>, StoreError> {
        let keys = records.iter().copied().map(Key::Consent);
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        items.iter().map(read_consent).collect()
    }

    /// The consent of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_consent(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<Consent>, StoreError> {
        let item = self.get_item(Key::Consent(record), consistency).await?;
        item.as_ref().map(read_consent).transpose()
    }

    /// Stores a consent in place of the record's old one: the user re-authorised, or the bank issued
    /// another token.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_consent(&self, consent: &Consent) -> Result<(), StoreError> {
        self.put_item(write_consent(consent)?).await
    }

    /// Claims the renewal of a consent's tokens until `until`: two refreshes that both spent the same
    /// refresh token would look like theft to the bank. False where another has a claim that lasts at
    /// `now`, or where the consent was replaced since it was read. A claim is never released: the
    /// renewed consent has none, and after a failure it runs out.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_token_renewal(
        &self,
        consent: &Consent,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = ItemUpdate::new(Key::Consent(consent.record))
            .set_attribute(RENEWAL_CLAIM_ATTRIBUTE, millis_value(until))
            .with_condition(Condition::Equals(
                SEALED_ATTRIBUTE,
                Some(bytes_value(consent.sealed_secret.as_slice())),
            ))
            .with_condition(Condition::AbsentOrBelow(
                RENEWAL_CLAIM_ATTRIBUTE,
                millis_value(now),
            ));
        self.update_item(update).await
    }

    /// Stores renewed tokens in place of those of `consent`, and ends the claim. False, and nothing
    /// stored, where the consent was replaced or removed meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn store_renewed_tokens(
        &self,
        consent: &Consent,
        sealed_secret: &[u8],
    ) -> Result<bool, StoreError> {
        let update = ItemUpdate::new(Key::Consent(consent.record))
            .set_attribute(SEALED_ATTRIBUTE, bytes_value(sealed_secret))
            .remove_attribute(RENEWAL_CLAIM_ATTRIBUTE)
            .with_condition(Condition::Equals(
                SEALED_ATTRIBUTE,
                Some(bytes_value(consent.sealed_secret.as_slice())),
            ));
        self.update_item(update).await
    }
}
