//! Short links: the options of the widget under a short name, so that a link opens the widget with them.

use std::fmt;

use jiff::Timestamp;
use okra_core::model::ids::{AppId, LinkId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Consistency, MAX_SHORT_LINKS_PER_APP, Store, StoreError,
    key::{self, Key},
    limits::{usage_counters::CountedWriteOutcome, usage_limits::UsageCounter},
    table::{
        attributes::item_size,
        expression::Condition,
        item::{ItemReader, json_item, link_item, read_json_item},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
    },
};

const KIND: &str = "short link";

/// Bytes of a short link's options as JSON at most.
pub const MAX_SHORT_LINK_BYTES: usize = 8 * 1024;

/// Bytes of the other fields of a short link and of its key at most.
const MAX_FIELDS_BYTES: usize = 512;

/// A short link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLink {
    /// Its id.
    pub id: LinkId,
    /// The last part of its address: lower-case letters and digits.
    pub name: String,
    /// The app that has it.
    pub app: AppId,
    /// What the widget is opened with, in the names of its options; at most
    /// [`MAX_SHORT_LINK_BYTES`].
    pub options: Map<String, Value>,
    /// When it was created.
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

impl Store {
    /// Stores a new short link.
    ///
    /// # Errors
    ///
    /// [`StoreError::BoundExceeded`] for more than [`MAX_SHORT_LINK_BYTES`] of options,
    /// [`StoreError::LimitReached`] for more than [`MAX_SHORT_LINKS_PER_APP`] links, [`StoreError::AlreadyExists`] where the name is another's.
    pub async fn create_short_link(&self, short_link: &ShortLink) -> Result<(), StoreError> {
        let name = short_link.name.as_str();
        let item = json_item(KIND, Key::ShortLink { name }, short_link)?;
        if item_size(&item) > MAX_SHORT_LINK_BYTES + MAX_FIELDS_BYTES {
            return Err(StoreError::BoundExceeded {
                what: "bytes of options",
                bound: MAX_SHORT_LINK_BYTES,
            });
        }
        let app = short_link.app;
        let actions = vec![
            self.put_action(item, vec![Condition::Absent])?,
            self.put_action(link_item(Key::ShortLinkLink { app, name }), vec![])?,
        ];
        let counters = [UsageCounter::ShortLinksOfApp(app)];
        match self
            .transact_counted(actions, &counters)
            .await?
            .require_room()?
        {
            CountedWriteOutcome::Committed => Ok(()),
            _ => Err(StoreError::AlreadyExists { kind: KIND }),
        }
    }

    /// The short link of a name; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_short_link(&self, name: &str) -> Result<Option<ShortLink>, StoreError> {
        let item = self
            .get_item(Key::ShortLink { name }, Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }

    /// The short links of an app, in the order of their names; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_short_links(&self, app: AppId) -> Result<Vec<ShortLink>, StoreError> {
        let names = self.list_short_link_names(app).await?;
        let keys = names.iter().map(|name| Key::ShortLink { name });
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        let mut links = items
            .iter()
            .map(|item| read_json_item::<ShortLink>(KIND, item))
            .collect::<Result<Vec<_>, _>>()?;
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(links)
    }

    /// The names of an app's short links, in their order; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_short_link_names(&self, app: AppId) -> Result<Vec<String>, StoreError> {
        let limit = ReadLimit::Capped {
            bound: MAX_SHORT_LINKS_PER_APP * READ_MARGIN,
            what: "short links",
        };
        let range = KeyRange::with_prefix(key::app_partition(app), key::SHORT_LINK_PREFIX);
        let links = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        links
            .iter()
            .map(|link| ItemReader::new(KIND, link).parse_sort_key_after(key::SHORT_LINK_PREFIX))
            .collect()
    }

    /// Deletes a short link: it opens nothing any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_short_link(&self, short_link: &ShortLink) -> Result<(), StoreError> {
        let (app, name) = (short_link.app, short_link.name.as_str());
        self.delete_item(Key::ShortLink { name }).await?;
        self.delete_item(Key::ShortLinkLink { app, name }).await
    }
}
