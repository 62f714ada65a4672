//! Health of endpoints, and the feed of an app in which it is told.
//!
//! An endpoint that never failed has no item: a success costs no write here. What changes an
//! endpoint's health and is to be told is one transaction with the entry that tells it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    health::{Health, Notice},
    ids::{AppId, EndpointId, EventId, Seq, Source},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Delivery, Store, StoreError,
    call::{Range, Take, Transacted},
    deliveries,
    expression::{Update, When},
    item::{Attributes, Draft, JSON, Key, Reader, json, millis, n, ttl},
};

/// Entries of an app's feed that are read at once at most.
pub const MAX_APP_FEED_PAGE: usize = 100;

/// Seconds that an entry of an app's feed is kept.
const KEPT_S: i64 = 30 * 24 * 3600;

/// Times a transaction is tried again that lost against another entry of the same app's feed.
const MAX_ROUNDS: u32 = 8;

const KIND: &str = "endpoint health";
const ENTRY: &str = "app feed entry";
const PREFIX: &str = "FED#";

/// The health of an endpoint as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredHealth {
    /// The health.
    pub health: Health,
    /// Events parked for it, about: one that was parked twice counts twice until all are delivered.
    pub parked: u64,
    /// How often it was stored; 0 where it never was.
    pub version: u64,
    /// What came of the last ping.
    pub ping: Option<Ping>,
}

/// What came of a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// When it was answered, or was not.
    pub at: Timestamp,
    /// The class of its outcome; a stable name.
    pub class: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u32,
}

/// An entry of an app's feed: something about one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppEntry {
    /// The app.
    pub app: AppId,
    /// The place in the app's feed, dense from 1.
    pub seq: Seq,
    /// When it was committed.
    pub at: Timestamp,
    /// The endpoint it is about.
    pub endpoint: EndpointId,
    /// The endpoint's URL.
    pub url: String,
    /// What happened.
    pub happened: Happened,
}

/// What happened to an endpoint, or to a delivery to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// Its health changed.
    Health(Notice),
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

impl AppEntry {
    /// The id of the event that tells of this entry.
    pub fn event_id(&self) -> EventId {
        EventId::of_source(Source::App(self.app), self.seq)
    }
}

/// An entry to be committed.
#[derive(Clone, Debug)]
pub struct NewAppEntry {
    /// The endpoint it is about.
    pub endpoint: EndpointId,
    /// Its URL.
    pub url: String,
    /// What happened.
    pub happened: Happened,
}

#[derive(Serialize, Deserialize)]
struct Body {
    endpoint: EndpointId,
    url: String,
    happened: Happened,
}

fn health_key(endpoint: EndpointId) -> Key {
    Key::new(format!("HLT#{endpoint}"), "HLT")
}

fn partition(app: AppId) -> String {
    format!("AEV#{app}")
}

fn head_key(app: AppId) -> Key {
    Key::new(partition(app), "HEAD")
}

fn entry_key(app: AppId, seq: Seq) -> Key {
    Key::new(partition(app), format!("{PREFIX}{:012}", seq.0))
}

fn read_health(item: &Attributes) -> Result<StoredHealth, StoreError> {
    let reader = Reader::new(KIND, item);
    let number = |name| Ok(reader.optional(name, Reader::number)?.unwrap_or(0));
    Ok(StoredHealth {
        health: reader.optional(JSON, Reader::json)?.unwrap_or_default(),
        parked: number("p")?,
        version: number("v")?,
        ping: reader.optional("g", Reader::json)?,
    })
}

fn read_entry(app: AppId, item: &Attributes) -> Result<AppEntry, StoreError> {
    let reader = Reader::new(ENTRY, item);
    let seq = reader.after(PREFIX)?.parse();
    let body: Body = reader.json(JSON)?;
    Ok(AppEntry {
        app,
        seq: Seq(seq.map_err(|_| reader.corrupt("sk"))?),
        at: reader.millis("t")?,
        endpoint: body.endpoint,
        url: body.url,
        happened: body.happened,
    })
}

impl Store {
    /// The health of an endpoint; read strongly. One that was never stored is that of an endpoint
    /// that never failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn health(&self, endpoint: EndpointId) -> Result<StoredHealth, StoreError> {
        let item = self.get(health_key(endpoint), Consistency::Strong).await?;
        let health = item.as_ref().map(read_health).transpose()?;
        Ok(health.unwrap_or_default())
    }

    /// The health of endpoints, of those that ever failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn healths(
        &self,
        endpoints: &[EndpointId],
    ) -> Result<HashMap<EndpointId, StoredHealth>, StoreError> {
        let keys = endpoints.iter().copied().map(health_key).collect();
        let items = self.batch_get(keys, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = Reader::new(KIND, item);
                let endpoint = reader.text("pk")?.strip_prefix("HLT#");
                let endpoint = endpoint.and_then(|id| id.parse().ok());
                let endpoint = endpoint.ok_or_else(|| reader.corrupt("pk"))?;
                Ok((endpoint, read_health(item)?))
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
    pub async fn put_health(
        &self,
        app: AppId,
        endpoint: EndpointId,
        stored: &StoredHealth,
        entries: &[NewAppEntry],
        now: Timestamp,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        let text = json(KIND, &stored.health)?;
        let update = || {
            let known = (stored.version > 0).then(|| n(stored.version));
            Update::new(health_key(endpoint))
                .set(JSON, text.clone())
                .set("v", n(stored.version + 1))
                .when(When::Is("v", known))
        };
        if entries.is_empty() {
            let done = self.update(update()).await?;
            return Ok(done.then(Vec::new));
        }
        self.commit_entries(app, entries, now, || Ok(self.update_action(update())))
            .await
    }

    /// Stores a delivery as [`put_delivery`](Self::put_delivery) does, together with the entry that
    /// tells of it. `None` where another process went on from what was read.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_delivery_telling(
        &self,
        app: AppId,
        delivery: &Delivery,
        entry: &NewAppEntry,
        now: Timestamp,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        let first = || {
            let item = deliveries::write(delivery, now)?;
            Ok(self.put_action(item, vec![deliveries::unmoved(delivery)]))
        };
        self.commit_entries(app, std::slice::from_ref(entry), now, first)
            .await
    }

    /// One transaction: an action whose condition decides, and entries of an app's feed.
    async fn commit_entries(
        &self,
        app: AppId,
        entries: &[NewAppEntry],
        now: Timestamp,
        first: impl Fn() -> Result<TransactWriteItem, StoreError>,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        for _ in 0..MAX_ROUNDS {
            let (last, _) = self.app_feed_head(app).await?;
            let seqs: Vec<Seq> = (1..).zip(entries).map(|(n, _)| last.plus(n)).collect();
            let known = (last > Seq::ZERO).then(|| n(last));
            let to = seqs.last().copied().unwrap_or(last);
            let head = Update::new(head_key(app))
                .set("q", n(to))
                .when(When::Is("q", known));
            let mut actions = vec![first()?, self.update_action(head)];
            for (seq, entry) in seqs.iter().zip(entries) {
                let body = Body {
                    endpoint: entry.endpoint,
                    url: entry.url.clone(),
                    happened: entry.happened.clone(),
                };
                let item = Draft::new(entry_key(app, *seq))
                    .with("t", millis(now))
                    .with(JSON, json(ENTRY, &body)?)
                    .with("ttl", ttl(now, KEPT_S))
                    .done();
                actions.push(self.put_action(item, vec![When::Absent]));
            }
            match self.transact(actions).await? {
                Transacted::Done => return Ok(Some(seqs)),
                Transacted::Refused(0) => return Ok(None),
                Transacted::Refused(_) => {}
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
    pub async fn put_ping(&self, endpoint: EndpointId, ping: &Ping) -> Result<(), StoreError> {
        let update = Update::new(health_key(endpoint)).set("g", json(KIND, ping)?);
        self.update(update).await.map(drop)
    }

    /// Counts events that were parked for an endpoint.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_parked(&self, endpoint: EndpointId, more: u64) -> Result<(), StoreError> {
        let update = Update::new(health_key(endpoint)).add("p", n(more));
        self.update(update).await.map(drop)
    }

    /// Says that nothing is parked for an endpoint any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn none_parked(&self, endpoint: EndpointId) -> Result<(), StoreError> {
        let update = Update::new(health_key(endpoint)).set("p", n(0));
        self.update(update).await.map(drop)
    }

    /// The last entry of an app's feed, and the last that was told; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app_feed_head(&self, app: AppId) -> Result<(Seq, Seq), StoreError> {
        let Some(item) = self.get(head_key(app), Consistency::Strong).await? else {
            return Ok((Seq::ZERO, Seq::ZERO));
        };
        let reader = Reader::new(ENTRY, &item);
        let number = |name| Ok(Seq(reader.optional(name, Reader::number)?.unwrap_or(0)));
        Ok((number("q")?, number("d")?))
    }

    /// Remembers how far an app's feed was told; never goes back.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app_feed_told(&self, app: AppId, to: Seq) -> Result<(), StoreError> {
        let update = Update::new(head_key(app))
            .set("d", n(to))
            .when(When::AbsentOrBelow("d", n(to)));
        self.update(update).await.map(drop)
    }

    /// At most `limit` and [`MAX_APP_FEED_PAGE`] entries of an app's feed after `after`, in order;
    /// read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app_feed(
        &self,
        app: AppId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<AppEntry>, StoreError> {
        let from = format!("{PREFIX}{:012}", after.next().0);
        let range = Range::between(partition(app), from, format!("{PREFIX}~"));
        let take = Take::First(limit.min(MAX_APP_FEED_PAGE));
        let items = self.query(range, take, Consistency::Strong).await?;
        items.iter().map(|item| read_entry(app, item)).collect()
    }
}
