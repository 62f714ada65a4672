//! What an event's body says besides the feed entry: things that stay as they are, so that every
//! attempt has the same bytes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use okra_core::{
    bank::BankConfig,
    feed::FeedEntry,
    ids::{AccountId, RecordId},
    model::Environment,
};
use okra_store::{Account, Consistency, Head};
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
        let context = webhook::Context {
            public_url,
            endpoint_url: &target.url,
            payload: target.payload,
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
        };
        webhook::body(&context, entry).into()
    }
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
        let mut ids: Vec<_> = entries.iter().filter_map(|entry| entry.account).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Accounts(HashMap::new()));
        }
        let accounts = self.store.accounts(&ids, Consistency::Eventual).await?;
        Ok(Accounts(
            accounts
                .into_iter()
                .map(|account| (account.id, account))
                .collect(),
        ))
    }
}
