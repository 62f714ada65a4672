//! The app's webhook endpoints: extensions; Okra had them in its dashboard.

use axum::http::StatusCode;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    feed::{BodyVersion, PayloadMode},
    health::{Circuit, Health},
    ids::{AppId, EndpointId},
    model::Product,
    pace::{RATE_RANGE, Rate},
    retry::Outcome,
};
use okra_queue::{Ping, Tend};
use okra_store::{Direction, Endpoint, MAX_ENDPOINTS_PER_APP, StoredHealth};
use okra_webhooks::{
    Bearer, SigningSecrets, UrlRefused, check_endpoint, endpoint_id, retained_since,
};
use okra_wire::{
    scalar::Instant,
    webhook::{EVENT_NAMES, is_event_filter},
};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::Names,
    scope,
};

const URL: Names<'_> = &["url", "webhook_url"];

/// Hours for which the secret before a rotation still signs, where nothing is said, and at most.
const OVERLAP_HOURS: (u64, u64) = (24, 7 * 24);

/// Parked events that are counted one by one; of more it is said about how many there are.
const MAX_COUNTED: usize = 1000;

/// Records whose data sync is looked through at the same time.
const CONCURRENCY: usize = 16;

/// Times a change of an endpoint's health is tried against deliveries that change it too.
const MAX_ROUNDS: usize = 16;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Webhook))]
#[derive(Serialize)]
struct Shown {
    id: EndpointId,
    url: String,
    /// `endpoint`, or `data_sync`: the URL of a data sync that is no endpoint besides. That one is told of the
    /// products that `data-sync/list` names, signed with the app's own secret.
    of: &'static str,
    payload: PayloadMode,
    /// The version of its bodies: that of its registration, unless it was set to another.
    version: BodyVersion,
    products: Vec<Product>,
    /// Whether a bearer token is sent along.
    token: bool,
    /// The names of events it is told of, or `family.*`; none: all that records bring.
    events: Vec<String>,
    /// Events a second at most.
    rate: u32,
    /// Whether the events of a record come one after another.
    ordered: bool,
    /// Null for the URL of a data sync.
    created_at: Option<Instant>,
    /// When the secret before the last rotation ceases to sign.
    previous_secret_until: Option<Instant>,
    health: HealthShown,
    /// What signs, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookHealth))]
#[derive(Serialize)]
pub(crate) struct HealthShown {
    /// `healthy`, `failing`, `parked` (down: events wait, a probe asks now and then) or `disabled`
    /// (events wait until it is enabled).
    status: &'static str,
    failing_since: Option<Instant>,
    last_failure: Option<&'static str>,
    next_probe_at: Option<Instant>,
    paused_until: Option<Instant>,
    /// `gone`, `receiver`, `failing` or `app`.
    disabled_by: Option<&'static str>,
    /// Events that wait for it; above 1000 about.
    parked: u64,
    /// Events that could not be kept waiting; a replay tells of them.
    gap: Option<GapShown>,
    /// What came of the last ping; null where none came back yet.
    ping: Option<PingShown>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookGap))]
#[derive(Serialize)]
struct GapShown {
    from: Instant,
    until: Instant,
    events: u64,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookPing))]
#[derive(Serialize)]
struct PingShown {
    at: Instant,
    outcome: String,
    status: Option<u16>,
    latency_ms: u32,
}

impl HealthShown {
    /// With what is parked for the endpoint.
    pub(crate) async fn of(
        call: &Call,
        endpoint: EndpointId,
        stored: StoredHealth,
    ) -> Result<Self, Refusal> {
        let counted = if stored.version > 0 {
            let parked = call.state.store.parked(endpoint, MAX_COUNTED).await?;
            parked.len()
        } else {
            0
        };
        Ok(Self::new(stored, counted))
    }

    fn new(stored: StoredHealth, counted: usize) -> Self {
        let StoredHealth {
            health,
            parked,
            ping,
            ..
        } = stored;
        let counted_all = counted < MAX_COUNTED;
        let counted = counted as u64;
        Self {
            status: match (&health.disabled, health.circuit, health.failing_since) {
                (Some(_), ..) => "disabled",
                (None, Circuit::Open { .. }, _) => "parked",
                (None, Circuit::Closed, Some(_)) => "failing",
                (None, Circuit::Closed, None) => "healthy",
            },
            failing_since: health.failing_since.map(Instant),
            last_failure: health.last_outcome.map(Outcome::as_str),
            next_probe_at: health.probe_at().map(Instant),
            paused_until: health.paused_until.map(Instant),
            disabled_by: health.disabled.map(|disabled| disabled.by.as_str()),
            parked: if counted_all {
                counted
            } else {
                counted.max(parked)
            },
            gap: health.gap.map(|gap| GapShown {
                from: Instant(gap.from),
                until: Instant(gap.until),
                events: gap.events,
            }),
            ping: ping.map(|ping| PingShown {
                at: Instant(ping.at),
                outcome: ping.class,
                status: ping.status,
                latency_ms: ping.latency_ms,
            }),
        }
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Webhooks {
    webhooks: Vec<Shown>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Secret {
    secret: String,
}

impl Shown {
    async fn new(
        call: &Call,
        endpoint: Endpoint,
        secret: Option<&SigningSecrets>,
    ) -> Result<Self, Refusal> {
        let stored = call.state.store.health(endpoint.id).await?;
        let health = HealthShown::of(call, endpoint.id, stored).await?;
        let is_sync = endpoint.secrets.is_empty();
        let still = endpoint.previous_until.filter(|until| *until > call.now());
        Ok(Self {
            id: endpoint.id,
            url: endpoint.url,
            of: match is_sync {
                true => "data_sync",
                false => "endpoint",
            },
            payload: endpoint.payload,
            version: endpoint.version,
            products: endpoint.products,
            token: endpoint.bearer.is_some(),
            events: endpoint.events,
            rate: endpoint
                .rate
                .map_or_else(|| Rate::default().per_s, u32::from),
            ordered: endpoint.ordered_since.is_some(),
            created_at: (!is_sync).then_some(Instant(endpoint.created_at)),
            previous_secret_until: still.map(Instant),
            health,
            secret: secret.map(|secret| secret.current().to_owned()),
        })
    }
}

fn refused(kind: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, kind, message)
}

/// A URL that cannot be told, and the rule it breaks.
pub(crate) fn refused_url(field: &str, rule: UrlRefused) -> Refusal {
    let message = format!("{field} is refused: {rule} ({})", rule.rule());
    refused("WEBHOOK_URL", message)
}

/// The names of events asked for.
fn events(call: &Call) -> Result<Option<Vec<String>>, Refusal> {
    let Some(mut names) = call.input.texts("events") else {
        return Ok(None);
    };
    names.retain(|name| !name.is_empty());
    if let Some(unknown) = names.iter().find(|name| !is_event_filter(name)) {
        let known = EVENT_NAMES.join(", ");
        let message = format!("events hold {unknown}; known are {known}, family.* and *");
        return Err(refused("UNKNOWN_EVENT", message));
    }
    names.sort_unstable();
    names.dedup();
    Ok(Some(names))
}

/// Events a second asked for.
pub(crate) fn rate(call: &Call) -> Result<Option<u16>, Refusal> {
    let Some(rate) = call.input.number("rate")? else {
        return Ok(None);
    };
    let known = u16::try_from(rate)
        .ok()
        .filter(|rate| RATE_RANGE.contains(rate));
    let (least, most) = (RATE_RANGE.start(), RATE_RANGE.end());
    let problem = || Refusal::field("rate", format!("is {least} to {most} events a second"));
    known.map(Some).ok_or_else(problem)
}

/// Since when an endpoint is told a record's events in order, that told them since `since` until now. What
/// it was not told of before holds nothing up: `changed` says that it is told of others from now on.
fn ordered_since(call: &Call, since: Option<Timestamp>, changed: bool) -> Option<Timestamp> {
    let input = &call.input;
    let ordered = input.flag("ordered") || since.is_some() && !input.denies("ordered");
    ordered.then(|| since.filter(|_| !changed).unwrap_or_else(|| call.now()))
}

/// The version of bodies asked for.
fn version(call: &Call) -> Result<Option<BodyVersion>, Refusal> {
    let Some(name) = call.input.text(&["version"]) else {
        return Ok(None);
    };
    let problem = || {
        let known = BodyVersion::ALL.map(BodyVersion::as_str).join(", ");
        let message = format!("version {name} is no version of bodies; known are {known}");
        refused("UNKNOWN_VERSION", message)
    };
    BodyVersion::named(&name).map(Some).ok_or_else(problem)
}

/// When the secret before a rotation ceases to sign.
fn previous_until(call: &Call) -> Result<Timestamp, Refusal> {
    let (usual, most) = OVERLAP_HOURS;
    let hours = call.input.number("overlap_hours")?.unwrap_or(usual);
    if hours > most {
        return Err(Refusal::field("overlap_hours", format!("are 0 to {most}")));
    }
    let overlap = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(0));
    Ok(call.now().checked_add(overlap).unwrap_or(Timestamp::MAX))
}

/// A secret that the app brings along, as its receivers have it already.
fn own_secret(call: &Call) -> Result<Option<SigningSecrets>, Refusal> {
    let Some(secret) = call.input.text(&["secret"]) else {
        return Ok(None);
    };
    let message = "secret is no whsec_ and base64 of 24 to 64 random bytes";
    SigningSecrets::given(&secret)
        .map(Some)
        .map_err(|_| refused("INVALID_SECRET", message))
}

/// The endpoint that a call names by its id or URL. A URL need not be an endpoint's: those of data
/// sync are none.
pub(crate) async fn named(call: &Call) -> Result<EndpointId, Refusal> {
    let app = call.app()?.id;
    match call.input.text(URL) {
        Some(url) => Ok(endpoint_id(app, &url)),
        None => Ok(own(call).await?.id),
    }
}

/// The endpoint that a call names by its id or URL, or the URL of a data sync of the app's, as an endpoint
/// without secrets of its own.
///
/// By its URL such a one is found where it was told anything, or is not well; else the data sync of the
/// customer named, or of all, is looked through.
pub(crate) async fn told(call: &Call) -> Result<Endpoint, Refusal> {
    let refused = match own(call).await {
        Err(refusal) if refusal.is_not_found() => refusal,
        own => return own,
    };
    let (app, store, now) = (call.app()?.id, &call.state.store, call.now());
    if let Some(url) = call
        .input
        .text(URL)
        .filter(|_| call.input.text(&["id"]).is_none())
    {
        let id = endpoint_id(app, &url);
        let times = (retained_since(now), now);
        let newest = Direction::Backward;
        if store.health(id).await?.version > 0
            || !store
                .deliveries_of(id, times, None, newest, 1)
                .await?
                .is_empty()
        {
            return Ok(of_data_sync(app, url));
        }
    }
    let wanted = match call.input.id(&["id"])? {
        Some(id) => id,
        None => endpoint_id(app, &call.input.needed_text(URL)?),
    };
    let heads = scope::records(call).await?;
    for heads in heads.chunks(CONCURRENCY) {
        let subscriptions = heads.iter().map(|head| store.subscriptions(head.record));
        for subscription in try_join_all(subscriptions).await?.concat() {
            if let Some(url) = subscription.webhook_url
                && endpoint_id(app, &url) == wanted
            {
                return Ok(of_data_sync(app, url));
            }
        }
    }
    Err(refused)
}

/// The URL of a data sync, as an endpoint.
fn of_data_sync(app: AppId, url: String) -> Endpoint {
    Endpoint {
        id: endpoint_id(app, &url),
        app,
        url,
        secrets: Vec::new(),
        bearer: None,
        previous_until: None,
        products: Vec::new(),
        events: Vec::new(),
        payload: PayloadMode::default(),
        version: BodyVersion::default(),
        ordered_since: None,
        rate: None,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

/// The app's endpoint that a call names by its id or URL.
async fn own(call: &Call) -> Result<Endpoint, Refusal> {
    let app = call.app()?.id;
    let id = match call.input.id(&["id"])? {
        Some(id) => id,
        None => endpoint_id(app, &call.input.needed_text(URL)?),
    };
    let endpoint = call.state.store.endpoint(app, id).await?;
    endpoint.ok_or_else(|| Refusal::not_found("webhook"))
}

/// Sets an endpoint: `{url, token?, payload?, version?, products?, events?, rate?, ordered?,
/// secret?, rotate?, overlap_hours?}`. An empty `token` takes the token away, `rate: null` the rate.
///
/// Answers the secret that signs where the endpoint is new or `rotate` is set; after a rotation the
/// secret before signs too, for the overlap. Set again, an endpoint keeps what is not given. A new one
/// is sent a signed ping, of which `health.ping` tells.
pub(crate) async fn set(call: &Call) -> Answer {
    let (app, state, input) = (call.app()?.id, &call.state, &call.input);
    let url = input.needed_text(URL)?;
    check_endpoint(&url, state.addresses, state.bus.as_ref(), &state.public_url)
        .map_err(|rule| refused_url("url", rule))?;
    let (events, rate, given) = (events(call)?, rate(call)?, own_secret(call)?);
    let payload = match input.text(&["payload"]).as_deref() {
        None => None,
        Some("full") => Some(PayloadMode::Full),
        Some("reference") => Some(PayloadMode::Reference),
        Some(_) => return Err(Refusal::field("payload", "is full or reference")),
    };
    let (products, version) = (input.products()?, version(call)?);
    let (no_bearer, no_rate) = (input.is_emptied("token"), input.is_cleared("rate"));
    let bearer = input
        .text(&["token"])
        .map(|token| Bearer::new(&token).map_err(|error| Refusal::field("token", error)))
        .transpose()?;

    let id = endpoint_id(app, &url);
    let bearer = bearer
        .map(|bearer| state.keyring.seal_bearer(id, &bearer))
        .transpose()?;
    let known = state.store.endpoints(app).await?;
    let count = known.len();
    let known = known.into_iter().find(|it| it.id == id);
    let is_new = known.is_none();
    let (endpoint, made) = match known {
        Some(mut endpoint) => {
            let made = if input.flag("rotate") || given.is_some() {
                let known = state.keyring.secrets(&endpoint)?;
                let rotated = match &given {
                    Some(given) => known.replaced_by(given),
                    None => known.rotated(&state.random()?),
                };
                endpoint.previous_until = Some(previous_until(call)?);
                endpoint.secrets = state.keyring.seal_secrets(id, &rotated)?;
                Some(rotated)
            } else {
                None
            };
            endpoint.bearer = bearer.or_else(|| endpoint.bearer.filter(|_| !no_bearer));
            let products = products.unwrap_or_else(|| endpoint.products.clone());
            let events = events.unwrap_or_else(|| endpoint.events.clone());
            let changed = products != endpoint.products || events != endpoint.events;
            endpoint.ordered_since = ordered_since(call, endpoint.ordered_since, changed);
            (endpoint.products, endpoint.events) = (products, events);
            endpoint.payload = payload.unwrap_or(endpoint.payload);
            endpoint.version = version.unwrap_or(endpoint.version);
            endpoint.rate = rate.or_else(|| endpoint.rate.filter(|_| !no_rate));
            (endpoint, made)
        }
        // One more than can be read would stop every delivery of the app.
        None if count >= MAX_ENDPOINTS_PER_APP => {
            let problem = format!("is one too many: an app has at most {MAX_ENDPOINTS_PER_APP}");
            return Err(Refusal::field("url", problem));
        }
        None => {
            let made = match given {
                Some(given) => given,
                None => SigningSecrets::fresh(&state.random()?),
            };
            let endpoint = Endpoint {
                id,
                app,
                url,
                secrets: state.keyring.seal_secrets(id, &made)?,
                bearer,
                previous_until: None,
                products: products.unwrap_or_else(|| Product::ALL.to_vec()),
                events: events.unwrap_or_default(),
                rate,
                payload: payload.unwrap_or_default(),
                version: version.unwrap_or(BodyVersion::LATEST),
                ordered_since: ordered_since(call, None, false),
                created_at: call.now(),
            };
            (endpoint, Some(made))
        }
    };
    if is_new {
        // Its URL may have been an endpoint before.
        begin_anew(call, &endpoint).await?;
    }
    state.store.put_endpoint(&endpoint).await?;
    if is_new {
        state.queues.send_ping(ping_of(&endpoint)).await?;
    }
    success(
        "Webhook set successfully",
        Shown::new(call, endpoint, made.as_ref()).await?,
    )
}

fn ping_of(endpoint: &Endpoint) -> Ping {
    Ping {
        app: endpoint.app,
        endpoint: endpoint.id,
        url: endpoint.secrets.is_empty().then(|| endpoint.url.clone()),
    }
}

/// Sends a signed ping to an endpoint; `health.ping` of the list tells what came of it.
pub(crate) async fn test(call: &Call) -> Answer {
    let endpoint = told(call).await?;
    call.state.queues.send_ping(ping_of(&endpoint)).await?;
    success(
        "Ping enqueued successfully",
        Shown::new(call, endpoint, None).await?,
    )
}

/// Enables an endpoint: what was parked for it is sent.
pub(crate) async fn enable(call: &Call) -> Answer {
    let endpoint = told(call).await?;
    let tend = Tend {
        app: endpoint.app,
        endpoint: endpoint.id,
    };
    change_health(call, &endpoint, Health::enable).await?;
    // Also where nothing changed: a call that failed half way is made again.
    call.state.queues.send_tends(&[(tend, 0)]).await?;
    success(
        "Webhook enabled successfully",
        Shown::new(call, endpoint, None).await?,
    )
}

/// Disables an endpoint: what is for it is parked until it is enabled, and nothing of it is lost.
pub(crate) async fn disable(call: &Call) -> Answer {
    let (endpoint, now) = (told(call).await?, call.now());
    change_health(call, &endpoint, |health| health.disable(now)).await?;
    success(
        "Webhook disabled successfully",
        Shown::new(call, endpoint, None).await?,
    )
}

/// Forgets that an endpoint ever failed, and sees to what is parked for it.
async fn begin_anew(call: &Call, endpoint: &Endpoint) -> Result<(), Refusal> {
    let stored = call.state.store.health(endpoint.id).await?;
    if stored.version == 0 {
        return Ok(());
    }
    change_health(call, endpoint, |health| *health = Health::default()).await?;
    let tend = Tend {
        app: endpoint.app,
        endpoint: endpoint.id,
    };
    Ok(call.state.queues.send_tends(&[(tend, 0)]).await?)
}

async fn change_health(
    call: &Call,
    endpoint: &Endpoint,
    change: impl Fn(&mut Health),
) -> Result<(), Refusal> {
    let store = &call.state.store;
    for _ in 0..MAX_ROUNDS {
        let mut stored = store.health(endpoint.id).await?;
        let before = stored.health.clone();
        change(&mut stored.health);
        if stored.health == before {
            return Ok(());
        }
        let put = store.put_health(endpoint.app, endpoint.id, &stored, &[], call.now());
        if put.await?.is_some() {
            return Ok(());
        }
    }
    Err(Refusal::busy())
}

/// The endpoints, without their secrets; the one named, which may be the URL of a data sync.
pub(crate) async fn list(call: &Call) -> Answer {
    let names = [&["id"], URL].concat();
    let endpoints = match call.input.text(&names) {
        Some(_) => vec![told(call).await?],
        None => call.state.store.endpoints(call.app()?.id).await?,
    };
    let mut webhooks = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        webhooks.push(Shown::new(call, endpoint, None).await?);
    }
    success("Webhooks retrieved successfully", Webhooks { webhooks })
}

/// Removes an endpoint by its id or its URL. What was parked for it is cancelled, and the same URL set
/// again begins as if it had never failed.
pub(crate) async fn remove(call: &Call) -> Answer {
    let endpoint = own(call).await?;
    let shown = Shown::new(call, endpoint.clone(), None).await?;
    let store = &call.state.store;
    store.delete_endpoint(endpoint.app, endpoint.id).await?;
    begin_anew(call, &endpoint).await?;
    success("Webhook removed successfully", shown)
}

/// The secret that signs for the URLs of data sync, which have none of their own; a new one with
/// `{rotate: true}`.
pub(crate) async fn secret(call: &Call) -> Answer {
    let (app, state) = (call.app()?.id, &call.state);
    let mut secrets = state.keyring.app_secrets(app, call.now()).await?;
    if call.input.flag("rotate") {
        secrets = secrets.rotated(&state.random()?);
        let until = previous_until(call)?;
        state.keyring.put_app_secrets(app, &secrets, until).await?;
    }
    success(
        "Signing secret retrieved successfully",
        Secret {
            secret: secrets.current().to_owned(),
        },
    )
}

documented! {
    set(URL, TOKEN, PAYLOAD, PRODUCTS, WEBHOOK, ROTATE, SECRET_OVERLAP) -> Shown: "Sets an endpoint, and pings it where it is new.";
    test(optional(ID), optional(URL), optional(CUSTOMER)) -> Shown: "Sends a signed ping to an endpoint.";
    enable(optional(ID), optional(URL), optional(CUSTOMER)) -> Shown: "Enables an endpoint: what was parked for it is sent.";
    disable(optional(ID), optional(URL), optional(CUSTOMER)) -> Shown: "Disables an endpoint: what is for it is parked, and nothing of it is lost.";
    list(optional(ID), optional(URL), optional(CUSTOMER)) -> Webhooks: "The endpoints, without their secrets; or one, which may be the URL of a data sync.";
    remove(optional(ID), optional(URL)) -> Shown: "Removes an endpoint by its id or its URL.";
    secret(ROTATE, SECRET_OVERLAP) -> Secret: "The secret that signs for the URLs of data sync.";
}
