//! The calls on deliveries, events and replays. What they do is in [`okra_app::deliveries`] and [`okra_app::replays`].

use jiff::{Timestamp, civil::Date, tz::Offset};
use okra_app::{
    deliveries::{DeliveryCursor, ListDeliveriesRequest, MAX_PAGE},
    replays::{ReplayChange, StartReplayRequest},
};
use okra_core::model::ids::{EndpointId, RecordId, ReplayId, Seq};
use okra_store::{Delivery, DeliveryState, Replay, ReplayFilter};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::{FieldNames, RECORD},
        request::ApiRequest,
    },
    webhooks::endpoints::{
        find_sync_customer, parse_endpoint_selector, parse_event_rate, parse_log_selector,
    },
};

const EVENT_FIELD: FieldNames<'_> = &["event_id", "event"];

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Delivery))]
#[derive(Serialize)]
struct DeliverySummary {
    event_id: String,
    event: String,
    sequence: u64,
    committed_at: IsoInstant,
    endpoint: EndpointId,
    state: &'static str,
    /// Attempts that count against the retry schedule; probes and our own faults do not.
    attempts: u32,
    next_at: Option<IsoInstant>,
    /// The attempts, oldest first.
    log: Vec<AttemptSummary>,
    /// The beginning of the last failed response, at most 1 KiB.
    response: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AttemptSummary {
    at: IsoInstant,
    class: String,
    status: Option<u16>,
    latency_ms: u32,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct DeliveriesResponse {
    deliveries: Vec<DeliverySummary>,
    /// The `cursor` of the next page; null at the end.
    next_cursor: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct EventsResponse {
    /// Bodies as webhooks carry them, in order and without a gap.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    events: Vec<Box<RawValue>>,
    /// The last sequence number of the record's feed.
    last_sequence: u64,
    /// Whether there are more events after these.
    has_more: bool,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ResendEventResponse {
    event_id: String,
    endpoint: EndpointId,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TriggerCallbacksResponse {
    /// Events that were enqueued.
    events: usize,
    records: usize,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Replay))]
#[derive(Serialize)]
struct ReplaySummary {
    id: ReplayId,
    endpoint: EndpointId,
    record: Option<RecordId>,
    from: Option<u64>,
    to: Option<u64>,
    since: IsoInstant,
    until: IsoInstant,
    which: &'static str,
    rate: u16,
    state: &'static str,
    looked_at: u64,
    sent: u64,
    created_at: IsoInstant,
    updated_at: IsoInstant,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ReplaysResponse {
    replays: Vec<ReplaySummary>,
}

impl DeliverySummary {
    fn new(delivery: Delivery) -> Self {
        Self {
            event_id: delivery.event_id().to_string(),
            sequence: delivery.key.seq.0,
            committed_at: IsoInstant(delivery.key.committed_at),
            endpoint: delivery.key.endpoint,
            state: delivery.state.as_str(),
            attempts: delivery.attempt_count,
            next_at: delivery.next_attempt_at.map(IsoInstant),
            log: delivery
                .attempt_log
                .into_iter()
                .map(|attempt| AttemptSummary {
                    at: IsoInstant(attempt.attempted_at),
                    class: attempt.outcome_class,
                    status: attempt.status,
                    latency_ms: attempt.latency_ms,
                })
                .collect(),
            event: delivery.event_name,
            response: delivery.response_excerpt,
        }
    }
}

impl ReplaySummary {
    fn new(replay: &Replay) -> Self {
        let has_record = replay.record.is_some();
        Self {
            id: replay.id,
            endpoint: replay.endpoint,
            record: replay.record,
            from: has_record.then_some(replay.seq_range.0.0),
            to: has_record.then_some(replay.seq_range.1.0),
            since: IsoInstant(replay.commit_time_range.0),
            until: IsoInstant(replay.commit_time_range.1),
            which: replay.filter.as_str(),
            rate: replay.events_per_second,
            state: replay.state.as_str(),
            looked_at: replay.examined_count,
            sent: replay.sent_count,
            created_at: IsoInstant(replay.created_at),
            updated_at: IsoInstant(replay.updated_at),
        }
    }
}

/// An instant: `2026-03-01T12:00:00Z`, or a date, which is its beginning in UTC.
fn parse_instant(request: &ApiRequest, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = request.input.find_text(&[name]) else {
        return Ok(None);
    };
    let at = text.parse().ok().or_else(|| parse_midnight(&text));
    at.map(Some).ok_or_else(|| {
        ApiError::invalid_field(name, "must be an instant like 2026-03-01T12:00:00Z")
    })
}

fn parse_midnight(text: &str) -> Option<Timestamp> {
    let date: Date = text.parse().ok()?;
    Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

/// Rows of a page, at most [`MAX_PAGE`].
fn parse_page_limit(request: &ApiRequest) -> Result<usize, ApiError> {
    let limit = request.input.parse_number("limit")?;
    // A number that this machine cannot count to is above the bound all the more.
    let limit = limit.map_or(MAX_PAGE, |limit| usize::try_from(limit).unwrap_or(MAX_PAGE));
    Ok(limit.clamp(1, MAX_PAGE))
}

fn parse_delivery_state(request: &ApiRequest) -> Result<Option<DeliveryState>, ApiError> {
    const STATES: [DeliveryState; 5] = [
        DeliveryState::Delivered,
        DeliveryState::Retry,
        DeliveryState::Parked,
        DeliveryState::Exhausted,
        DeliveryState::Cancelled,
    ];
    let Some(name) = request.input.find_text(&["state"]) else {
        return Ok(None);
    };
    let state = STATES.into_iter().find(|state| state.as_str() == name);
    state.map(Some).ok_or_else(|| {
        let problem = "must be delivered, retry, parked, exhausted or cancelled";
        ApiError::invalid_field("state", problem)
    })
}

fn parse_delivery_cursor(request: &ApiRequest) -> Result<Option<DeliveryCursor>, ApiError> {
    let cursor = request.input.find_text(&["cursor"]);
    let cursor = cursor.map(|text| text.parse()).transpose();
    cursor.map_err(|error| ApiError::invalid_field("cursor", error))
}

pub(crate) async fn list_deliveries(request: &ApiRequest) -> ApiResponse {
    let wanted = ListDeliveriesRequest {
        endpoint: parse_log_selector(request)?,
        since: parse_instant(request, "since")?,
        until: parse_instant(request, "until")?,
        state: parse_delivery_state(request)?,
        after: parse_delivery_cursor(request)?,
        limit: parse_page_limit(request)?,
    };
    let page = request.scope()?.list_deliveries(&wanted).await?;
    let deliveries = page.deliveries.into_iter().map(DeliverySummary::new);
    let data = DeliveriesResponse {
        deliveries: deliveries.collect(),
        next_cursor: page.next_cursor.map(|cursor| cursor.to_string()),
    };
    success_response("Deliveries retrieved successfully", data)
}

pub(crate) async fn list_event_deliveries(request: &ApiRequest) -> ApiResponse {
    let event = request.input.require_text(EVENT_FIELD)?;
    let deliveries = request.scope()?.list_event_deliveries(&event).await?;
    let data = DeliveriesResponse {
        deliveries: deliveries.into_iter().map(DeliverySummary::new).collect(),
        next_cursor: None,
    };
    success_response("Deliveries retrieved successfully", data)
}

pub(crate) async fn resend_event(request: &ApiRequest) -> ApiResponse {
    let event = request.input.require_text(EVENT_FIELD)?;
    let endpoint = parse_log_selector(request)?;
    let redelivery = request.scope()?.resend_event(&event, &endpoint).await?;
    let data = ResendEventResponse {
        event_id: redelivery.event.to_string(),
        endpoint: redelivery.endpoint,
    };
    success_response("Event enqueued successfully", data)
}

pub(crate) async fn list_events(request: &ApiRequest) -> ApiResponse {
    let record = request.input.require_id(RECORD)?;
    let after = Seq(request.input.parse_number("after")?.unwrap_or(0));
    let limit = parse_page_limit(request)?;
    let page = request.scope()?.read_events(record, after, limit).await?;
    let events = page.bodies.iter().map(|body| serde_json::from_slice(body));
    let data = EventsResponse {
        events: events.collect::<Result<_, _>>()?,
        last_sequence: page.last_sequence.0,
        has_more: page.has_more,
    };
    success_response("Events retrieved successfully", data)
}

/// The records of Okra's call for new callbacks.
fn parse_trigger_records(request: &ApiRequest) -> Result<Vec<RecordId>, ApiError> {
    let names = ["recordIds", "records", "record"];
    let texts = names.iter().find_map(|name| request.input.find_texts(name));
    let texts = texts.ok_or_else(|| ApiError::invalid_field("recordIds", "is required"))?;
    let ids = texts.iter().map(|text| {
        text.parse()
            .map_err(|error| ApiError::invalid_field("recordIds", format!("must be ids: {error}")))
    });
    ids.collect()
}

pub(crate) async fn trigger_callbacks(request: &ApiRequest) -> ApiResponse {
    let records = parse_trigger_records(request)?;
    let url = request.input.find_text(&["url"]);
    let scope = request.scope()?;
    let data = TriggerCallbacksResponse {
        events: scope.trigger_callbacks(&records, url.as_deref()).await?,
        records: records.len(),
    };
    success_response("Callbacks triggered successfully", data)
}

fn parse_replay_filter(request: &ApiRequest) -> Result<ReplayFilter, ApiError> {
    match request.input.find_text(&["which"]).as_deref() {
        None | Some("failed") => Ok(ReplayFilter::Failed),
        Some("missing") => Ok(ReplayFilter::Missing),
        Some("all") => Ok(ReplayFilter::All),
        Some(_) => Err(ApiError::invalid_field(
            "which",
            "must be failed, missing or all",
        )),
    }
}

/// `{url | id, customer?, record?, from?, to?, since?, until?, which?, rate?}`.
pub(crate) async fn start_replay(request: &ApiRequest) -> ApiResponse {
    let input = &request.input;
    let wanted = StartReplayRequest {
        endpoint: parse_endpoint_selector(request)?,
        customer: find_sync_customer(request)?,
        record: input.parse_id(RECORD)?,
        from_seq: input.parse_number("from")?.map(Seq),
        to_seq: input.parse_number("to")?.map(Seq),
        since: parse_instant(request, "since")?,
        until: parse_instant(request, "until")?,
        filter: parse_replay_filter(request)?,
        events_per_second: parse_event_rate(request)?,
    };
    let replay = request.scope()?.start_replay(&wanted).await?;
    success_response("Replay started successfully", ReplaySummary::new(&replay))
}

fn parse_replay_id(request: &ApiRequest) -> Result<ReplayId, ApiError> {
    request.input.require_id(&["id", "replay"])
}

pub(crate) async fn get_replay(request: &ApiRequest) -> ApiResponse {
    let id = parse_replay_id(request)?;
    let replay = request.scope()?.load_own_replay(id).await?;
    success_response("Replay retrieved successfully", ReplaySummary::new(&replay))
}

pub(crate) async fn list_replays(request: &ApiRequest) -> ApiResponse {
    let replays = request.scope()?.list_replays().await?;
    let replays = replays.iter().map(ReplaySummary::new).collect();
    success_response(
        "Replays retrieved successfully",
        ReplaysResponse { replays },
    )
}

/// Cancels a replay, or resumes one that was cancelled with `{resume: true}`.
pub(crate) async fn cancel_replay(request: &ApiRequest) -> ApiResponse {
    let id = parse_replay_id(request)?;
    let change = match request.input.is_true("resume") {
        true => ReplayChange::Resume,
        false => ReplayChange::Cancel,
    };
    let replay = request.scope()?.change_replay(id, change).await?;
    success_response("Replay changed successfully", ReplaySummary::new(&replay))
}

routes! {
    Post Key [Ours "webhooks/deliveries"] => list_deliveries(make_optional(ID), make_optional(URL), DELIVERIES, SPAN) -> DeliveriesResponse:
        "Lists the deliveries to an endpoint of the last 30 days, newest event first.";
    Post Key [Ours "events/deliveries"] => list_event_deliveries(EVENT) -> DeliveriesResponse:
        "Lists the deliveries of one event, one for each endpoint.";
    Change Key [Ours "events/resend"] => resend_event(EVENT, make_optional(ID), make_optional(URL)) -> ResendEventResponse:
        "Sends an event to an endpoint again, whatever its earlier outcome was.";
    Post Key [Ours "events/list"] => list_events(RECORD, AFTER) -> EventsResponse:
        "Returns the events of a record after a sequence number of its feed, with the bodies that webhooks carry.";
    Change Key [Okra "callback/trigger"] => trigger_callbacks(TRIGGER, make_optional(URL)) -> TriggerCallbacksResponse:
        "Sends the newest event of each kind of each record again, to one URL or to every endpoint that wants it.";
    Change Key [Ours "webhooks/replay"] => start_replay(make_optional(ID), make_optional(URL), make_optional(CUSTOMER), make_optional(RECORD), SEQUENCE_RANGE, SPAN, REPLAY) -> ReplaySummary:
        "Starts a replay, which sends a range of events to an endpoint again.";
    Post Key [Ours "webhooks/replay/get"] => get_replay(ID) -> ReplaySummary:
        "Returns a replay and its progress.";
    Post Key [Ours "webhooks/replay/list"] => list_replays() -> ReplaysResponse:
        "Lists the app's replays.";
    Change Key [Ours "webhooks/replay/cancel"] => cancel_replay(ID, RESUME) -> ReplaySummary:
        "Cancels a replay, or resumes one that was cancelled.";
}
