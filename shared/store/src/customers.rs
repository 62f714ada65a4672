//! Customers: persons of an app.

use std::fmt;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use okra_core::ids::{AccountId, AppId, CustomerId, CustomerTag, RecordId};
use serde::{Deserialize, Serialize};

use crate::{
    Account, Consistency, Head, MAX_ACCOUNTS_PER_RECORD, MAX_RECORDS_PER_CUSTOMER, Page, Store,
    StoreError, accounts, apps,
    call::{Range, Take},
    item::{AFTER_ALL, Attributes, JSON, Key, Reader, SK, document},
};

const KIND: &str = "customer";
const LINK: &str = "CUS#";

/// Customers that share a tag, taken together, have at most so many times what one may have.
const MAX_NAMESAKES: usize = 2;

/// A person of an app, across banks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Its id.
    pub id: CustomerId,
    /// The app.
    pub app: AppId,
    /// The person's name.
    pub name: String,
    /// The person's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// True where the app flagged the person: no bank can be linked.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub blocked: bool,
    /// When the person first linked a bank.
    pub created_at: Timestamp,
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Customer")
            .field("id", &self.id)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// The partition of a customer, its accounts and the links to its records. In the order of their sort
/// keys: accounts, customer, records, so that one query reads the customer with either.
pub(crate) fn partition(tag: CustomerTag) -> String {
    format!("{LINK}{}", HEXLOWER.encode(&tag))
}

pub(crate) fn key(customer: CustomerId) -> Key {
    Key::new(partition(customer.tag()), link(customer))
}

/// The sort key of a customer, and of the link from its app.
pub(crate) fn link(customer: CustomerId) -> String {
    format!("{LINK}{customer}")
}

/// What the sort keys of the links to a customer's records begin with.
pub(crate) fn records(customer: CustomerId) -> String {
    format!("REC#{customer}#")
}

fn read(item: &Attributes) -> Result<Customer, StoreError> {
    Reader::new(KIND, item).json(JSON)
}

impl Store {
    /// Stores a customer, in place of one with the same id, and the link from its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_customer(&self, customer: &Customer) -> Result<(), StoreError> {
        let link = Key::new(apps::partition(customer.app), link(customer.id));
        let actions = vec![
            self.put_action(document(KIND, key(customer.id), customer)?, vec![]),
            self.put_action(link.attributes(), vec![]),
        ];
        self.transact(actions).await.map(drop)
    }

    /// A customer.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn customer(&self, customer: CustomerId) -> Result<Option<Customer>, StoreError> {
        let item = self.get(key(customer), Consistency::Eventual).await?;
        item.as_ref().map(read).transpose()
    }

    /// A customer with all accounts, in the order they were linked in. One query, which costs what the
    /// items weigh; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn customer_with_accounts(
        &self,
        customer: CustomerId,
    ) -> Result<Option<(Customer, Vec<Account>)>, StoreError> {
        const BOUND: usize =
            MAX_NAMESAKES * (1 + MAX_RECORDS_PER_CUSTOMER * MAX_ACCOUNTS_PER_RECORD);
        let Key { pk, sk } = key(customer);
        let range = Range::between(pk, accounts::PREFIX, sk.clone());
        let take = Take::All {
            bound: BOUND,
            what: "accounts of a customer",
        };
        let (mut found, mut of) = (None, Vec::new());
        for item in &self.query(range, take, Consistency::Eventual).await? {
            let reader = Reader::new(KIND, item);
            if reader.text(SK)?.starts_with(accounts::PREFIX) {
                of.push(accounts::read(item)?);
            } else if reader.text(SK)? == sk {
                found = Some(read(item)?);
            }
        }
        of.retain(|account| account.customer == customer);
        of.sort_by_key(|account| (account.created_at, account.id));
        Ok(found.map(|customer| (customer, of)))
    }

    /// An account with its customer: one query; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn account_with_customer(
        &self,
        account: AccountId,
    ) -> Result<Option<(Account, Option<Customer>)>, StoreError> {
        let Key { pk, sk } = accounts::key(account);
        let range = Range::between(pk, sk, format!("{LINK}{AFTER_ALL}"));
        let take = Take::All {
            bound: MAX_NAMESAKES * (1 + MAX_RECORDS_PER_CUSTOMER * MAX_ACCOUNTS_PER_RECORD),
            what: "accounts of a customer",
        };
        let items = self.query(range, take, Consistency::Eventual).await?;
        let Some(first) = items.first() else {
            return Ok(None);
        };
        let found = match Reader::new(KIND, first).after(accounts::PREFIX) {
            Ok(_) => accounts::read(first)?,
            Err(_) => return Ok(None),
        };
        if found.id != account {
            return Ok(None);
        }
        let theirs = link(found.customer);
        let is_theirs = |item: &&Attributes| {
            let key = Reader::new(KIND, item).text(SK);
            key.is_ok_and(|key| key == theirs)
        };
        let customer = items.iter().find(is_theirs).map(read).transpose()?;
        Ok(Some((found, customer)))
    }

    /// A customer with all records, in the order of their ids: one query, and half a unit for each
    /// record; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_RECORDS_PER_CUSTOMER`] records.
    pub async fn customer_with_records(
        &self,
        customer: CustomerId,
    ) -> Result<Option<(Customer, Vec<Head>)>, StoreError> {
        let Key { pk, sk } = key(customer);
        let prefix = records(customer);
        let range = Range::between(pk, sk.clone(), format!("{prefix}{AFTER_ALL}"));
        let take = Take::All {
            bound: MAX_NAMESAKES * (1 + MAX_RECORDS_PER_CUSTOMER),
            what: "records of a customer",
        };
        let (mut found, mut ids) = (None, Vec::<RecordId>::new());
        for item in &self.query(range, take, Consistency::Eventual).await? {
            let reader = Reader::new(KIND, item);
            if reader.text(SK)? == sk {
                found = Some(read(item)?);
            } else if let Ok(id) = reader.after(&prefix) {
                ids.push(id.parse().map_err(|_| reader.corrupt(SK))?);
            }
        }
        let Some(found) = found else { return Ok(None) };
        let heads = self.heads(&ids, Consistency::Eventual).await?;
        Ok(Some((found, heads)))
    }

    /// The ids of at most `limit` customers of an app after `after`, in their order; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn customer_ids(
        &self,
        app: AppId,
        after: Option<CustomerId>,
        limit: usize,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let partition = apps::partition(app);
        let consistency = Consistency::Eventual;
        self.linked(partition, LINK, after, limit, consistency)
            .await
    }

    /// At most `limit` customers of an app with ids after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn customers(
        &self,
        app: AppId,
        after: Option<CustomerId>,
        limit: usize,
    ) -> Result<Page<Customer, CustomerId>, StoreError> {
        let ids = self.customer_ids(app, after, limit).await?;
        Ok(Page {
            items: self.customers_of(&ids).await?,
            next: ids.last().copied().filter(|_| ids.len() == limit),
        })
    }

    /// The customers of these ids that exist, in the order of their ids; read eventually. No id may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn customers_of(&self, ids: &[CustomerId]) -> Result<Vec<Customer>, StoreError> {
        let keys = ids.iter().copied().map(key).collect();
        let items = self.batch_get(keys, Consistency::Eventual).await?;
        let mut items = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        items.sort_by_key(|customer| customer.id);
        Ok(items)
    }
}
