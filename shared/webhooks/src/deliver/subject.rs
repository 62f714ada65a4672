//! What an event's body says besides the feed entry: things that stay as they are, so that every
//! attempt has the same bytes.

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

use super::{DeliverError, Deliverer, DeliveryTarget};

/// A record, with what its events tell of it.
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
        let Deliverer {
            store,
            app_cache: apps,
            bank_cache: banks,
            ..
        } = deliverer;
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let now = deliverer.clock.now();
        let bank = async { Ok(store.find_bank(head.bank).await?.map(Arc::new)) };
        let (app, bank, customer) = Box::pin(async {
            futures::try_join!(
                apps.get_or_read(head.app, now, store.find_app(head.app)),
                banks.get_or_read(head.bank, now, bank),
                store.find_customer(head.customer)
            )
        })
        .await?;
        Ok(Some(Self {
            env: app
                .ok_or(DeliverError::MissingItem {
                    record,
                    what: "the app",
                })?
                .environment,
            bank: bank.ok_or(DeliverError::MissingItem {
                record,
                what: "the bank",
            })?,
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
    ) -> Bytes {
        let to = (
            target.url.as_str(),
            target.payload_mode,
            target.body_version,
        );
        self.render_for_endpoint(public_url, account, entry, to)
    }

    fn render_for_endpoint(
        &self,
        public_url: &str,
        account: Option<&Account>,
        entry: &FeedEntry,
        (endpoint_url, payload, version): (&str, PayloadMode, BodyVersion),
    ) -> Bytes {
        let context = webhook::EventContext {
            public_url,
            endpoint_url,
            payload_mode: payload,
            body_version: version,
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
        let body = webhook::render_event_body(&context, entry);
        if body.len() <= MAX_BODY_BYTES {
            return body.into();
        }
        let reference = webhook::EventContext {
            payload_mode: PayloadMode::Reference,
            ..context
        };
        webhook::render_event_body(&reference, entry).into()
    }
}

/// Bytes of a body that carries the changed resources, at most; a larger one becomes a reference. An
/// entry of an event bus has 256 KiB with what surrounds the body.
const MAX_BODY_BYTES: usize = 255 * 1024;

/// The bodies of a record's events as the endpoint of a URL gets them in a payload mode and version; of an empty URL
/// where they are read and not sent, which is what their `callbackURL` says then.
///
/// # Errors
///
/// [`DeliverError`].
pub async fn render_bodies(
    store: &Store,
    public_url: &str,
    head: &RecordHead,
    entries: &[FeedEntry],
    to: (&str, PayloadMode, BodyVersion),
) -> Result<Vec<Bytes>, DeliverError> {
    let record = head.record;
    let missing = |what| DeliverError::MissingItem { record, what };
    let app = store.find_app(head.app).await?;
    let bank = store.find_bank(head.bank).await?;
    let customer = store.find_customer(head.customer).await?;
    let subject = EventSubject {
        head: head.clone(),
        env: app.ok_or_else(|| missing("the app"))?.environment,
        bank: Arc::new(bank.ok_or_else(|| missing("the bank"))?),
        email: customer.and_then(|customer| customer.email),
    };
    let accounts = read_entry_accounts(store, entries).await?;
    let mut bodies = Vec::with_capacity(entries.len());
    for entry in entries {
        let account = accounts.account_for_entry(entry)?;
        bodies.push(subject.render_for_endpoint(public_url, account, entry, to));
    }
    Ok(bodies)
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
        let missing = DeliverError::MissingItem {
            record: entry.record,
            what: "an account",
        };
        self.0.get(&id).map(Some).ok_or(missing)
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
