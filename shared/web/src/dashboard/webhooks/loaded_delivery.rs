//! [`DeliveryDetails`]: one delivery with the event behind it and the body that is sent.

use okra_core::{
    model::ids::{EndpointId, EventId, FeedSource, Seq},
    sync::feed::{FeedEntry, PayloadMode},
};
use okra_store::{Consistency, Delivery, DeliveryKey, RecordHead};
use okra_webhooks::{endpoint_id, render_bodies};

use super::{
    super::session::AppSession,
    log::{AttemptRow, DeliveryRow},
    payload_body::indent_json,
};
use crate::{page_error::PageError, web_state::WebState};

pub(crate) struct DeliveryDetails {
    pub(crate) delivery: DeliveryRow,
    pub(crate) source: FeedSource,
    /// As the URL is sent it; of a record's event alone.
    pub(crate) body: Option<String>,
    pub(crate) payload: Option<PayloadMode>,
}

/// The event behind a delivery.
pub(super) enum DeliveredEvent {
    Record(Box<RecordHead>, FeedEntry),
    App,
}

/// What is stored of the delivery of an event of the app to an endpoint, and the event.
pub(super) async fn load_delivery(
    web: &WebState,
    session: &AppSession,
    endpoint: EndpointId,
    event: &str,
) -> Result<(Delivery, DeliveredEvent), PageError> {
    let none = || PageError::NotFound("delivery");
    let store = &web.api.store;
    let (source, seq) = EventId::parse(event).ok_or_else(none)?;
    let (at, told) = match source {
        FeedSource::Record(record) => {
            let head = store.find_head(record, Consistency::Eventual).await?;
            let head = head.filter(|head| head.app == session.app.id);
            let head = Box::new(head.ok_or_else(none)?);
            let entry = store.find_feed_entry(record, seq).await?.ok_or_else(none)?;
            (entry.committed_at, DeliveredEvent::Record(head, entry))
        }
        FeedSource::App(app) if app == session.app.id => {
            let before = Seq(seq.0.saturating_sub(1));
            let entries = store.read_app_feed(app, before, 1).await?;
            let entry = entries.first().filter(|entry| entry.seq == seq);
            (entry.ok_or_else(none)?.committed_at, DeliveredEvent::App)
        }
        FeedSource::App(_) => return Err(none()),
    };
    let key = DeliveryKey {
        endpoint,
        committed_at: at,
        source,
        seq,
    };
    let row = store.find_delivery(&key).await?.ok_or_else(none)?;
    Ok((row, told))
}

/// The delivery of an event to a URL, with the body as that URL is sent it.
pub(crate) async fn load_delivery_details(
    web: &WebState,
    session: &AppSession,
    url: &str,
    event: &str,
) -> Result<DeliveryDetails, PageError> {
    let store = &web.api.store;
    let endpoint = endpoint_id(session.app.id, url);
    let (row, told) = load_delivery(web, session, endpoint, event).await?;
    let (body, payload) = match told {
        DeliveredEvent::App => (None, None),
        DeliveredEvent::Record(head, entry) => {
            let known = store.find_endpoint(session.app.id, endpoint).await?;
            let to = known.map(|it| (it.payload_mode, it.body_version));
            let (payload, version) = to.unwrap_or_default();
            let entry = std::slice::from_ref(&entry);
            let rendered = render_bodies(
                store,
                &web.api.public_url,
                &head,
                entry,
                (url, payload, version),
            )
            .await;
            let rendered = rendered.map_err(|error| PageError::Internal(Box::new(error)))?;
            (
                rendered.first().map(|body| indent_json(body)),
                Some(payload),
            )
        }
    };
    let source = row.key.source;
    let delivery = DeliveryRow {
        event_id: row.event_id().to_string(),
        sequence: row.key.seq.0,
        committed_at: row.key.committed_at,
        state: row.state.as_str().to_owned(),
        attempts: row.attempt_count,
        next_at: row.next_attempt_at,
        log: row
            .attempt_log
            .into_iter()
            .map(|it| AttemptRow {
                at: it.attempted_at,
                class: it.outcome_class,
                status: it.status,
                latency_ms: it.latency_ms,
            })
            .collect(),
        event: row.event_name,
        response: row.response_excerpt,
    };
    Ok(DeliveryDetails {
        delivery,
        source,
        body,
        payload,
    })
}
