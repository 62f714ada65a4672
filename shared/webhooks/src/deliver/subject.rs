//! What an event's body says besides the feed entry: things that stay as they are, so that every
//! attempt has the same bytes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use okra_core::{
    bank::BankConfig,
    feed::{BodyVersion, FeedEntry, PayloadMode},
    ids::{AccountId, RecordId},
    model::Environment,
};
use okra_store::{Account, Consistency, Head, Store};
use okra_wire::webhook;

use super::{DeliverError, Deliverer, Target};

/// A record, with what its events tell of it.
pub(super) struct Subject {
    pub(super) head: Head,
    env: Environment,
    bank: Arc<BankConfig>,
    email: Option<String>,
}

impl Subject {
    /// `None` where the record is gone.
    pub(super) async fn load(
        deliverer: &Deliverer,
        record: RecordId,
    ) -> Result<Option<Self>, DeliverError> {
        let Deliverer {
            store, apps, banks, ..
        } = deliverer;
        let Some(head) = store.head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let now = deliverer.clock.now();
        let bank = async { Ok(store.bank(head.bank).await?.map(Arc::new)) };
        let (app, bank, customer) = Box::pin(async {
            futures::try_join!(
                apps.get(head.app, now, store.app(head.app)),
                banks.get(head.bank, now, bank),
                store.customer(head.customer)
            )
        })
        .await?;
        Ok(Some(Self {
            env: app
                .ok_or(DeliverError::Missing {
                    record,
                    what: "the app",
                })?
                .env,
            bank: bank.ok_or(DeliverError::Missing {
                record,
                what: "the bank",
            })?,
            email: customer.and_then(|customer| customer.email),
            head,
        }))
    }

    /// The body of an event: a function of the feed entry, the endpoint and what stays as it is.
    pub(super) fn body(
        &self,
        public_url: &str,
        account: Option<&Account>,
        entry: &FeedEntry,
        target: &Target,
    ) -> Bytes {
        let to = (target.url.as_str(), target.payload, target.version);
        self.render(public_url, account, entry, to)
    }

    fn render(
        &self,
        public_url: &str,
        account: Option<&Account>,
        entry: &FeedEntry,
        (endpoint_url, payload, version): (&str, PayloadMode, BodyVersion),
    ) -> Bytes {
        let context = webhook::Context {
            public_url,
            endpoint_url,
            payload,
            version,
            app: self.head.app,
            env: self.env,
            customer: self.head.customer,
            customer_email: self.email.as_deref(),
            bank: self.bank.id,
            bank_name: &self.bank.name,
            bank_slug: &self.bank.slug,
            country: &self.bank.country,
            account: account.map(|account| &account.facts),
            options: &self.head.options,
            meta: &self.head.meta,
        };
        let body = webhook::body(&context, entry);
        if body.len() <= MAX_BODY_BYTES {
            return body.into();
        }
        let reference = webhook::Context {
            payload: PayloadMode::Reference,
            ..context
        };
        webhook::body(&reference, entry).into()
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
pub async fn bodies(
    store: &Store,
    public_url: &str,
    head: &Head,
    entries: &[FeedEntry],
    to: (&str, PayloadMode, BodyVersion),
) -> Result<Vec<Bytes>, DeliverError> {
    let record = head.record;
    let missing = |what| DeliverError::Missing { record, what };
    let app = store.app(head.app).await?;
    let bank = store.bank(head.bank).await?;
    let customer = store.customer(head.customer).await?;
    let subject = Subject {
        head: head.clone(),
        env: app.ok_or_else(|| missing("the app"))?.env,
        bank: Arc::new(bank.ok_or_else(|| missing("the bank"))?),
        email: customer.and_then(|customer| customer.email),
    };
    let accounts = accounts_of(store, entries).await?;
    let mut bodies = Vec::with_capacity(entries.len());
    for entry in entries {
        let account = accounts.of(entry)?;
        bodies.push(subject.render(public_url, account, entry, to));
    }
    Ok(bodies)
}

/// Accounts by their id.
pub(super) struct Accounts(HashMap<AccountId, Account>);

impl Accounts {
    /// The account an entry is about; `None` where it is about the record as a whole.
    pub(super) fn of(&self, entry: &FeedEntry) -> Result<Option<&Account>, DeliverError> {
        let Some(id) = entry.account else {
            return Ok(None);
        };
        let missing = DeliverError::Missing {
            record: entry.record,
            what: "an account",
        };
        self.0.get(&id).map(Some).ok_or(missing)
    }
}

impl Deliverer {
    /// The accounts that entries are about.
    pub(super) async fn accounts_of(
        &self,
        entries: &[FeedEntry],
    ) -> Result<Accounts, DeliverError> {
        accounts_of(&self.store, entries).await
    }
}

async fn accounts_of(store: &Store, entries: &[FeedEntry]) -> Result<Accounts, DeliverError> {
    let mut ids: Vec<_> = entries.iter().filter_map(|entry| entry.account).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Accounts(HashMap::new()));
    }
    let accounts = store.accounts(&ids, Consistency::Eventual).await?;
    Ok(Accounts(
        accounts
            .into_iter()
            .map(|account| (account.id, account))
            .collect(),
    ))
}
