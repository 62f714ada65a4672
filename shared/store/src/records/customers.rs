//! Customers: persons of an app.

use std::fmt;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use okra_core::model::ids::{AccountId, AppId, CustomerId, CustomerTag, RecordId};
use serde::{Deserialize, Serialize};

use crate::{
    Account, Consistency, ListPage, MAX_ACCOUNTS_PER_RECORD, MAX_RECORDS_PER_CUSTOMER, RecordHead,
    Store, StoreError,
    records::accounts,
    table::{
        call::{KeyRange, ReadLimit},
        item::{Attributes, HIGHEST_SORT_CHAR, ItemReader, JSON_ATTRIBUTE, Key, SK, json_item},
    },
    tenants::apps,
};

const KIND: &str = "customer";
const CUSTOMER_PREFIX: &str = "CUS#";

/// Customers that share a tag, taken together, have at most so many times what one may have.
const MAX_CUSTOMERS_PER_TAG: usize = 2;

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
    #[serde(rename = "blocked")]
    pub is_blocked: bool,
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
pub(crate) fn customer_partition(tag: CustomerTag) -> String {
    format!("{CUSTOMER_PREFIX}{}", HEXLOWER.encode(&tag))
}

pub(crate) fn customer_key(customer: CustomerId) -> Key {
    Key::new(
        customer_partition(customer.tag()),
        customer_sort_key(customer),
    )
}

/// The sort key of a customer, and of the link from its app.
pub(crate) fn customer_sort_key(customer: CustomerId) -> String {
    format!("{CUSTOMER_PREFIX}{customer}")
}

/// What the sort keys of the links to a customer's records begin with.
pub(crate) fn record_link_prefix(customer: CustomerId) -> String {
    format!("REC#{customer}#")
}

fn read_customer(item: &Attributes) -> Result<Customer, StoreError> {
    ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE)
}

impl Store {
    /// Stores a customer, in place of one with the same id, and the link from its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_customer(&self, customer: &Customer) -> Result<(), StoreError> {
        let link = Key::new(
            apps::app_partition(customer.app),
            customer_sort_key(customer.id),
        );
        let actions = vec![
            self.put_action(
                json_item(KIND, customer_key(customer.id), customer)?,
                vec![],
            ),
            self.put_action(link.into_attributes(), vec![]),
        ];
        self.transact_write(actions).await.map(drop)
    }

    /// A customer.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_customer(
        &self,
        customer: CustomerId,
    ) -> Result<Option<Customer>, StoreError> {
        let item = self
            .get_item(customer_key(customer), Consistency::Eventual)
            .await?;
        item.as_ref().map(read_customer).transpose()
    }

    /// A customer with all accounts, in the order they were linked in. One query, which costs what the
    /// items weigh; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_customer_with_accounts(
        &self,
        customer: CustomerId,
    ) -> Result<Option<(Customer, Vec<Account>)>, StoreError> {
        const BOUND: usize =
            MAX_CUSTOMERS_PER_TAG * (1 + MAX_RECORDS_PER_CUSTOMER * MAX_ACCOUNTS_PER_RECORD);
        let Key { pk, sk } = customer_key(customer);
        let range = KeyRange::between_keys(pk, accounts::ACCOUNT_PREFIX, sk.clone());
        let take = ReadLimit::All {
            bound: BOUND,
            what: "accounts of a customer",
        };
        let (mut found, mut of) = (None, Vec::new());
        for item in &self.query_range(range, take, Consistency::Eventual).await? {
            let reader = ItemReader::new(KIND, item);
            if reader.read_text(SK)?.starts_with(accounts::ACCOUNT_PREFIX) {
                of.push(accounts::read_account(item)?);
            } else if reader.read_text(SK)? == sk {
                found = Some(read_customer(item)?);
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
    pub async fn find_account_with_customer(
        &self,
        account: AccountId,
    ) -> Result<Option<(Account, Option<Customer>)>, StoreError> {
        let Key { pk, sk } = accounts::account_key(account);
        let range = KeyRange::between_keys(pk, sk, format!("{CUSTOMER_PREFIX}{HIGHEST_SORT_CHAR}"));
        let take = ReadLimit::All {
            bound: MAX_CUSTOMERS_PER_TAG * (1 + MAX_RECORDS_PER_CUSTOMER * MAX_ACCOUNTS_PER_RECORD),
            what: "accounts of a customer",
        };
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        let Some(first) = items.first() else {
            return Ok(None);
        };
        let found = match ItemReader::new(KIND, first).sort_key_after(accounts::ACCOUNT_PREFIX) {
            Ok(_) => accounts::read_account(first)?,
            Err(_) => return Ok(None),
        };
        if found.id != account {
            return Ok(None);
        }
        let theirs = customer_sort_key(found.customer);
        let is_theirs = |item: &&Attributes| {
            let key = ItemReader::new(KIND, item).read_text(SK);
            key.is_ok_and(|key| key == theirs)
        };
        let customer = items
            .iter()
            .find(is_theirs)
            .map(read_customer)
            .transpose()?;
        Ok(Some((found, customer)))
    }

    /// A customer with all records, in the order of their ids: one query, and half a unit for each
    /// record; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_RECORDS_PER_CUSTOMER`] records.
    pub async fn find_customer_with_records(
        &self,
        customer: CustomerId,
    ) -> Result<Option<(Customer, Vec<RecordHead>)>, StoreError> {
        let Key { pk, sk } = customer_key(customer);
        let prefix = record_link_prefix(customer);
        let range = KeyRange::between_keys(pk, sk.clone(), format!("{prefix}{HIGHEST_SORT_CHAR}"));
        let take = ReadLimit::All {
            bound: MAX_CUSTOMERS_PER_TAG * (1 + MAX_RECORDS_PER_CUSTOMER),
            what: "records of a customer",
        };
        let (mut found, mut ids) = (None, Vec::<RecordId>::new());
        for item in &self.query_range(range, take, Consistency::Eventual).await? {
            let reader = ItemReader::new(KIND, item);
            if reader.read_text(SK)? == sk {
                found = Some(read_customer(item)?);
            } else if let Ok(id) = reader.sort_key_after(&prefix) {
                ids.push(id.parse().map_err(|_| reader.corrupt_error(SK))?);
            }
        }
        let Some(found) = found else { return Ok(None) };
        let heads = self.load_heads(&ids, Consistency::Eventual).await?;
        Ok(Some((found, heads)))
    }

    /// The ids of at most `limit` customers of an app after `after`, in their order; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_customer_ids(
        &self,
        app: AppId,
        after: Option<CustomerId>,
        limit: usize,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let partition = apps::app_partition(app);
        let consistency = Consistency::Eventual;
        self.linked_ids(partition, CUSTOMER_PREFIX, after, limit, consistency)
            .await
    }

    /// At most `limit` customers of an app with ids after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_customers(
        &self,
        app: AppId,
        after: Option<CustomerId>,
        limit: usize,
    ) -> Result<ListPage<Customer, CustomerId>, StoreError> {
        let ids = self.list_customer_ids(app, after, limit).await?;
        Ok(ListPage {
            items: self.load_customers(&ids).await?,
            next_cursor: ids.last().copied().filter(|_| ids.len() == limit),
        })
    }

    /// The customers of these ids that exist, in the order of their ids; read eventually. No id may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_customers(&self, ids: &[CustomerId]) -> Result<Vec<Customer>, StoreError> {
        let keys = ids.iter().copied().map(customer_key).collect();
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        let mut items = items
            .iter()
            .map(read_customer)
            .collect::<Result<Vec<_>, _>>()?;
        items.sort_by_key(|customer| customer.id);
        Ok(items)
    }
}
