//! The deliveries of events: the log of an endpoint ([`DeliveryPage`]), what became of one event at each endpoint,
//! redelivery, and the events of a record as webhooks carry them ([`EventPage`]).
//!
//! The rule: a page has a bound on its rows, its bytes and the rows that are looked at for it. Redelivery sends an event
//! whatever its earlier outcome was.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use okra_core::{
    model::ids::{EndpointId, EventId, FeedSource, RecordId, Seq},
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_queue::Redelivery;
use okra_store::{Consistency, Delivery, DeliveryKey, DeliveryState, RecordHead, SortOrder};
use okra_webhooks::{BodyFormat, endpoint_id, render_bodies, retained_since};

use crate::{app_scope::AppScope, endpoint_lookup::EndpointSelector, error::AppError};

/// Most deliveries or events of one page.
pub const MAX_PAGE: usize = 100;

/// Most bytes of the events of one page, the first event aside: what a gateway takes, with room for the escapes of its
/// own JSON.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Most deliveries that are looked at for those in one state; the cursor goes on from there.
const MAX_DELIVERIES_SCANNED: usize = 1000;

/// Most records of one trigger.
pub const MAX_TRIGGER_RECORDS: usize = 100;

/// Feed entries that are looked at for the newest of each kind.
const MAX_TRIGGER_ENTRIES: u16 = 200;

/// Which deliveries to list.
#[derive(Clone, Debug)]
pub struct ListDeliveriesRequest {
    /// The endpoint, or the URL of a data sync.
    pub endpoint: EndpointSelector,
    /// Of events committed from here on; by default 30 days ago.
    pub since: Option<Timestamp>,
    /// Of events committed until here; by default now.
    pub until: Option<Timestamp>,
    /// In this state only.
    pub state: Option<DeliveryState>,
    /// After this one of an earlier page.
    pub after: Option<DeliveryCursor>,
    /// Rows of the page, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

/// Deliveries to an endpoint, newest event first.
#[derive(Clone, Debug)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<DeliveryCursor>,
}

/// A position in the deliveries of an endpoint. Its text is opaque to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryCursor {
    committed_at: Timestamp,
    source: FeedSource,
    seq: Seq,
}

/// A text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_cursor of an earlier page")]
pub struct ParseDeliveryCursorError;

impl DeliveryCursor {
    const fn after_delivery(key: &DeliveryKey) -> Self {
        Self {
            committed_at: key.committed_at,
            source: key.source,
            seq: key.seq,
        }
    }

    const fn to_key(self, endpoint: EndpointId) -> DeliveryKey {
        DeliveryKey {
            endpoint,
            committed_at: self.committed_at,
            source: self.source,
            seq: self.seq,
        }
    }
}

impl fmt::Display for DeliveryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.committed_at.as_millisecond();
        write!(f, "{at}.{}.{}", self.source, self.seq)
    }
}

impl FromStr for DeliveryCursor {
    type Err = ParseDeliveryCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(ParseDeliveryCursorError);
        let at = next()?.parse().map_err(|_| ParseDeliveryCursorError)?;
        Ok(Self {
            committed_at: Timestamp::from_millisecond(at).map_err(|_| ParseDeliveryCursorError)?,
            source: next()?.parse().map_err(|_| ParseDeliveryCursorError)?,
            seq: Seq(next()?.parse().map_err(|_| ParseDeliveryCursorError)?),
        })
    }
}

/// An event that is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedRedelivery {
    /// The event.
    pub event: EventId,
    /// Where it goes.
    pub endpoint: EndpointId,
}

/// Events of a record, as webhooks carry them.
pub struct EventPage {
    /// Bodies in JSON, in order and without a gap.
    pub bodies: Vec<Vec<u8>>,
    /// The last `seq` of the record's feed.
    pub last_sequence: Seq,
    /// True where there are more after these.
    pub has_more: bool,
}

/// An event of a record or, about an endpoint, of the app itself.
struct OwnEvent {
    source: FeedSource,
    seq: Seq,
    committed_at: Timestamp,
    /// The endpoints it may be delivered to.
    endpoints: Vec<EndpointId>,
}

impl AppScope {
    /// The deliveries to an endpoint, newest event first, of the last 30 days.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has no such endpoint.
    pub async fn list_deliveries(
        &self,
        request: &ListDeliveriesRequest,
    ) -> Result<DeliveryPage, AppError> {
        let endpoint = self.resolve_endpoint_id(&request.endpoint).await?;
        let now = self.now();
        let since = request.since.unwrap_or_else(|| retained_since(now));
        let times = since..=request.until.unwrap_or(now);
        let limit = request.limit.clamp(1, MAX_PAGE);
        let mut after = request.after.map(|cursor| cursor.to_key(endpoint));
        let (mut deliveries, mut scanned, mut has_more) = (Vec::new(), 0, true);
        while has_more && deliveries.len() < limit && scanned < MAX_DELIVERIES_SCANNED {
            let order = SortOrder::Descending;
            let page =
                self.store()
                    .list_deliveries(endpoint, times.clone(), after.as_ref(), order, limit);
            let page = page.await?;
            has_more = page.len() == limit;
            scanned += page.len();
            for delivery in page {
                if deliveries.len() == limit {
                    has_more = true;
                    break;
                }
                after = Some(delivery.key);
                if request.state.is_none_or(|state| delivery.state == state) {
                    deliveries.push(delivery);
                }
            }
        }
        let next_cursor = after.as_ref().filter(|_| has_more);
        Ok(DeliveryPage {
            deliveries,
            next_cursor: next_cursor.map(DeliveryCursor::after_delivery),
        })
    }

    /// What became of an event at each endpoint, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has no such event.
    pub async fn list_event_deliveries(&self, event: &str) -> Result<Vec<Delivery>, AppError> {
        let event = self.load_own_event(event).await?;
        let endpoints = event.endpoints.iter();
        let keys = endpoints.map(|&endpoint| DeliveryKey {
            endpoint,
            committed_at: event.committed_at,
            source: event.source,
            seq: event.seq,
        });
        let keys: Vec<DeliveryKey> = keys.collect();
        let mut deliveries = self.store().load_deliveries(&keys).await?;
        deliveries.sort_by_key(|delivery| delivery.key.endpoint);
        Ok(deliveries)
    }

    /// Sends an event to an endpoint again, whatever its earlier outcome was.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has no such event, or the event does not go to that endpoint.
    pub async fn resend_event(
        &self,
        event: &str,
        endpoint: &EndpointSelector,
    ) -> Result<RequestedRedelivery, AppError> {
        let event = self.load_own_event(event).await?;
        let endpoint = self.resolve_endpoint_id(endpoint).await?;
        if !event.endpoints.contains(&endpoint) {
            return Err(AppError::NotFound { what: "webhook" });
        }
        let redelivery = build_redelivery(event.source, event.seq, endpoint);
        let queues = &self.services().queues;
        queues.send_redeliveries(&[(redelivery, 0)]).await?;
        Ok(RequestedRedelivery {
            event: EventId::for_feed_entry(event.source, event.seq),
            endpoint,
        })
    }

    /// Sends the newest event of each kind of each record again, to one URL or to all that want it; returns how many
    /// events are sent.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where a record is not the app's, [`AppError::Invalid`] for too many records or where a
    /// record's events do not go to the URL.
    pub async fn trigger_callbacks(
        &self,
        records: &[RecordId],
        url: Option<&str>,
    ) -> Result<usize, AppError> {
        if records.len() > MAX_TRIGGER_RECORDS {
            let problem = format!("must be at most {MAX_TRIGGER_RECORDS}");
            return Err(AppError::invalid_field("recordIds", problem));
        }
        let only = url.map(|url| endpoint_id(self.app().id, url));
        let mut redeliveries: Vec<(Redelivery, u16)> = Vec::new();
        for &record in records {
            let head = self.load_own_record(record, Consistency::Eventual).await?;
            let mut endpoints = self.load_event_endpoints(&head).await?;
            if let Some(only) = only {
                endpoints.retain(|endpoint| *endpoint == only);
                if endpoints.is_empty() {
                    let problem = "must be a URL that this record's events go to";
                    return Err(AppError::invalid_field("url", problem));
                }
            }
            for seq in self.find_newest_entries(&head).await? {
                let endpoints = endpoints.iter();
                let to_each =
                    endpoints.map(|&endpoint| (build_redelivery(record.into(), seq, endpoint), 0));
                redeliveries.extend(to_each);
            }
        }
        let queues = &self.services().queues;
        queues.send_redeliveries(&redeliveries).await?;
        Ok(redeliveries.len())
    }

    /// The events of a record after a `seq` of its feed, as webhooks carry them.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the record is not the app's.
    pub async fn read_events(
        &self,
        record: RecordId,
        after: Seq,
        limit: usize,
    ) -> Result<EventPage, AppError> {
        let head = self.load_own_record(record, Consistency::Eventual).await?;
        let (limit, store) = (limit.clamp(1, MAX_PAGE), self.store());
        let entries = store
            .read_feed(head.record, after, limit, Consistency::Strong)
            .await?;
        let last_sequence = entries.last().map_or(head.seq, |it| it.seq.max(head.seq));
        let format = BodyFormat {
            endpoint_url: "",
            payload_mode: PayloadMode::Full,
            body_version: BodyVersion::LATEST,
        };
        let public_url = &self.services().public_url;
        let bodies = render_bodies(store, public_url, &head, &entries, format).await?;
        let mut bytes = 0;
        let fitting = bodies.iter().take_while(|body| {
            let is_first = bytes == 0;
            bytes += body.len();
            is_first || bytes <= MAX_PAGE_BYTES
        });
        let bodies: Vec<Vec<u8>> = fitting.map(|body| body.to_vec()).collect();
        let is_cut = bodies.len() < entries.len();
        let last = entries.last().map_or(after, |entry| entry.seq);
        Ok(EventPage {
            has_more: is_cut || entries.len() == limit && last < last_sequence,
            bodies,
            last_sequence,
        })
    }

    /// An event of the app, by its id.
    async fn load_own_event(&self, text: &str) -> Result<OwnEvent, AppError> {
        const NOT_FOUND: AppError = AppError::NotFound { what: "event" };
        let (source, seq) = EventId::parse(text).ok_or(NOT_FOUND)?;
        let (committed_at, endpoints) = match source {
            FeedSource::Record(record) => {
                let head = self.load_own_record(record, Consistency::Eventual).await;
                let head = head.map_err(|error| error.for_resource("event"))?;
                let entry = self.store().find_feed_entry(record, seq).await?;
                (
                    entry.ok_or(NOT_FOUND)?.committed_at,
                    self.load_event_endpoints(&head).await?,
                )
            }
            FeedSource::App(app) if app == self.app().id => {
                // Before the first one there is nothing; no event has that number.
                let before = Seq(seq.0.checked_sub(1).ok_or(NOT_FOUND)?);
                let entries = self.store().read_app_feed(app, before, 1).await?;
                let entry = entries.first().filter(|entry| entry.seq == seq);
                let endpoints = self.store().list_endpoints(app).await?;
                (
                    entry.ok_or(NOT_FOUND)?.committed_at,
                    endpoints.iter().map(|endpoint| endpoint.id).collect(),
                )
            }
            FeedSource::App(_) => return Err(NOT_FOUND),
        };
        Ok(OwnEvent {
            source,
            seq,
            committed_at,
            endpoints,
        })
    }

    /// The endpoints that a record's events may be delivered to.
    async fn load_event_endpoints(&self, head: &RecordHead) -> Result<Vec<EndpointId>, AppError> {
        let store = self.store();
        let endpoints = store.list_endpoints(head.app).await?;
        let mut ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let subscriptions = store.list_subscriptions(head.record).await?;
        let urls = subscriptions
            .iter()
            .filter_map(|subscription| subscription.webhook_url.as_deref());
        ids.extend(urls.map(|url| endpoint_id(head.app, url)));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The newest entry of each kind and account in a record's feed, oldest first.
    async fn find_newest_entries(&self, head: &RecordHead) -> Result<Vec<Seq>, AppError> {
        // A short feed is read from its beginning.
        let after = Seq(head.seq.0.saturating_sub(MAX_TRIGGER_ENTRIES.into()));
        let limit = usize::from(MAX_TRIGGER_ENTRIES);
        let entries = self
            .store()
            .read_feed(head.record, after, limit, Consistency::Eventual);
        let entries = entries.await?;
        let mut seen = Vec::new();
        let mut newest: Vec<Seq> = Vec::new();
        for entry in entries.iter().rev() {
            let kind = (entry.change.stream(), entry.account);
            if !seen.contains(&kind) {
                seen.push(kind);
                newest.push(entry.seq);
            }
        }
        newest.reverse();
        Ok(newest)
    }
}

const fn build_redelivery(source: FeedSource, seq: Seq, endpoint: EndpointId) -> Redelivery {
    Redelivery {
        source,
        seq,
        endpoint,
        has_permit: false,
    }
}
