//! Customers: the persons of an app. A customer lies between its accounts and the links to its records, so that one
//! query reads it with either. Customers whose ids have the same tag share a partition.

use std::fmt;

use jiff::Timestamp;
use okra_core::model::ids::{AccountId, AppId, CustomerId, RecordId};
use serde::{Deserialize, Serialize};

use crate::{
    Account, Consistency, ListPage, MAX_ACCOUNTS_PER_RECORD, MAX_RECORDS_PER_CUSTOMER, RecordHead,
    Store, StoreError,
    key::{self, Key},
    records::accounts,
    table::{
        attributes::{Attributes, HIGHEST_SORT_CHAR, SK},
        item::{ItemReader, json_item, link_item, read_json_item},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
    },
};

const KIND: &str = "customer";

/// Customers that share a tag, taken together, have at most so many times what one may have.
const MAX_CUSTOMERS_PER_TAG: usize = 2;

/// Items that are read at most for a customer with its accounts.
const ACCOUNTS_LIMIT: ReadLimit = ReadLimit::Capped {
    bound: READ_MARGIN
        * MAX_CUSTOMERS_PER_TAG
        * (1 + MAX_RECORDS_PER_CUSTOMER * MAX_ACCOUNTS_PER_RECORD),
    what: "accounts of a customer",
};

/// Items that are read at most for a customer with the links to its records.
const RECORDS_LIMIT: ReadLimit = ReadLimit::Capped {
    bound: READ_MARGIN * MAX_CUSTOMERS_PER_TAG * (1 + MAX_RECORDS_PER_CUSTOMER),
    what: "records of a customer",
};

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

fn read_customer(item: &Attributes) -> Result<Customer, StoreError> {
    read_json_item(KIND, item)
}

/// The customer among items of its partition.
fn find_customer_item(
    items: &[Attributes],
    customer: CustomerId,
) -> Result<Option<Customer>, StoreError> {
    let sk = Key::Customer(customer).sk();
    for item in items {
        if ItemReader::new(KIND, item).read_text(SK)? == sk {
            return read_customer(item).map(Some);
        }
    }
    Ok(None)
}

fn sort_key_begins_with(item: &Attributes, prefix: &str) -> Result<bool, StoreError> {
    let sk = ItemReader::new(KIND, item).read_text(SK)?;
    Ok(sk.starts_with(prefix))
}

impl Store {
    /// Stores a customer, in place of one with the same id, and the link from its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_customer(&self, customer: &Customer) -> Result<(), StoreError> {
        let item = json_item(KIND, Key::Customer(customer.id), customer)?;
        let link = link_item(Key::CustomerLink {
            app: customer.app,
            customer: customer.id,
        });
        let actions = vec![
            self.put_action(item, vec![])?,
            self.put_action(link, vec![])?,
        ];
        self.transact_write(actions).await.map(drop)
    }

    /// A customer; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_customer(
        &self,
        customer: CustomerId,
    ) -> Result<Option<Customer>, StoreError> {
        let item = self
            .get_item(Key::Customer(customer), Consistency::Eventual)
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
        let key = Key::Customer(customer);
        let range = KeyRange::between_keys(key.pk(), key::ACCOUNT_PREFIX, key.sk());
        let items = self
            .query_range(range, ACCOUNTS_LIMIT, Consistency::Eventual)
            .await?;
        let found = find_customer_item(&items, customer)?;
        let mut accounts = Vec::new();
        for item in &items {
            if sort_key_begins_with(item, key::ACCOUNT_PREFIX)? {
                accounts.push(accounts::read_account(item)?);
            }
        }
        accounts.retain(|account| account.customer == customer);
        accounts.sort_by_key(|account| (account.created_at, account.id));
        Ok(found.map(|customer| (customer, accounts)))
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
        let key = Key::Account(account);
        let last = format!("{}{HIGHEST_SORT_CHAR}", key::CUSTOMER_PREFIX);
        let range = KeyRange::between_keys(key.pk(), key.sk(), last);
        let items = self
            .query_range(range, ACCOUNTS_LIMIT, Consistency::Eventual)
            .await?;
        let first = match items.first() {
            Some(first) if sort_key_begins_with(first, key::ACCOUNT_PREFIX)? => first,
            _ => return Ok(None),
        };
        let found = accounts::read_account(first)?;
        if found.id != account {
            return Ok(None);
        }
        let customer = find_customer_item(&items, found.customer)?;
        Ok(Some((found, customer)))
    }

    /// A customer with all records, in the order of their ids: one query, and half a unit for each
    /// record; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_customer_with_records(
        &self,
        customer: CustomerId,
    ) -> Result<Option<(Customer, Vec<RecordHead>)>, StoreError> {
        let key = Key::Customer(customer);
        let prefix = key::record_link_prefix(customer);
        let range =
            KeyRange::between_keys(key.pk(), key.sk(), format!("{prefix}{HIGHEST_SORT_CHAR}"));
        let items = self
            .query_range(range, RECORDS_LIMIT, Consistency::Eventual)
            .await?;
        let Some(found) = find_customer_item(&items, customer)? else {
            return Ok(None);
        };
        let mut ids = Vec::<RecordId>::new();
        for item in &items {
            if sort_key_begins_with(item, &prefix)? {
                ids.push(ItemReader::new("link", item).parse_sort_key_after(&prefix)?);
            }
        }
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
        let partition = key::app_partition(app);
        let consistency = Consistency::Eventual;
        self.list_linked_ids(partition, key::CUSTOMER_PREFIX, after, limit, consistency)
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
        let customers = self.load_customers(&ids).await?;
        Ok(ListPage::from_limited(customers, &ids, limit))
    }

    /// The customers of these ids that exist, in the order of their ids; read eventually. No id may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_customers(&self, ids: &[CustomerId]) -> Result<Vec<Customer>, StoreError> {
        let keys = ids.iter().copied().map(Key::Customer);
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        let mut customers = items
            .iter()
            .map(read_customer)
            .collect::<Result<Vec<_>, _>>()?;
        customers.sort_by_key(|customer| customer.id);
        Ok(customers)
    }
}
