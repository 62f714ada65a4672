//! Customers: persons of an app.

use std::fmt;

use jiff::Timestamp;
use okra_core::ids::{AppId, CustomerId};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Page, Store, StoreError, apps,
    item::{Attributes, JSON, Key, Reader, document},
};

const KIND: &str = "customer";
const LINK: &str = "CUS#";

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

/// The partition of a customer and the links to its records.
pub(crate) fn partition(customer: CustomerId) -> String {
    format!("{LINK}{customer}")
}

fn key(customer: CustomerId) -> Key {
    Key::new(partition(customer), "CUS")
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
        let link = Key::new(apps::partition(customer.app), partition(customer.id));
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

    /// At most `limit` customers of an app with ids after `after`, in the order of their ids.
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
        let ids = self
            .linked(apps::partition(app), LINK, after, limit)
            .await?;
        let keys = ids.iter().copied().map(key).collect();
        let items = self.batch_get(keys, Consistency::Eventual).await?;
        let mut items = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        items.sort_by_key(|customer| customer.id);
        Ok(Page {
            items,
            next: ids.last().copied().filter(|_| ids.len() == limit),
        })
    }
}
