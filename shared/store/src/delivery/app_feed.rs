//! The feed of an app: notices about its endpoints and deliveries ([`AppNotice`]), numbered densely from 1. An entry is
//! committed in one transaction with the change that it is about.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    delivery::endpoint_health::HealthNotice,
    model::ids::{AppId, EndpointId, EventId, FeedSource, Seq},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Delivery, Store, StoreError,
    delivery::deliveries,
    key::{self, Key},
    table::{
        attributes::{Attributes, HIGHEST_SORT_CHAR, JSON_ATTRIBUTE, millis_value, number_value},
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit},
        writes::TransactWriteOutcome,
    },
};

/// Entries of an app's feed that are read at once at most.
pub const MAX_APP_FEED_PAGE: usize = 100;

/// Seconds that an entry of an app's feed is stored: 30 days.
const ENTRY_RETENTION_S: i64 = 30 * 24 * 3600;

/// Times a commit is tried against others to the same app's feed.
const MAX_COMMIT_ATTEMPTS: u32 = 8;

const KIND: &str = "app feed entry";
const HEAD_KIND: &str = "app feed head";
const LAST_SEQ_ATTRIBUTE: &str = "q";
const DISPATCHED_SEQ_ATTRIBUTE: &str = "d";
const COMMITTED_ATTRIBUTE: &str = "t";

/// An entry of an app's feed: something about one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFeedEntry {
    /// The app.
    pub app: AppId,
    /// The seq in the app's feed, dense from 1.
    pub seq: Seq,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// The endpoint it is about.
    pub endpoint: EndpointId,
    /// The endpoint's URL.
    pub endpoint_url: String,
    /// What happened.
    pub notice: AppNotice,
}

/// What happened to an endpoint, or to a delivery to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppNotice {
    /// Its health changed.
    Health(HealthNotice),
    /// The attempts to deliver an event are used up.
    Exhausted {
        /// The event.
        event: EventId,
        /// Its name.
        name: String,
        /// Attempts made.
        attempts: u32,
        /// The class of the last.
        class: String,
    },
}

impl AppFeedEntry {
    /// The id of the event that notifies of this entry.
    pub fn event_id(&self) -> EventId {
        EventId::for_feed_entry(FeedSource::App(self.app), self.seq)
    }
}

/// An entry to be committed.
#[derive(Clone, Debug)]
pub struct NewAppFeedEntry {
    /// The endpoint it is about.
    pub endpoint: EndpointId,
    /// Its URL.
    pub endpoint_url: String,
    /// What happened.
    pub notice: AppNotice,
}

#[derive(Serialize, Deserialize)]
struct AppFeedEntryBody {
    endpoint: EndpointId,
    #[serde(rename = "url")]
    endpoint_url: String,
    #[serde(rename = "happened")]
    notice: AppNotice,
}

fn read_app_feed_entry(app: AppId, item: &Attributes) -> Result<AppFeedEntry, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let body: AppFeedEntryBody = reader.read_json(JSON_ATTRIBUTE)?;
    Ok(AppFeedEntry {
        app,
        seq: Seq(reader.parse_sort_key_after(key::FEED_PREFIX)?),
        committed_at: reader.read_millis(COMMITTED_ATTRIBUTE)?,
        endpoint: body.endpoint,
        endpoint_url: body.endpoint_url,
        notice: body.notice,
    })
}

fn write_app_feed_entry(
    app: AppId,
    seq: Seq,
    entry: &NewAppFeedEntry,
    now: Timestamp,
) -> Result<Attributes, StoreError> {
    let body = AppFeedEntryBody {
        endpoint: entry.endpoint,
        endpoint_url: entry.endpoint_url.clone(),
        notice: entry.notice.clone(),
    };
    Ok(ItemBuilder::new(Key::AppFeedEntry { app, seq })
        .with_attribute(COMMITTED_ATTRIBUTE, millis_value(now))
        .with_json(KIND, &body)?
        .with_expiry(now, ENTRY_RETENTION_S)
        .build())
}

impl Store {
    /// Stores a delivery as [`put_delivery`](Self::put_delivery) does, together with the feed entry that
    /// notifies its app. `None`, and nothing stored, where another process stored it since it was read; else the seq of
    /// the entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_delivery_with_notice(
        &self,
        app: AppId,
        delivery: &Delivery,
        entry: &NewAppFeedEntry,
        now: Timestamp,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        let item = deliveries::write_delivery(delivery, now)?;
        let action = self.put_action(item, vec![deliveries::unchanged_since_read(delivery)])?;
        self.commit_with_entries(app, std::slice::from_ref(entry), now, action)
            .await
    }

    /// One transaction: an action whose condition decides, and entries of an app's feed. `None`, and nothing stored,
    /// where the condition does not hold; else the seqs of the entries.
    pub(crate) async fn commit_with_entries(
        &self,
        app: AppId,
        entries: &[NewAppFeedEntry],
        now: Timestamp,
        deciding_action: TransactWriteItem,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (last, _) = self.load_app_feed_head(app).await?;
            let seqs: Vec<Seq> = (1..).zip(entries).map(|(n, _)| last.plus(n)).collect();

            // The head moves where no other entry came first.
            let known = (last > Seq::ZERO).then(|| number_value(last));
            let new_last = seqs.last().copied().unwrap_or(last);
            let head = ItemUpdate::new(Key::AppFeedHead(app))
                .set_attribute(LAST_SEQ_ATTRIBUTE, number_value(new_last))
                .with_condition(Condition::Equals(LAST_SEQ_ATTRIBUTE, known));
            let mut actions = vec![deciding_action.clone(), self.update_action(head)?];
            for (&seq, entry) in seqs.iter().zip(entries) {
                let item = write_app_feed_entry(app, seq, entry, now)?;
                actions.push(self.put_action(item, vec![Condition::Absent])?);
            }
            match self.transact_write(actions).await? {
                TransactWriteOutcome::Committed => return Ok(Some(seqs)),
                TransactWriteOutcome::ConditionFailed(0) => return Ok(None),
                TransactWriteOutcome::ConditionFailed(_) => {}
            }
        }
        Err(StoreError::Contended {
            operation: "commit to the feed of an app",
        })
    }

    /// The seqs of the last entry of an app's feed and of the last that was dispatched; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_app_feed_head(&self, app: AppId) -> Result<(Seq, Seq), StoreError> {
        let Some(item) = self
            .get_item(Key::AppFeedHead(app), Consistency::Strong)
            .await?
        else {
            return Ok((Seq::ZERO, Seq::ZERO));
        };
        let reader = ItemReader::new(HEAD_KIND, &item);
        Ok((
            Seq(reader.read_count(LAST_SEQ_ATTRIBUTE)?),
            Seq(reader.read_count(DISPATCHED_SEQ_ATTRIBUTE)?),
        ))
    }

    /// Stores how far an app's feed was dispatched; never goes back.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn advance_app_feed(&self, app: AppId, dispatched: Seq) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::AppFeedHead(app))
            .set_attribute(DISPATCHED_SEQ_ATTRIBUTE, number_value(dispatched))
            .with_condition(Condition::AbsentOrBelow(
                DISPATCHED_SEQ_ATTRIBUTE,
                number_value(dispatched),
            ));
        self.update_item(update).await.map(drop)
    }

    /// At most `limit` and [`MAX_APP_FEED_PAGE`] entries of an app's feed after `after`, in order;
    /// read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn read_app_feed(
        &self,
        app: AppId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<AppFeedEntry>, StoreError> {
        let range = KeyRange::between_keys(
            key::app_feed_partition(app),
            key::feed_sort_key(after.next()),
            format!("{}{HIGHEST_SORT_CHAR}", key::FEED_PREFIX),
        );
        let read_limit = ReadLimit::First(limit.min(MAX_APP_FEED_PAGE));
        let items = self
            .query_range(range, read_limit, Consistency::Strong)
            .await?;
        items
            .iter()
            .map(|item| read_app_feed_entry(app, item))
            .collect()
    }
}
