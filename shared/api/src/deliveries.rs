//! What became of events: the log of an endpoint or of an event, resending, replaying, and filling a
//! gap.

use jiff::{Timestamp, civil::Date, tz::Offset};
use okra_core::{
    model::ids::{AppId, EndpointId, EventId, FeedSource, RecordId, ReplayId, Seq},
    resilience::rate_limiter::SEND_RATE_RANGE,
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_queue::{Redelivery, ReplayStep};
use okra_store::{
    Consistency, Delivery, DeliveryKey, DeliveryState, RecordHead, Replay, ReplayFilter,
    ReplayState, SortOrder,
};
use okra_webhooks::{endpoint_id, render_bodies, retained_since};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::{FieldNames, RECORD},
    webhooks,
};

/// Deliveries or events of one page at most.
const MAX_PAGE: usize = 100;

/// Bytes of the events of one page at most, the first aside: what a gateway takes, with room for the
/// escapes of its own JSON.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Deliveries that are looked through for those in a state, at most; the cursor goes on from there.
const MAX_DELIVERIES_SCANNED: usize = 1000;

/// Records that one trigger speaks of at most.
const MAX_TRIGGER_RECORDS: usize = 100;

/// Feed entries that are looked through for the newest of each kind.
const MAX_TRIGGER_ENTRIES: u64 = 200;

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
    /// Attempts that count against the schedule; probes and our own faults do not.
    attempts: u32,
    next_at: Option<IsoInstant>,
    /// The attempts, oldest first.
    log: Vec<AttemptSummary>,
    /// The beginning of the last failing answer, 1 KiB at most.
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
    /// What `cursor` has to be to go on; null at the end.
    next_cursor: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct EventsResponse {
    /// Bodies as webhooks carry them, in order and without a gap.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    events: Vec<Box<RawValue>>,
    /// The last place in the record's feed.
    last_sequence: u64,
    /// Whether there is more after the last event here.
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
        let place = |seq: Seq| replay.record.is_some().then_some(seq.0);
        Self {
            id: replay.id,
            endpoint: replay.endpoint,
            record: replay.record,
            from: place(replay.seq_range.0),
            to: place(replay.seq_range.1),
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
    let midnight = || {
        let date: Date = text.parse().ok()?;
        Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
    };
    let at = text.parse().ok();
    at.or_else(midnight)
        .map(Some)
        .ok_or_else(|| ApiError::invalid_field(name, "is no instant like 2026-03-01T12:00:00Z"))
}

/// A cursor is the event's id and when it was committed.
fn encode_cursor(key: &DeliveryKey) -> String {
    format!(
        "{}.{}.{}",
        key.committed_at.as_millisecond(),
        key.source,
        key.seq
    )
}

fn parse_cursor(endpoint: EndpointId, text: &str) -> Option<DeliveryKey> {
    let mut parts = text.splitn(3, '.');
    let at = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
    Some(DeliveryKey {
        endpoint,
        committed_at: at,
        source: parts.next()?.parse().ok()?,
        seq: Seq(parts.next()?.parse().ok()?),
    })
}

fn parse_page_limit(request: &ApiRequest) -> Result<usize, ApiError> {
    let limit = request
        .input
        .parse_number("limit")?
        .unwrap_or(MAX_PAGE as u64);
    Ok(usize::try_from(limit)
        .unwrap_or(MAX_PAGE)
        .clamp(1, MAX_PAGE))
}

/// The deliveries to an endpoint, newest event first, of the last 30 days.
pub(crate) async fn list_deliveries(request: &ApiRequest) -> ApiResponse {
    let endpoint = webhooks::resolve_endpoint_id(request).await?;
    let now = request.now();
    let since = parse_instant(request, "since")?.unwrap_or_else(|| retained_since(now));
    let until = parse_instant(request, "until")?.unwrap_or(now);
    let states = [
        DeliveryState::Delivered,
        DeliveryState::Retry,
        DeliveryState::Parked,
        DeliveryState::Exhausted,
        DeliveryState::Cancelled,
    ];
    let state = match request.input.find_text(&["state"]) {
        None => None,
        Some(name) => {
            let known = states.into_iter().find(|state| state.as_str() == name);
            let problem = "is delivered, retry, parked, exhausted or cancelled";
            Some(known.ok_or_else(|| ApiError::invalid_field("state", problem))?)
        }
    };
    let mut after = match request.input.find_text(&["cursor"]) {
        None => None,
        Some(text) => {
            let cursor = parse_cursor(endpoint, &text);
            Some(cursor.ok_or_else(|| ApiError::invalid_field("cursor", "is none of ours"))?)
        }
    };
    let (limit, store) = (parse_page_limit(request)?, &request.state.store);
    let (mut deliveries, mut looked_at, mut more) = (Vec::new(), 0, true);
    while more && deliveries.len() < limit && looked_at < MAX_DELIVERIES_SCANNED {
        let times = since..=until;
        let page = store
            .list_deliveries(
                endpoint,
                times,
                after.as_ref(),
                SortOrder::Descending,
                limit,
            )
            .await?;
        more = page.len() == limit;
        looked_at += page.len();
        for delivery in page {
            if deliveries.len() == limit {
                more = true;
                break;
            }
            after = Some(delivery.key);
            if state.is_none_or(|state| delivery.state == state) {
                deliveries.push(DeliverySummary::new(delivery));
            }
        }
    }
    let next_cursor = after.as_ref().filter(|_| more).map(encode_cursor);
    success_response(
        "Deliveries retrieved successfully",
        DeliveriesResponse {
            deliveries,
            next_cursor,
        },
    )
}

/// An event of a record or, about an endpoint, of the app itself.
struct RequestedEvent {
    source: FeedSource,
    seq: Seq,
    /// When it was committed.
    committed_at: Timestamp,
    /// The endpoints it may go to.
    endpoints: Vec<EndpointId>,
}

/// The event asked for.
async fn load_requested_event(request: &ApiRequest) -> Result<RequestedEvent, ApiError> {
    let text = request.input.require_text(EVENT_FIELD)?;
    let not_found = || ApiError::not_found("event");
    let (source, seq) = EventId::parse(&text).ok_or_else(not_found)?;
    let store = &request.state.store;
    let (at, endpoints) = match source {
        FeedSource::Record(record) => {
            let head = request.load_own_record(record, Consistency::Eventual).await;
            let head = head.map_err(|refusal| refusal.for_resource("event"))?;
            let entry = store
                .find_feed_entry(record, seq)
                .await?
                .ok_or_else(not_found)?;
            (
                entry.committed_at,
                load_event_endpoints(request, &head).await?,
            )
        }
        FeedSource::App(app) if app == request.require_app()?.id => {
            let before = Seq(seq.0.saturating_sub(1));
            let entries = store.read_app_feed(app, before, 1).await?;
            let entry = entries.first().filter(|entry| entry.seq == seq);
            let endpoints = store.list_endpoints(app).await?;
            let ids = endpoints.iter().map(|it| it.id).collect();
            (entry.ok_or_else(not_found)?.committed_at, ids)
        }
        FeedSource::App(_) => return Err(not_found()),
    };
    Ok(RequestedEvent {
        source,
        seq,
        committed_at: at,
        endpoints,
    })
}

/// The endpoints that a record's events may go to.
async fn load_event_endpoints(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<Vec<EndpointId>, ApiError> {
    let store = &request.state.store;
    let mut ids: Vec<EndpointId> = store
        .list_endpoints(head.app)
        .await?
        .iter()
        .map(|it| it.id)
        .collect();
    let subscriptions = store.list_subscriptions(head.record).await?;
    let urls = subscriptions
        .iter()
        .filter_map(|it| it.webhook_url.as_deref());
    ids.extend(urls.map(|url| endpoint_id(head.app, url)));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What became of an event at each endpoint.
pub(crate) async fn list_event_deliveries(request: &ApiRequest) -> ApiResponse {
    let RequestedEvent {
        source,
        seq,
        committed_at: at,
        endpoints,
    } = load_requested_event(request).await?;
    let key = |endpoint| DeliveryKey {
        endpoint,
        committed_at: at,
        source,
        seq,
    };
    let keys: Vec<DeliveryKey> = endpoints.into_iter().map(key).collect();
    let mut rows = request.state.store.load_deliveries(&keys).await?;
    rows.sort_by_key(|row| row.key.endpoint);
    let deliveries = rows.into_iter().map(DeliverySummary::new).collect();
    success_response(
        "Deliveries retrieved successfully",
        DeliveriesResponse {
            deliveries,
            next_cursor: None,
        },
    )
}

/// Sends an event to an endpoint again, whatever came of it before.
pub(crate) async fn resend_event(request: &ApiRequest) -> ApiResponse {
    let event = load_requested_event(request).await?;
    let endpoint = webhooks::resolve_endpoint_id(request).await?;
    if !event.endpoints.contains(&endpoint) {
        return Err(ApiError::not_found("webhook"));
    }
    let id = EventId::for_feed_entry(event.source, event.seq);
    let resend = Redelivery {
        source: event.source,
        seq: event.seq,
        endpoint,
        has_permit: false,
    };
    request
        .state
        .queues
        .send_redeliveries(&[(resend, 0)])
        .await?;
    success_response(
        "Event enqueued successfully",
        ResendEventResponse {
            event_id: id.to_string(),
            endpoint,
        },
    )
}

/// The events of a record after a place in its feed, as webhooks carry them: fills a gap.
pub(crate) async fn list_events(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    let after = Seq(request.input.parse_number("after")?.unwrap_or(0));
    let (limit, store) = (parse_page_limit(request)?, &request.state.store);
    let entries = store
        .read_feed(head.record, after, limit, Consistency::Strong)
        .await?;
    let newest = entries.last().map_or(head.seq, |it| it.seq.max(head.seq));
    let to = ("", PayloadMode::Full, BodyVersion::LATEST);
    let bodies = render_bodies(store, &request.state.public_url, &head, &entries, to).await?;
    let mut bytes = 0;
    let fitting = bodies.iter().take_while(|body| {
        let is_first = bytes == 0;
        bytes += body.len();
        is_first || bytes <= MAX_PAGE_BYTES
    });
    let events = fitting
        .map(|body| serde_json::from_slice(body))
        .collect::<Result<Vec<_>, _>>()?;
    let is_cut = events.len() < entries.len();
    let last = entries.last().map_or(after, |entry| entry.seq);
    success_response(
        "Events retrieved successfully",
        EventsResponse {
            events,
            last_sequence: newest.0,
            has_more: is_cut || entries.len() == limit && last < newest,
        },
    )
}

/// Okra's way to ask for callbacks again: the newest event of each kind of each record is sent again,
/// to one URL or to all that want it.
pub(crate) async fn trigger_callbacks(request: &ApiRequest) -> ApiResponse {
    let names = ["recordIds", "records", "record"];
    let texts = names.iter().find_map(|name| request.input.find_texts(name));
    let texts = texts.ok_or_else(|| ApiError::invalid_field("recordIds", "is required"))?;
    if texts.len() > MAX_TRIGGER_RECORDS {
        let problem = format!("are at most {MAX_TRIGGER_RECORDS}");
        return Err(ApiError::invalid_field("recordIds", problem));
    }
    let app = request.require_app()?.id;
    let only = request
        .input
        .find_text(&["url"])
        .map(|url| endpoint_id(app, &url));
    let mut messages: Vec<(Redelivery, u16)> = Vec::new();
    for text in &texts {
        let record: RecordId = text.parse().map_err(|error| {
            ApiError::invalid_field("recordIds", format!("hold no id: {error}"))
        })?;
        let head = request
            .load_own_record(record, Consistency::Eventual)
            .await?;
        let mut endpoints = load_event_endpoints(request, &head).await?;
        if let Some(only) = only {
            endpoints.retain(|endpoint| *endpoint == only);
            if endpoints.is_empty() {
                return Err(ApiError::invalid_field(
                    "url",
                    "is none that this record's events go to",
                ));
            }
        }
        for seq in find_newest_entries(request, &head).await? {
            messages.extend(endpoints.iter().map(|&endpoint| {
                let source = record.into();
                let resend = Redelivery {
                    source,
                    seq,
                    endpoint,
                    has_permit: false,
                };
                (resend, 0)
            }));
        }
    }
    request.state.queues.send_redeliveries(&messages).await?;
    success_response(
        "Callbacks triggered successfully",
        TriggerCallbacksResponse {
            events: messages.len(),
            records: texts.len(),
        },
    )
}

/// The newest entry of each kind and account in a record's feed.
async fn find_newest_entries(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<Vec<Seq>, ApiError> {
    let after = Seq(head.seq.0.saturating_sub(MAX_TRIGGER_ENTRIES));
    let limit = usize::try_from(MAX_TRIGGER_ENTRIES).unwrap_or(MAX_PAGE);
    let store = &request.state.store;
    let entries = store
        .read_feed(head.record, after, limit, Consistency::Eventual)
        .await?;
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

fn replay_range_error(kind: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(axum::http::StatusCode::BAD_REQUEST, kind, message)
}

/// Starts a replay: `{url | id, record?, from?, to?, since?, until?, which?, rate?}`.
pub(crate) async fn start_replay(request: &ApiRequest) -> ApiResponse {
    let (app, now) = (request.require_app()?.id, request.now());
    let endpoint = webhooks::load_endpoint_or_data_sync(request).await?.id;
    let record = match request.input.parse_id(RECORD)? {
        Some(record) => Some(
            request
                .load_own_record(record, Consistency::Eventual)
                .await?
                .record,
        ),
        None => None,
    };
    let (from, to) = (
        request.input.parse_number("from")?,
        request.input.parse_number("to")?,
    );
    let (since, until) = (
        parse_instant(request, "since")?,
        parse_instant(request, "until")?,
    );
    let ends = until.is_some() || (record.is_some() && to.is_some());
    let begins = since.is_some() || (record.is_some() && from.is_some());
    if !ends || !begins {
        return Err(replay_range_error(
            "REPLAY_RANGE",
            "A replay needs a beginning and an end: since and until, or record, from and to",
        ));
    }
    let oldest = retained_since(now);
    if since.is_some_and(|since| since < oldest) {
        let message = format!("A replay reaches back 30 days, to {oldest}");
        return Err(replay_range_error("REPLAY_BEYOND_RETENTION", message));
    }
    let times = (since.unwrap_or(oldest), until.unwrap_or(now));
    let places = (Seq(from.unwrap_or(1).max(1)), Seq(to.unwrap_or(u64::MAX)));
    if times.1 < times.0 || places.1 < places.0 {
        let message = "A replay's end is not before its beginning";
        return Err(replay_range_error("REPLAY_RANGE", message));
    }
    let of = match request.input.find_text(&["which"]).as_deref() {
        None | Some("failed") => ReplayFilter::Failed,
        Some("missing") => ReplayFilter::Missing,
        Some("all") => ReplayFilter::All,
        Some(_) => {
            return Err(ApiError::invalid_field(
                "which",
                "is failed, missing or all",
            ));
        }
    };
    let rate = webhooks::parse_event_rate(request)?.unwrap_or(*SEND_RATE_RANGE.start() * 10);
    let id = ReplayId::from_bytes(request.state.random_bytes()?);
    let mut replay = Replay {
        record,
        seq_range: places,
        commit_time_range: times,
        ..Replay::start_replay(id, app, endpoint, of, rate, now)
    };
    request.state.store.put_replay(&mut replay).await?;
    let step = ReplayStep {
        app,
        replay: replay.id,
        version: replay.version,
    };
    request.state.queues.send_replay_step(step, 0).await?;
    success_response("Replay started successfully", ReplaySummary::new(&replay))
}

async fn load_own_replay(request: &ApiRequest, app: AppId) -> Result<Replay, ApiError> {
    let id = request.input.require_id(&["id", "replay"])?;
    let replay = request.state.store.find_replay(app, id).await?;
    replay.ok_or_else(|| ApiError::not_found("replay"))
}

/// A replay, with how far it came.
pub(crate) async fn get_replay(request: &ApiRequest) -> ApiResponse {
    let replay = load_own_replay(request, request.require_app()?.id).await?;
    success_response("Replay retrieved successfully", ReplaySummary::new(&replay))
}

/// The app's replays.
pub(crate) async fn list_replays(request: &ApiRequest) -> ApiResponse {
    let replays = request
        .state
        .store
        .list_replays(request.require_app()?.id)
        .await?;
    let replays = replays.iter().map(ReplaySummary::new).collect();
    success_response(
        "Replays retrieved successfully",
        ReplaysResponse { replays },
    )
}

/// Cancels a replay, or has one that was cancelled go on from where it stopped with `{resume: true}`.
pub(crate) async fn cancel_replay(request: &ApiRequest) -> ApiResponse {
    const MAX_ROUNDS: usize = 8;
    let app = request.require_app()?.id;
    for _ in 0..MAX_ROUNDS {
        let mut replay = load_own_replay(request, app).await?;
        let resume = request.input.is_true("resume");
        replay.state = match (replay.state, resume) {
            (ReplayState::Running, false) => ReplayState::Cancelled,
            (ReplayState::Cancelled, true) => ReplayState::Running,
            (state, _) => state,
        };
        replay.updated_at = request.now();
        // It may have gone on meanwhile.
        if request.state.store.put_replay(&mut replay).await? {
            if replay.state == ReplayState::Running {
                let step = ReplayStep {
                    app,
                    replay: replay.id,
                    version: replay.version,
                };
                request.state.queues.send_replay_step(step, 0).await?;
            }
            return success_response("Replay changed successfully", ReplaySummary::new(&replay));
        }
    }
    Err(ApiError::retry_later())
}

documented! {
    list_deliveries(make_optional(ID), make_optional(URL), DELIVERIES, SPAN) -> DeliveriesResponse: "The deliveries to an endpoint, newest event first, of the last 30 days.";
    list_event_deliveries(EVENT) -> DeliveriesResponse: "What became of an event at each endpoint.";
    resend_event(EVENT, make_optional(ID), make_optional(URL)) -> ResendEventResponse: "Sends an event to an endpoint again, whatever came of it before.";
    list_events(RECORD, AFTER) -> EventsResponse: "The events of a record after a place in its feed, as webhooks carry them.";
    trigger_callbacks(TRIGGER, make_optional(URL)) -> TriggerCallbacksResponse: "Sends the newest event of each kind of each record again.";
    start_replay(make_optional(ID), make_optional(URL), make_optional(CUSTOMER), make_optional(RECORD), SEQUENCE_RANGE, SPAN, REPLAY) -> ReplaySummary: "Tells an endpoint again of a range of events.";
    get_replay(ID) -> ReplaySummary: "A replay, with how far it came.";
    list_replays() -> ReplaysResponse: "The app's replays.";
    cancel_replay(ID, RESUME) -> ReplaySummary: "Cancels a replay, or has it go on from where it stopped.";
}
