//! [`DeliveryDetails`]: one delivery with the event behind it and the body that is sent.

use jiff::Timestamp;
use okra_core::{
    model::ids::{AppId, EndpointId, EventId, FeedSource, RecordId, Seq},
    sync::feed::{FeedEntry, PayloadMode},
};
use okra_store::{Consistency, Delivery, DeliveryKey, RecordHead};
use okra_webhooks::{BodyFormat, endpoint_id, render_bodies};

use super::{super::session::AppSession, payload_body::indent_json};
use crate::{page_error::PageError, web_state::WebState};

/// A delivery with everything that its page shows.
pub(crate) struct DeliveryDetails {
    pub(crate) delivery: Delivery,
    /// The body that the URL is sent; only of an event of a record.
    pub(crate) body: Option<String>,
    pub(crate) payload: Option<PayloadMode>,
}

/// The event behind a delivery.
pub(crate) enum DeliveredEvent {
    Record(Box<RecordHead>, FeedEntry),
    App,
}

/// What is stored of the delivery of an event of the app to an endpoint, and the event.
pub(crate) async fn load_delivery(
    web: &WebState,
    session: &AppSession,
    endpoint: EndpointId,
    event_id: &str,
) -> Result<(Delivery, DeliveredEvent), PageError> {
    const NOT_FOUND: PageError = PageError::NotFound("delivery");
    let (source, seq) = EventId::parse(event_id).ok_or(NOT_FOUND)?;
    let found = match source {
        FeedSource::Record(record) => load_record_event(web, session, record, seq).await?,
        FeedSource::App(app) if app == session.app().id => load_app_event(web, app, seq).await?,
        FeedSource::App(_) => None,
    };
    let (committed_at, event) = found.ok_or(NOT_FOUND)?;
    let key = DeliveryKey {
        endpoint,
        committed_at,
        source,
        seq,
    };
    let delivery = web.services.store.find_delivery(&key).await?;
    Ok((delivery.ok_or(NOT_FOUND)?, event))
}

/// An event of a record of the app, and when it was committed.
async fn load_record_event(
    web: &WebState,
    session: &AppSession,
    record: RecordId,
    seq: Seq,
) -> Result<Option<(Timestamp, DeliveredEvent)>, PageError> {
    let store = &web.services.store;
    let head = store.find_head(record, Consistency::Eventual).await?;
    let Some(head) = head.filter(|head| head.app == session.app().id) else {
        return Ok(None);
    };
    let entry = store.find_feed_entry(record, seq).await?;
    Ok(entry.map(|entry| {
        let committed_at = entry.committed_at;
        (committed_at, DeliveredEvent::Record(Box::new(head), entry))
    }))
}

/// An event of the app itself, and when it was committed.
async fn load_app_event(
    web: &WebState,
    app: AppId,
    seq: Seq,
) -> Result<Option<(Timestamp, DeliveredEvent)>, PageError> {
    let Some(before) = seq.0.checked_sub(1) else {
        return Ok(None);
    };
    let entries = web
        .services
        .store
        .read_app_feed(app, Seq(before), 1)
        .await?;
    let entry = entries.first().filter(|entry| entry.seq == seq);
    Ok(entry.map(|entry| (entry.committed_at, DeliveredEvent::App)))
}

/// The delivery of an event to a URL, with the body that this URL is sent.
pub(crate) async fn load_delivery_details(
    web: &WebState,
    session: &AppSession,
    url: &str,
    event_id: &str,
) -> Result<DeliveryDetails, PageError> {
    let endpoint = endpoint_id(session.app().id, url);
    let (delivery, event) = load_delivery(web, session, endpoint, event_id).await?;
    let (body, payload) = match event {
        DeliveredEvent::App => (None, None),
        DeliveredEvent::Record(head, entry) => {
            let known = web
                .services
                .store
                .find_endpoint(session.app().id, endpoint)
                .await?;
            // A data sync URL has no endpoint, and is sent what an endpoint is by default.
            let (payload, version) = known
                .map(|it| (it.payload_mode, it.body_version))
                .unwrap_or_default();
            let (public_url, entries) = (&web.services.public_url, std::slice::from_ref(&entry));
            let format = BodyFormat {
                endpoint_url: url,
                payload_mode: payload,
                body_version: version,
            };
            let bodies =
                render_bodies(&web.services.store, public_url, &head, entries, format).await;
            let bodies = bodies.map_err(PageError::internal)?;
            (bodies.first().map(|body| indent_json(body)), Some(payload))
        }
    };
    Ok(DeliveryDetails {
        delivery,
        body,
        payload,
    })
}
