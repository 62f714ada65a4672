//! What a body of a record's event is rendered from, besides the feed entry.

use okra_core::{
    model::{
        ids::{AccountId, AppId, BankId, CustomerId},
        snapshot::{AccountFacts, Environment},
    },
    sync::feed::{BodyVersion, FeedEntry, PayloadMode},
};
use serde_json::{Map, Value};

/// What a body says besides the feed entry itself.
#[derive(Clone, Copy)]
pub struct EventContext<'a> {
    /// Where the API is reached, without a trailing slash.
    pub public_url: &'a str,
    /// The endpoint's URL.
    pub endpoint_url: &'a str,
    /// What the endpoint is sent.
    pub payload_mode: PayloadMode,
    /// The version of the body.
    pub body_version: BodyVersion,
    /// The app.
    pub app: AppId,
    /// Its environment.
    pub env: Environment,
    /// The customer.
    pub customer: CustomerId,
    /// The customer's address, where it is known.
    pub customer_email: Option<&'a str>,
    /// The bank.
    pub bank: BankId,
    /// Its name.
    pub bank_name: &'a str,
    /// Its slug.
    pub bank_slug: &'a str,
    /// Its country, ISO 3166.
    pub country: &'a str,
    /// The account that the entry is about; `None` where it is about the record as a whole.
    pub account_facts: Option<&'a AccountFacts>,
    /// What the app gave when linking; receivers know their user by it.
    pub options: &'a Value,
    /// What it gave besides.
    pub meta: &'a Map<String, Value>,
}

impl<'a> EventContext<'a> {
    /// The account an entry is about, with what is known of it.
    pub(super) fn account_with_facts(
        &self,
        entry: &FeedEntry,
    ) -> Option<(AccountId, &'a AccountFacts)> {
        Some((entry.account?, self.account_facts?))
    }

    /// True where the endpoint is sent the rows and not only their ids.
    pub(super) fn is_full(&self) -> bool {
        self.payload_mode == PayloadMode::Full
    }
}
