//! What an event's body says besides the feed entry: the record, its app, customer and bank.
//!
//! [`EventSubject`] is what is read for one record, [`AccountsById`] the accounts of its entries. The rule: all of it
//! stays as it is, so that every attempt has the same bytes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use okra_core::{
    model::{
        bank::BankConfig,
        ids::{AccountId, RecordId},
        snapshot::Environment,
    },
    sync::feed::{BodyVersion, FeedEntry, PayloadMode},
};
use okra_store::{Account, Consistency, RecordHead, Store};
use okra_wire::webhook;

use super::{deliverer::Deliverer, error::DeliverError, targets::DeliveryTarget};

/// A record, with what its events say of it.
pub(super) struct EventSubject {
    pub(super) head: RecordHead,
    env: Environment,
    bank: Arc<BankConfig>,
    email: Option<String>,
}

impl EventSubject {
    /// `None` where the record is gone.
    pub(super) async fn load_subject(
        deliverer: &Deliverer,
        record: RecordId,
    ) -> Result<Option<Self>, DeliverError> {
        let store = &deliverer.store;
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let now = deliverer.now();
        let bank = async { Ok(store.find_bank(head.bank).await?.map(Arc::new)) };
        let (app, bank, customer) = Box::pin(async {
            futures::try_join!(
                deliverer
                    .app_cache
                    .get_or_read(head.app, now, store.find_app(head.app)),
                deliverer.bank_cache.get_or_read(head.bank, now, bank),
                store.find_customer(head.customer)
            )
        })
        .await?;
        Ok(Some(Self {
            env: app
                .ok_or_else(|| missing_item(record, "the app"))?
                .environment,
            bank: bank.ok_or_else(|| missing_item(record, "the bank"))?,
            email: customer.and_then(|customer| customer.email),
            head,
        }))
    }

    /// The body of an event: a function of the feed entry, the endpoint and what stays as it is.
    pub(super) fn render_body(
        &self,
        public_url: &str,
        account: Option<&Account>,
        entry: &FeedEntry,
        target: &DeliveryTarget,
    ) -> Result<Bytes, DeliverError> {
        let format = BodyFormat {
            endpoint_url: &target.url,
            payload_mode: target.payload_mode,
            body_version: target.body_version,
        };
        self.render_in_format(public_url, account, entry, format)
    }

    fn render_in_format(
        &self,
        public_url: &str,
        account: Option<&Account>,
        entry: &FeedEntry,
        format: BodyFormat<'_>,
    ) -> Result<Bytes, DeliverError> {
        let context = webhook::EventContext {
            public_url,
            endpoint_url: format.endpoint_url,
            payload_mode: format.payload_mode,
            body_version: format.body_version,
            app: self.head.app,
            env: self.env,
            customer: self.head.customer,
            customer_email: self.email.as_deref(),
            bank: self.bank.id,
            bank_name: &self.bank.name,
            bank_slug: &self.bank.slug,
            country: &self.bank.country,
            account_facts: account.map(|account| &account.facts),
            options: &self.head.options,
            meta: &self.head.meta,
        };
        let body = webhook::render_event_body(&context, entry)?;
        if body.len() <= MAX_BODY_BYTES {
            return Ok(body.into());
        }
        let reference = webhook::EventContext {
            payload_mode: PayloadMode::Reference,
            ..context
        };
        Ok(webhook::render_event_body(&reference, entry)?.into())
    }
}

/// Bytes of a body that carries the changed resources at most; a larger one becomes a reference. An entry of an event
/// bus has 256 KiB with what surrounds the body.
const MAX_BODY_BYTES: usize = 255 * 1024;

/// How a body is rendered.
#[derive(Clone, Copy, Debug)]
pub struct BodyFormat<'a> {
    /// The URL that it is sent to; empty where it is read and not sent, which is what its `callbackURL` says then.
    pub endpoint_url: &'a str,
    /// Whether it carries the changed resources.
    pub payload_mode: PayloadMode,
    /// The version of its shape.
    pub body_version: BodyVersion,
}

/// The bodies of a record's events.
///
/// # Errors
///
/// [`DeliverError`] where the table cannot be read, or something that the record refers to is not in it.
pub async fn render_bodies(
    store: &Store,
    public_url: &str,
    head: &RecordHead,
    entries: &[FeedEntry],
    format: BodyFormat<'_>,
) -> Result<Vec<Bytes>, DeliverError> {
    let app = store.find_app(head.app).await?;
    let bank = store.find_bank(head.bank).await?;
    let customer = store.find_customer(head.customer).await?;
    let subject = EventSubject {
        head: head.clone(),
        env: app
            .ok_or_else(|| missing_item(head.record, "the app"))?
            .environment,
        bank: Arc::new(bank.ok_or_else(|| missing_item(head.record, "the bank"))?),
        email: customer.and_then(|customer| customer.email),
    };
    let accounts = read_entry_accounts(store, entries).await?;
    let mut bodies = Vec::with_capacity(entries.len());
    for entry in entries {
        let account = accounts.account_for_entry(entry)?;
        bodies.push(subject.render_in_format(public_url, account, entry, format)?);
    }
    Ok(bodies)
}

const fn missing_item(record: RecordId, what: &'static str) -> DeliverError {
    DeliverError::MissingItem { record, what }
}

/// Accounts by their id.
pub(super) struct AccountsById(HashMap<AccountId, Account>);

impl AccountsById {
    /// The account an entry is about; `None` where it is about the record as a whole.
    pub(super) fn account_for_entry(
        &self,
        entry: &FeedEntry,
    ) -> Result<Option<&Account>, DeliverError> {
        let Some(id) = entry.account else {
            return Ok(None);
        };
        let account = self.0.get(&id);
        Ok(Some(
            account.ok_or_else(|| missing_item(entry.record, "an account"))?,
        ))
    }
}

impl Deliverer {
    /// The accounts that entries are about.
    pub(super) async fn load_entry_accounts(
        &self,
        entries: &[FeedEntry],
    ) -> Result<AccountsById, DeliverError> {
        read_entry_accounts(&self.store, entries).await
    }
}

async fn read_entry_accounts(
    store: &Store,
    entries: &[FeedEntry],
) -> Result<AccountsById, DeliverError> {
    let mut ids: Vec<_> = entries.iter().filter_map(|entry| entry.account).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(AccountsById(HashMap::new()));
    }
    let accounts = store.load_accounts(&ids, Consistency::Eventual).await?;
    Ok(AccountsById(
        accounts
            .into_iter()
            .map(|account| (account.id, account))
            .collect(),
    ))
}
