//! What became of events: the log of an endpoint or of an event, resending, replaying, and filling a
//! gap.

use jiff::{Timestamp, civil::Date, tz::Offset};
use okra_core::{
    feed::{BodyVersion, PayloadMode},
    ids::{AppId, EndpointId, EventId, RecordId, ReplayId, Seq, Source},
    pace::RATE_RANGE,
};
use okra_queue::{ReplayStep, Resend};
use okra_store::{
    Consistency, Delivery, DeliveryKey, DeliveryState, Direction, Head, Replay, ReplayOf,
    ReplayState,
};
use okra_webhooks::{bodies, endpoint_id, retained_since};
use okra_wire::scalar::Instant;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{Names, RECORD},
    webhooks,
};

/// Deliveries or events of one page at most.
const MAX_PAGE: usize = 100;

/// Bytes of the events of one page at most, the first aside: what a gateway takes, with room for the
/// escapes of its own JSON.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Deliveries that are looked through for those in a state, at most; the cursor goes on from there.
const MAX_LOOKED_AT: usize = 1000;

/// Records that one trigger speaks of at most.
const MAX_TRIGGERED: usize = 100;

/// Feed entries that are looked through for the newest of each kind.
const MAX_TRIGGER_ENTRIES: u64 = 200;

const EVENT: Names<'_> = &["event_id", "event"];

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Delivery))]
#[derive(Serialize)]
struct Shown {
    event_id: String,
    event: String,
    sequence: u64,
    committed_at: Instant,
    endpoint: EndpointId,
    state: &'static str,
    /// Attempts that count against the schedule; probes and our own faults do not.
    attempts: u32,
    next_at: Option<Instant>,
    /// The attempts, oldest first.
    log: Vec<Attempt>,
    /// The beginning of the last failing answer, 1 KiB at most.
    response: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Attempt {
    at: Instant,
    class: String,
    status: Option<u16>,
    latency_ms: u32,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Deliveries {
    deliveries: Vec<Shown>,
    /// What `cursor` has to be to go on; null at the end.
    next_cursor: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Events {
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
struct Resent {
    event_id: String,
    endpoint: EndpointId,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Triggered {
    /// Events that were enqueued.
    events: usize,
    records: usize,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Replay))]
#[derive(Serialize)]
struct ShownReplay {
    id: ReplayId,
    endpoint: EndpointId,
    record: Option<RecordId>,
    from: Option<u64>,
    to: Option<u64>,
    since: Instant,
    until: Instant,
    which: &'static str,
    rate: u16,
    state: &'static str,
    looked_at: u64,
    sent: u64,
    created_at: Instant,
    updated_at: Instant,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Replays {
    replays: Vec<ShownReplay>,
}

impl Shown {
    fn new(delivery: Delivery) -> Self {
        Self {
            event_id: delivery.event_id().to_string(),
            sequence: delivery.key.seq.0,
            committed_at: Instant(delivery.key.at),
            endpoint: delivery.key.endpoint,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            next_at: delivery.next_at.map(Instant),
            log: delivery
                .log
                .into_iter()
                .map(|attempt| Attempt {
                    at: Instant(attempt.at),
                    class: attempt.class,
                    status: attempt.status,
                    latency_ms: attempt.latency_ms,
                })
                .collect(),
            event: delivery.event,
            response: delivery.excerpt,
        }
    }
}

impl ShownReplay {
    fn new(replay: &Replay) -> Self {
        let place = |seq: Seq| replay.record.is_some().then_some(seq.0);
        Self {
            id: replay.id,
            endpoint: replay.endpoint,
            record: replay.record,
            from: place(replay.places.0),
            to: place(replay.places.1),
            since: Instant(replay.times.0),
            until: Instant(replay.times.1),
            which: replay.of.as_str(),
            rate: replay.rate,
            state: replay.state.as_str(),
            looked_at: replay.looked_at,
            sent: replay.sent,
            created_at: Instant(replay.created_at),
            updated_at: Instant(replay.updated_at),
        }
    }
}

/// An instant: `2026-03-01T12:00:00Z`, or a date, which is its beginning in UTC.
fn instant(call: &Call, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = call.input.text(&[name]) else {
        return Ok(None);
    };
    let midnight = || {
        let date: Date = text.parse().ok()?;
        Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
    };
    let at = text.parse().ok();
    at.or_else(midnight)
        .map(Some)
        .ok_or_else(|| Refusal::field(name, "is no instant like 2026-03-01T12:00:00Z"))
}

/// A cursor is the event's id and when it was committed.
fn cursor_of(key: &DeliveryKey) -> String {
    format!("{}.{}.{}", key.at.as_millisecond(), key.source, key.seq)
}

fn parse_cursor(endpoint: EndpointId, text: &str) -> Option<DeliveryKey> {
    let mut parts = text.splitn(3, '.');
    let at = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
    Some(DeliveryKey {
        endpoint,
        at,
        source: parts.next()?.parse().ok()?,
        seq: Seq(parts.next()?.parse().ok()?),
    })
}

fn limit(call: &Call) -> Result<usize, Refusal> {
    let limit = call.input.number("limit")?.unwrap_or(MAX_PAGE as u64);
    Ok(usize::try_from(limit)
        .unwrap_or(MAX_PAGE)
        .clamp(1, MAX_PAGE))
}

/// The deliveries to an endpoint, newest event first, of the last 30 days.
pub(crate) async fn list(call: &Call) -> Answer {
    let endpoint = webhooks::named(call).await?;
    let now = call.now();
    let since = instant(call, "since")?.unwrap_or_else(|| retained_since(now));
    let until = instant(call, "until")?.unwrap_or(now);
    let states = [
        DeliveryState::Delivered,
        DeliveryState::Retry,
        DeliveryState::Parked,
        DeliveryState::Exhausted,
        DeliveryState::Cancelled,
    ];
    let state = match call.input.text(&["state"]) {
        None => None,
        Some(name) => {
            let known = states.into_iter().find(|state| state.as_str() == name);
            let problem = "is delivered, retry, parked, exhausted or cancelled";
            Some(known.ok_or_else(|| Refusal::field("state", problem))?)
        }
    };
    let mut after = match call.input.text(&["cursor"]) {
        None => None,
        Some(text) => {
            let cursor = parse_cursor(endpoint, &text);
            Some(cursor.ok_or_else(|| Refusal::field("cursor", "is none of ours"))?)
        }
    };
    let (limit, store) = (limit(call)?, &call.state.store);
    let (mut deliveries, mut looked_at, mut more) = (Vec::new(), 0, true);
    while more && deliveries.len() < limit && looked_at < MAX_LOOKED_AT {
        let times = (since, until);
        let page = store
            .deliveries_of(endpoint, times, after.as_ref(), Direction::Backward, limit)
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
                deliveries.push(Shown::new(delivery));
            }
        }
    }
    let next_cursor = after.as_ref().filter(|_| more).map(cursor_of);
    success(
        "Deliveries retrieved successfully",
        Deliveries {
            deliveries,
            next_cursor,
        },
    )
}

/// An event of a record or, about an endpoint, of the app itself.
struct Event {
    source: Source,
    seq: Seq,
    /// When it was committed.
    at: Timestamp,
    /// The endpoints it may go to.
    endpoints: Vec<EndpointId>,
}

/// The event asked for.
async fn event(call: &Call) -> Result<Event, Refusal> {
    let text = call.input.needed_text(EVENT)?;
    let not_found = || Refusal::not_found("event");
    let (source, seq) = EventId::parse(&text).ok_or_else(not_found)?;
    let store = &call.state.store;
    let (at, endpoints) = match source {
        Source::Record(record) => {
            let head = call.own_record(record, Consistency::Eventual).await;
            let head = head.map_err(|refusal| refusal.about("event"))?;
            let entry = store.entry(record, seq).await?.ok_or_else(not_found)?;
            (entry.at, endpoints_of(call, &head).await?)
        }
        Source::App(app) if app == call.app()?.id => {
            let before = Seq(seq.0.saturating_sub(1));
            let entries = store.app_feed(app, before, 1).await?;
            let entry = entries.first().filter(|entry| entry.seq == seq);
            let endpoints = store.endpoints(app).await?;
            let ids = endpoints.iter().map(|it| it.id).collect();
            (entry.ok_or_else(not_found)?.at, ids)
        }
        Source::App(_) => return Err(not_found()),
    };
    Ok(Event {
        source,
        seq,
        at,
        endpoints,
    })
}

/// The endpoints that a record's events may go to.
async fn endpoints_of(call: &Call, head: &Head) -> Result<Vec<EndpointId>, Refusal> {
    let store = &call.state.store;
    let mut ids: Vec<EndpointId> = store
        .endpoints(head.app)
        .await?
        .iter()
        .map(|it| it.id)
        .collect();
    let subscriptions = store.subscriptions(head.record).await?;
    let urls = subscriptions
        .iter()
        .filter_map(|it| it.webhook_url.as_deref());
    ids.extend(urls.map(|url| endpoint_id(head.app, url)));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What became of an event at each endpoint.
pub(crate) async fn of_event(call: &Call) -> Answer {
    let Event {
        source,
        seq,
        at,
        endpoints,
    } = event(call).await?;
    let key = |endpoint| DeliveryKey {
        endpoint,
        at,
        source,
        seq,
    };
    let keys: Vec<DeliveryKey> = endpoints.into_iter().map(key).collect();
    let mut rows = call.state.store.deliveries(&keys).await?;
    rows.sort_by_key(|row| row.key.endpoint);
    let deliveries = rows.into_iter().map(Shown::new).collect();
    success(
        "Deliveries retrieved successfully",
        Deliveries {
            deliveries,
            next_cursor: None,
        },
    )
}

/// Sends an event to an endpoint again, whatever came of it before.
pub(crate) async fn resend(call: &Call) -> Answer {
    let event = event(call).await?;
    let endpoint = webhooks::named(call).await?;
    if !event.endpoints.contains(&endpoint) {
        return Err(Refusal::not_found("webhook"));
    }
    let id = EventId::of_source(event.source, event.seq);
    let resend = Resend {
        source: event.source,
        seq: event.seq,
        endpoint,
        paced: false,
    };
    call.state.queues.send_resends(&[(resend, 0)]).await?;
    success(
        "Event enqueued successfully",
        Resent {
            event_id: id.to_string(),
            endpoint,
        },
    )
}

/// The events of a record after a place in its feed, as webhooks carry them: fills a gap.
pub(crate) async fn events(call: &Call) -> Answer {
    let head = call.record().await?;
    let after = Seq(call.input.number("after")?.unwrap_or(0));
    let (limit, store) = (limit(call)?, &call.state.store);
    let entries = store
        .feed(head.record, after, limit, Consistency::Strong)
        .await?;
    let newest = entries.last().map_or(head.seq, |it| it.seq.max(head.seq));
    let to = ("", PayloadMode::Full, BodyVersion::LATEST);
    let bodies = bodies(store, &call.state.public_url, &head, &entries, to).await?;
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
    success(
        "Events retrieved successfully",
        Events {
            events,
            last_sequence: newest.0,
            has_more: is_cut || entries.len() == limit && last < newest,
        },
    )
}

/// Okra's way to ask for callbacks again: the newest event of each kind of each record is sent again,
/// to one URL or to all that want it.
pub(crate) async fn trigger(call: &Call) -> Answer {
    let names = ["recordIds", "records", "record"];
    let texts = names.iter().find_map(|name| call.input.texts(name));
    let texts = texts.ok_or_else(|| Refusal::field("recordIds", "is required"))?;
    if texts.len() > MAX_TRIGGERED {
        let problem = format!("are at most {MAX_TRIGGERED}");
        return Err(Refusal::field("recordIds", problem));
    }
    let app = call.app()?.id;
    let only = call.input.text(&["url"]).map(|url| endpoint_id(app, &url));
    let mut messages: Vec<(Resend, u16)> = Vec::new();
    for text in &texts {
        let record: RecordId = text
            .parse()
            .map_err(|error| Refusal::field("recordIds", format!("hold no id: {error}")))?;
        let head = call.own_record(record, Consistency::Eventual).await?;
        let mut endpoints = endpoints_of(call, &head).await?;
        if let Some(only) = only {
            endpoints.retain(|endpoint| *endpoint == only);
            if endpoints.is_empty() {
                return Err(Refusal::field(
                    "url",
                    "is none that this record's events go to",
                ));
            }
        }
        for seq in newest(call, &head).await? {
            messages.extend(endpoints.iter().map(|&endpoint| {
                let source = record.into();
                let resend = Resend {
                    source,
                    seq,
                    endpoint,
                    paced: false,
                };
                (resend, 0)
            }));
        }
    }
    call.state.queues.send_resends(&messages).await?;
    success(
        "Callbacks triggered successfully",
        Triggered {
            events: messages.len(),
            records: texts.len(),
        },
    )
}

/// The newest entry of each kind and account in a record's feed.
async fn newest(call: &Call, head: &Head) -> Result<Vec<Seq>, Refusal> {
    let after = Seq(head.seq.0.saturating_sub(MAX_TRIGGER_ENTRIES));
    let limit = usize::try_from(MAX_TRIGGER_ENTRIES).unwrap_or(MAX_PAGE);
    let store = &call.state.store;
    let entries = store
        .feed(head.record, after, limit, Consistency::Eventual)
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

fn refused_range(kind: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(axum::http::StatusCode::BAD_REQUEST, kind, message)
}

/// Starts a replay: `{url | id, record?, from?, to?, since?, until?, which?, rate?}`.
pub(crate) async fn replay(call: &Call) -> Answer {
    let (app, now) = (call.app()?.id, call.now());
    let endpoint = webhooks::told(call).await?.id;
    let record = match call.input.id(RECORD)? {
        Some(record) => Some(call.own_record(record, Consistency::Eventual).await?.record),
        None => None,
    };
    let (from, to) = (call.input.number("from")?, call.input.number("to")?);
    let (since, until) = (instant(call, "since")?, instant(call, "until")?);
    let ends = until.is_some() || (record.is_some() && to.is_some());
    let begins = since.is_some() || (record.is_some() && from.is_some());
    if !ends || !begins {
        return Err(refused_range(
            "REPLAY_RANGE",
            "A replay needs a beginning and an end: since and until, or record, from and to",
        ));
    }
    let oldest = retained_since(now);
    if since.is_some_and(|since| since < oldest) {
        let message = format!("A replay reaches back 30 days, to {oldest}");
        return Err(refused_range("REPLAY_BEYOND_RETENTION", message));
    }
    let times = (since.unwrap_or(oldest), until.unwrap_or(now));
    let places = (Seq(from.unwrap_or(1).max(1)), Seq(to.unwrap_or(u64::MAX)));
    if times.1 < times.0 || places.1 < places.0 {
        let message = "A replay's end is not before its beginning";
        return Err(refused_range("REPLAY_RANGE", message));
    }
    let of = match call.input.text(&["which"]).as_deref() {
        None | Some("failed") => ReplayOf::Failed,
        Some("missing") => ReplayOf::Missing,
        Some("all") => ReplayOf::All,
        Some(_) => return Err(Refusal::field("which", "is failed, missing or all")),
    };
    let rate = webhooks::rate(call)?.unwrap_or(*RATE_RANGE.start() * 10);
    let id = ReplayId::from_bytes(call.state.random()?);
    let mut replay = Replay {
        record,
        places,
        times,
        ..Replay::begun(id, (app, endpoint), of, rate, now)
    };
    call.state.store.put_replay(&mut replay).await?;
    let step = ReplayStep {
        app,
        replay: replay.id,
        version: replay.version,
    };
    call.state.queues.send_replay(step, 0).await?;
    success("Replay started successfully", ShownReplay::new(&replay))
}

async fn own_replay(call: &Call, app: AppId) -> Result<Replay, Refusal> {
    let id = call.input.needed_id(&["id", "replay"])?;
    let replay = call.state.store.replay(app, id).await?;
    replay.ok_or_else(|| Refusal::not_found("replay"))
}

/// A replay, with how far it came.
pub(crate) async fn replay_get(call: &Call) -> Answer {
    let replay = own_replay(call, call.app()?.id).await?;
    success("Replay retrieved successfully", ShownReplay::new(&replay))
}

/// The app's replays.
pub(crate) async fn replay_list(call: &Call) -> Answer {
    let replays = call.state.store.replays(call.app()?.id).await?;
    let replays = replays.iter().map(ShownReplay::new).collect();
    success("Replays retrieved successfully", Replays { replays })
}

/// Cancels a replay, or has one that was cancelled go on from where it stopped with `{resume: true}`.
pub(crate) async fn replay_cancel(call: &Call) -> Answer {
    const MAX_ROUNDS: usize = 8;
    let app = call.app()?.id;
    for _ in 0..MAX_ROUNDS {
        let mut replay = own_replay(call, app).await?;
        let resume = call.input.flag("resume");
        replay.state = match (replay.state, resume) {
            (ReplayState::Running, false) => ReplayState::Cancelled,
            (ReplayState::Cancelled, true) => ReplayState::Running,
            (state, _) => state,
        };
        replay.updated_at = call.now();
        // It may have gone on meanwhile.
        if call.state.store.put_replay(&mut replay).await? {
            if replay.state == ReplayState::Running {
                let step = ReplayStep {
                    app,
                    replay: replay.id,
                    version: replay.version,
                };
                call.state.queues.send_replay(step, 0).await?;
            }
            return success("Replay changed successfully", ShownReplay::new(&replay));
        }
    }
    Err(Refusal::busy())
}

documented! {
    list(optional(ID), optional(URL), DELIVERIES, SPAN) -> Deliveries: "The deliveries to an endpoint, newest event first, of the last 30 days.";
    of_event(EVENT) -> Deliveries: "What became of an event at each endpoint.";
    resend(EVENT, optional(ID), optional(URL)) -> Resent: "Sends an event to an endpoint again, whatever came of it before.";
    events(RECORD, AFTER) -> Events: "The events of a record after a place in its feed, as webhooks carry them.";
    trigger(TRIGGER, optional(URL)) -> Triggered: "Sends the newest event of each kind of each record again.";
    replay(optional(ID), optional(URL), optional(CUSTOMER), optional(RECORD), PLACES, SPAN, REPLAY) -> ShownReplay: "Tells an endpoint again of a range of events.";
    replay_get(ID) -> ShownReplay: "A replay, with how far it came.";
    replay_list() -> Replays: "The app's replays.";
    replay_cancel(ID, RESUME) -> ShownReplay: "Cancels a replay, or has it go on from where it stopped.";
}
