//! Health of endpoints, and the feed of an app in which it is told.
//!
//! An endpoint that never failed has no item: a success costs no write here. What changes an
//! endpoint's health and is to be told is one transaction with the entry that tells it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    delivery::endpoint_health::{EndpointHealth, HealthNotice},
    model::ids::{AppId, EndpointId, EventId, FeedSource, Seq},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Delivery, Store, StoreError,
    delivery::deliveries,
    table::{
        call::{KeyRange, ReadLimit, TransactWriteOutcome},
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, expiry_value, json_value,
            millis_value, number_value,
        },
    },
};

/// Entries of an app's feed that are read at once at most.
pub const MAX_APP_FEED_PAGE: usize = 100;

/// Seconds that an entry of an app's feed is kept.
const ENTRY_RETENTION_S: i64 = 30 * 24 * 3600;

/// Times a transaction is tried again that lost against another entry of the same app's feed.
const MAX_COMMIT_ATTEMPTS: u32 = 8;

const KIND: &str = "endpoint health";
const ENTRY_KIND: &str = "app feed entry";
const ENTRY_PREFIX: &str = "FED#";

/// The health of an endpoint as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredEndpointHealth {
    /// The health.
    pub health: EndpointHealth,
    /// Events parked for it, about: one that was parked twice counts twice until all are delivered.
    pub parked_count: u64,
    /// How often it was stored; 0 where it never was.
    pub version: u64,
    /// What came of the last ping.
    pub last_ping: Option<PingResult>,
}

/// What came of a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingResult {
    /// When it was answered, or was not.
    #[serde(rename = "at")]
    pub pinged_at: Timestamp,
    /// The class of its outcome; a stable name.
    #[serde(rename = "class")]
    pub outcome_class: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u32,
}

/// An entry of an app's feed: something about one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFeedEntry {
    /// The app.
    pub app: AppId,
    /// The place in the app's feed, dense from 1.
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
    /// An event was given up.
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
    /// The id of the event that tells of this entry.
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

fn health_key(endpoint: EndpointId) -> Key {
    Key::new(format!("HLT#{endpoint}"), "HLT")
}

fn app_feed_partition(app: AppId) -> String {
    format!("AEV#{app}")
}

fn app_feed_head_key(app: AppId) -> Key {
    Key::new(app_feed_partition(app), "HEAD")
}

fn app_feed_entry_key(app: AppId, seq: Seq) -> Key {
    Key::new(
        app_feed_partition(app),
        format!("{ENTRY_PREFIX}{:012}", seq.0),
    )
}

fn read_endpoint_health(item: &Attributes) -> Result<StoredEndpointHealth, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let number = |name| {
        Ok(reader
            .read_optional(name, ItemReader::read_number)?
            .unwrap_or(0))
    };
    Ok(StoredEndpointHealth {
        health: reader
            .read_optional(JSON_ATTRIBUTE, ItemReader::read_json)?
            .unwrap_or_default(),
        parked_count: number("p")?,
        version: number("v")?,
        last_ping: reader.read_optional("g", ItemReader::read_json)?,
    })
}

fn read_app_feed_entry(app: AppId, item: &Attributes) -> Result<AppFeedEntry, StoreError> {
    let reader = ItemReader::new(ENTRY_KIND, item);
    let seq = reader.sort_key_after(ENTRY_PREFIX)?.parse();
    let body: AppFeedEntryBody = reader.read_json(JSON_ATTRIBUTE)?;
    Ok(AppFeedEntry {
        app,
        seq: Seq(seq.map_err(|_| reader.corrupt_error("sk"))?),
        committed_at: reader.read_millis("t")?,
        endpoint: body.endpoint,
        endpoint_url: body.endpoint_url,
        notice: body.notice,
    })
}

impl Store {
    /// The health of an endpoint; read strongly. One that was never stored is that of an endpoint
    /// that never failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_endpoint_health(
        &self,
        endpoint: EndpointId,
    ) -> Result<StoredEndpointHealth, StoreError> {
        let item = self
            .get_item(health_key(endpoint), Consistency::Strong)
            .await?;
        let health = item.as_ref().map(read_endpoint_health).transpose()?;
        Ok(health.unwrap_or_default())
    }

    /// The health of endpoints, of those that ever failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_endpoint_healths(
        &self,
        endpoints: &[EndpointId],
    ) -> Result<HashMap<EndpointId, StoredEndpointHealth>, StoreError> {
        let keys = endpoints.iter().copied().map(health_key).collect();
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                let endpoint = reader.read_text("pk")?.strip_prefix("HLT#");
                let endpoint = endpoint.and_then(|id| id.parse().ok());
                let endpoint = endpoint.ok_or_else(|| reader.corrupt_error("pk"))?;
                Ok((endpoint, read_endpoint_health(item)?))
            })
            .collect()
    }

    /// Stores the health of an endpoint where it still is what was read, together with the entries
    /// that tell of the change. `None` where it is not; else the places of the entries. Without
    /// entries it is one write unit.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_endpoint_health(
        &self,
        app: AppId,
        endpoint: EndpointId,
        stored: &StoredEndpointHealth,
        entries: &[NewAppFeedEntry],
        now: Timestamp,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        let text = json_value(KIND, &stored.health)?;
        let update = || {
            let known = (stored.version > 0).then(|| number_value(stored.version));
            ItemUpdate::new(health_key(endpoint))
                .set_attribute(JSON_ATTRIBUTE, text.clone())
                .set_attribute("v", number_value(stored.version + 1))
                .with_condition(Condition::Equals("v", known))
        };
        if entries.is_empty() {
            let done = self.update_item(update()).await?;
            return Ok(done.then(Vec::new));
        }
        self.commit_with_entries(app, entries, now, || Ok(self.update_action(update())))
            .await
    }

    /// Stores a delivery as [`put_delivery`](Self::put_delivery) does, together with the entry that
    /// tells of it. `None` where another process went on from what was read.
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
        let first = || {
            let item = deliveries::write_delivery(delivery, now)?;
            Ok(self.put_action(item, vec![deliveries::unchanged_since_read(delivery)]))
        };
        self.commit_with_entries(app, std::slice::from_ref(entry), now, first)
            .await
    }

    /// One transaction: an action whose condition decides, and entries of an app's feed.
    async fn commit_with_entries(
        &self,
        app: AppId,
        entries: &[NewAppFeedEntry],
        now: Timestamp,
        first_action: impl Fn() -> Result<TransactWriteItem, StoreError>,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (last, _) = self.load_app_feed_head(app).await?;
            let seqs: Vec<Seq> = (1..).zip(entries).map(|(n, _)| last.plus(n)).collect();
            let known = (last > Seq::ZERO).then(|| number_value(last));
            let to = seqs.last().copied().unwrap_or(last);
            let head = ItemUpdate::new(app_feed_head_key(app))
                .set_attribute("q", number_value(to))
                .with_condition(Condition::Equals("q", known));
            let mut actions = vec![first_action()?, self.update_action(head)];
            for (seq, entry) in seqs.iter().zip(entries) {
                let body = AppFeedEntryBody {
                    endpoint: entry.endpoint,
                    endpoint_url: entry.endpoint_url.clone(),
                    notice: entry.notice.clone(),
                };
                let item = ItemBuilder::new(app_feed_entry_key(app, *seq))
                    .with_attribute("t", millis_value(now))
                    .with_attribute(JSON_ATTRIBUTE, json_value(ENTRY_KIND, &body)?)
                    .with_attribute("ttl", expiry_value(now, ENTRY_RETENTION_S))
                    .build();
                actions.push(self.put_action(item, vec![Condition::Absent]));
            }
            match self.transact_write(actions).await? {
                TransactWriteOutcome::Committed => return Ok(Some(seqs)),
                TransactWriteOutcome::ConditionFailed(0) => return Ok(None),
                TransactWriteOutcome::ConditionFailed(_) => {}
            }
        }
        Err(StoreError::Contended {
            operation: "TransactWriteItems",
        })
    }

    /// Remembers what came of a ping.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_ping_result(
        &self,
        endpoint: EndpointId,
        ping: &PingResult,
    ) -> Result<(), StoreError> {
        let update =
            ItemUpdate::new(health_key(endpoint)).set_attribute("g", json_value(KIND, ping)?);
        self.update_item(update).await.map(drop)
    }

    /// Counts events that were parked for an endpoint.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn add_parked_count(
        &self,
        endpoint: EndpointId,
        added: u64,
    ) -> Result<(), StoreError> {
        let update = ItemUpdate::new(health_key(endpoint)).add_to_number("p", number_value(added));
        self.update_item(update).await.map(drop)
    }

    /// Says that nothing is parked for an endpoint any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reset_parked_count(&self, endpoint: EndpointId) -> Result<(), StoreError> {
        let update = ItemUpdate::new(health_key(endpoint)).set_attribute("p", number_value(0));
        self.update_item(update).await.map(drop)
    }

    /// The last entry of an app's feed, and the last that was told; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_app_feed_head(&self, app: AppId) -> Result<(Seq, Seq), StoreError> {
        let Some(item) = self
            .get_item(app_feed_head_key(app), Consistency::Strong)
            .await?
        else {
            return Ok((Seq::ZERO, Seq::ZERO));
        };
        let reader = ItemReader::new(ENTRY_KIND, &item);
        let number = |name| {
            Ok(Seq(reader
                .read_optional(name, ItemReader::read_number)?
                .unwrap_or(0)))
        };
        Ok((number("q")?, number("d")?))
    }

    /// Remembers how far an app's feed was told; never goes back.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn advance_app_feed(&self, app: AppId, to: Seq) -> Result<(), StoreError> {
        let update = ItemUpdate::new(app_feed_head_key(app))
            .set_attribute("d", number_value(to))
            .with_condition(Condition::AbsentOrBelow("d", number_value(to)));
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
        let from = format!("{ENTRY_PREFIX}{:012}", after.next().0);
        let range =
            KeyRange::between_keys(app_feed_partition(app), from, format!("{ENTRY_PREFIX}~"));
        let take = ReadLimit::First(limit.min(MAX_APP_FEED_PAGE));
        let items = self.query_range(range, take, Consistency::Strong).await?;
        items
            .iter()
            .map(|item| read_app_feed_entry(app, item))
            .collect()
    }
}
