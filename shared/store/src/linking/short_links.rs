//! Short links: the widget's options under a short name, so that a link opens it.

use std::fmt;

use jiff::Timestamp;
use okra_core::model::ids::{AppId, LinkId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        item::{ItemReader, JSON_ATTRIBUTE, Key, json_item},
    },
    tenants::apps,
};

const KIND: &str = "short link";
const SHORT_LINK_PREFIX: &str = "SHL#";

/// Short links of one app at most.
pub const MAX_SHORT_LINKS_PER_APP: usize = 1000;

/// Bytes of a short link's options as JSON at most.
pub const MAX_SHORT_LINK_BYTES: usize = 8 * 1024;

/// A short link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLink {
    /// Its id.
    pub id: LinkId,
    /// The last part of its address: lower-case letters and digits.
    pub name: String,
    /// Whose it is.
    pub app: AppId,
    /// What the widget is opened with, in the names of its options; at most
    /// [`MAX_SHORT_LINK_BYTES`].
    pub options: Map<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for ShortLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortLink")
            .field("id", &self.id)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

fn short_link_key(name: &str) -> Key {
    Key::new(format!("{SHORT_LINK_PREFIX}{name}"), "SHL")
}

fn app_link_key(app: AppId, name: &str) -> Key {
    Key::new(
        apps::app_partition(app),
        format!("{SHORT_LINK_PREFIX}{name}"),
    )
}

impl Store {
    /// Stores a short link.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_SHORT_LINK_BYTES`] of options.
    pub async fn put_short_link(&self, short_link: &ShortLink) -> Result<(), StoreError> {
        let item = json_item(KIND, short_link_key(&short_link.name), short_link)?;
        if crate::table::item::item_size(&item) > MAX_SHORT_LINK_BYTES + 512 {
            return Err(StoreError::BoundExceeded {
                what: "bytes of options",
                bound: MAX_SHORT_LINK_BYTES,
            });
        }
        let actions = vec![
            self.put_action(item, vec![]),
            self.put_action(
                app_link_key(short_link.app, &short_link.name).into_attributes(),
                vec![],
            ),
        ];
        self.transact_write(actions).await.map(drop)
    }

    /// The short link of a name; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_short_link(&self, name: &str) -> Result<Option<ShortLink>, StoreError> {
        let item = self
            .get_item(short_link_key(name), Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }

    /// The short links of an app, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_SHORT_LINKS_PER_APP`].
    pub async fn list_short_links(&self, app: AppId) -> Result<Vec<ShortLink>, StoreError> {
        let names = self.list_short_link_names(app).await?;
        let keys = names.iter().map(|name| short_link_key(name)).collect();
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        let read = |item| ItemReader::new(KIND, item).read_json::<ShortLink>(JSON_ATTRIBUTE);
        let mut links = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(links)
    }

    /// The names of an app's short links, in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_SHORT_LINKS_PER_APP`].
    pub async fn list_short_link_names(&self, app: AppId) -> Result<Vec<String>, StoreError> {
        let take = ReadLimit::All {
            bound: MAX_SHORT_LINKS_PER_APP,
            what: "short links",
        };
        let range = KeyRange::with_prefix(apps::app_partition(app), SHORT_LINK_PREFIX);
        let links = self.query_range(range, take, Consistency::Eventual).await?;
        let name = |link| {
            ItemReader::new(KIND, link)
                .sort_key_after(SHORT_LINK_PREFIX)
                .map(str::to_owned)
        };
        links.iter().map(name).collect()
    }

    /// Removes a short link: it opens nothing any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_short_link(&self, short_link: &ShortLink) -> Result<(), StoreError> {
        self.delete_item(short_link_key(&short_link.name)).await?;
        self.delete_item(app_link_key(short_link.app, &short_link.name))
            .await
    }
}
