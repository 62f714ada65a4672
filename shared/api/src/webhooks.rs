//! The app's webhook endpoints: extensions; Okra had them in its dashboard.

use axum::http::StatusCode;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    delivery::{
        endpoint_health::{EndpointCircuit, EndpointHealth},
        retry::AttemptOutcome,
    },
    model::{
        ids::{AppId, EndpointId},
        snapshot::Product,
    },
    resilience::rate_limiter::{SEND_RATE_RANGE, SendRate},
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_queue::{EndpointMaintenance, EndpointPing};
use okra_store::{Endpoint, MAX_ENDPOINTS_PER_APP, SortOrder, StoredEndpointHealth};
use okra_webhooks::{
    BearerToken, SigningSecrets, UrlError, check_endpoint_url, endpoint_id, retained_since,
};
use okra_wire::{
    scalar::IsoInstant,
    webhook::{EVENT_NAMES, is_event_filter},
};
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::FieldNames,
    scope,
};

const URL_FIELD: FieldNames<'_> = &["url", "webhook_url"];

/// Hours for which the secret before a rotation still signs, where nothing is said, and at most.
const DEFAULT_AND_MAX_OVERLAP_HOURS: (u64, u64) = (24, 7 * 24);

/// Parked events that are counted one by one; of more it is said about how many there are.
const MAX_COUNTED_EVENTS: usize = 1000;

/// Records whose data sync is looked through at the same time.
const CONCURRENCY: usize = 16;

/// Times a change of an endpoint's health is tried against deliveries that change it too.
const MAX_UPDATE_ATTEMPTS: usize = 16;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Webhook))]
#[derive(Serialize)]
struct WebhookSummary {
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
    created_at: Option<IsoInstant>,
    /// When the secret before the last rotation ceases to sign.
    previous_secret_until: Option<IsoInstant>,
    health: WebhookHealthSummary,
    /// What signs, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookHealth))]
#[derive(Serialize)]
pub(crate) struct WebhookHealthSummary {
    /// `healthy`, `failing`, `parked` (down: events wait, a probe asks now and then) or `disabled`
    /// (events wait until it is enabled).
    status: &'static str,
    failing_since: Option<IsoInstant>,
    last_failure: Option<&'static str>,
    next_probe_at: Option<IsoInstant>,
    paused_until: Option<IsoInstant>,
    /// `gone`, `receiver`, `failing` or `app`.
    disabled_by: Option<&'static str>,
    /// Events that wait for it; above 1000 about.
    parked: u64,
    /// Events that could not be kept waiting; a replay tells of them.
    gap: Option<WebhookGapSummary>,
    /// What came of the last ping; null where none came back yet.
    ping: Option<WebhookPingSummary>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookGap))]
#[derive(Serialize)]
struct WebhookGapSummary {
    from: IsoInstant,
    until: IsoInstant,
    events: u64,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookPing))]
#[derive(Serialize)]
struct WebhookPingSummary {
    at: IsoInstant,
    outcome: String,
    status: Option<u16>,
    latency_ms: u32,
}

impl WebhookHealthSummary {
    /// With what is parked for the endpoint.
    pub(crate) async fn load_for_endpoint(
        request: &ApiRequest,
        endpoint: EndpointId,
        stored: StoredEndpointHealth,
    ) -> Result<Self, ApiError> {
        let counted = if stored.version > 0 {
            let parked = request
                .state
                .store
                .list_parked_events(endpoint, MAX_COUNTED_EVENTS)
                .await?;
            parked.len()
        } else {
            0
        };
        Ok(Self::new(stored, counted))
    }

    fn new(stored: StoredEndpointHealth, counted_events: usize) -> Self {
        let StoredEndpointHealth {
            health,
            parked_count: parked,
            last_ping: ping,
            ..
        } = stored;
        let counted_all = counted_events < MAX_COUNTED_EVENTS;
        let counted = counted_events as u64;
        Self {
            status: match (&health.disabled, health.circuit, health.failing_since) {
                (Some(_), ..) => "disabled",
                (None, EndpointCircuit::Open { .. }, _) => "parked",
                (None, EndpointCircuit::Closed, Some(_)) => "failing",
                (None, EndpointCircuit::Closed, None) => "healthy",
            },
            failing_since: health.failing_since.map(IsoInstant),
            last_failure: health.last_outcome.map(AttemptOutcome::as_str),
            next_probe_at: health.next_probe_at().map(IsoInstant),
            paused_until: health.paused_until.map(IsoInstant),
            disabled_by: health.disabled.map(|disabled| disabled.reason.as_str()),
            parked: if counted_all {
                counted
            } else {
                counted.max(parked)
            },
            gap: health.gap.map(|gap| WebhookGapSummary {
                from: IsoInstant(gap.from),
                until: IsoInstant(gap.until),
                events: gap.events,
            }),
            ping: ping.map(|ping| WebhookPingSummary {
                at: IsoInstant(ping.pinged_at),
                outcome: ping.outcome_class,
                status: ping.status,
                latency_ms: ping.latency_ms,
            }),
        }
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct WebhooksResponse {
    webhooks: Vec<WebhookSummary>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct SigningSecretResponse {
    secret: String,
}

impl WebhookSummary {
    async fn new(
        request: &ApiRequest,
        endpoint: Endpoint,
        secret: Option<&SigningSecrets>,
    ) -> Result<Self, ApiError> {
        let stored = request
            .state
            .store
            .load_endpoint_health(endpoint.id)
            .await?;
        let health = WebhookHealthSummary::load_for_endpoint(request, endpoint.id, stored).await?;
        let is_sync = endpoint.sealed_secrets.is_empty();
        let still = endpoint
            .previous_secret_until
            .filter(|until| *until > request.now());
        Ok(Self {
            id: endpoint.id,
            url: endpoint.url,
            of: match is_sync {
                true => "data_sync",
                false => "endpoint",
            },
            payload: endpoint.payload_mode,
            version: endpoint.body_version,
            products: endpoint.products,
            token: endpoint.sealed_bearer.is_some(),
            events: endpoint.events,
            rate: endpoint
                .events_per_second
                .map_or_else(|| SendRate::default().per_s, u32::from),
            ordered: endpoint.ordered_since.is_some(),
            created_at: (!is_sync).then_some(IsoInstant(endpoint.created_at)),
            previous_secret_until: still.map(IsoInstant),
            health,
            secret: secret.map(|secret| secret.current_secret().to_owned()),
        })
    }
}

fn webhook_error(kind: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, kind, message)
}

/// A URL that cannot be told, and the rule it breaks.
pub(crate) fn rejected_url_error(field: &str, rule: UrlError) -> ApiError {
    let message = format!("{field} is refused: {rule} ({})", rule.rule_name());
    webhook_error("WEBHOOK_URL", message)
}

/// The names of events asked for.
fn parse_event_filters(request: &ApiRequest) -> Result<Option<Vec<String>>, ApiError> {
    let Some(mut names) = request.input.find_texts("events") else {
        return Ok(None);
    };
    names.retain(|name| !name.is_empty());
    if let Some(unknown) = names.iter().find(|name| !is_event_filter(name)) {
        let known = EVENT_NAMES.join(", ");
        let message = format!("events hold {unknown}; known are {known}, family.* and *");
        return Err(webhook_error("UNKNOWN_EVENT", message));
    }
    names.sort_unstable();
    names.dedup();
    Ok(Some(names))
}

/// Events a second asked for.
pub(crate) fn parse_event_rate(request: &ApiRequest) -> Result<Option<u16>, ApiError> {
    let Some(rate) = request.input.parse_number("rate")? else {
        return Ok(None);
    };
    let known = u16::try_from(rate)
        .ok()
        .filter(|rate| SEND_RATE_RANGE.contains(rate));
    let (least, most) = (SEND_RATE_RANGE.start(), SEND_RATE_RANGE.end());
    let problem =
        || ApiError::invalid_field("rate", format!("is {least} to {most} events a second"));
    known.map(Some).ok_or_else(problem)
}

/// Since when an endpoint is told a record's events in order, that told them since `since` until now. What
/// it was not told of before holds nothing up: `changed` says that it is told of others from now on.
fn find_ordering_start(
    request: &ApiRequest,
    since: Option<Timestamp>,
    has_new_events: bool,
) -> Option<Timestamp> {
    let input = &request.input;
    let ordered = input.is_true("ordered") || since.is_some() && !input.is_false("ordered");
    ordered.then(|| {
        since
            .filter(|_| !has_new_events)
            .unwrap_or_else(|| request.now())
    })
}

/// The version of bodies asked for.
fn parse_body_version(request: &ApiRequest) -> Result<Option<BodyVersion>, ApiError> {
    let Some(name) = request.input.find_text(&["version"]) else {
        return Ok(None);
    };
    let problem = || {
        let known = BodyVersion::ALL.map(BodyVersion::as_str).join(", ");
        let message = format!("version {name} is no version of bodies; known are {known}");
        webhook_error("UNKNOWN_VERSION", message)
    };
    BodyVersion::from_name(&name).map(Some).ok_or_else(problem)
}

/// When the secret before a rotation ceases to sign.
fn parse_overlap_end(request: &ApiRequest) -> Result<Timestamp, ApiError> {
    let (usual, most) = DEFAULT_AND_MAX_OVERLAP_HOURS;
    let hours = request
        .input
        .parse_number("overlap_hours")?
        .unwrap_or(usual);
    if hours > most {
        return Err(ApiError::invalid_field(
            "overlap_hours",
            format!("are 0 to {most}"),
        ));
    }
    let overlap = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(0));
    Ok(request.now().checked_add(overlap).unwrap_or(Timestamp::MAX))
}

/// A secret that the app brings along, as its receivers have it already.
fn parse_own_secret(request: &ApiRequest) -> Result<Option<SigningSecrets>, ApiError> {
    let Some(secret) = request.input.find_text(&["secret"]) else {
        return Ok(None);
    };
    let message = "secret is no whsec_ and base64 of 24 to 64 random bytes";
    SigningSecrets::from_imported_text(&secret)
        .map(Some)
        .map_err(|_| webhook_error("INVALID_SECRET", message))
}

/// The endpoint that a call names by its id or URL. A URL need not be an endpoint's: those of data
/// sync are none.
pub(crate) async fn resolve_endpoint_id(request: &ApiRequest) -> Result<EndpointId, ApiError> {
    let app = request.require_app()?.id;
    match request.input.find_text(URL_FIELD) {
        Some(url) => Ok(endpoint_id(app, &url)),
        None => Ok(load_own_endpoint(request).await?.id),
    }
}

/// The endpoint that a call names by its id or URL, or the URL of a data sync of the app's, as an endpoint
/// without secrets of its own.
///
/// By its URL such a one is found where it was told anything, or is not well; else the data sync of the
/// customer named, or of all, is looked through.
pub(crate) async fn load_endpoint_or_data_sync(request: &ApiRequest) -> Result<Endpoint, ApiError> {
    let refused = match load_own_endpoint(request).await {
        Err(refusal) if refusal.is_not_found() => refusal,
        own => return own,
    };
    let (app, store, now) = (
        request.require_app()?.id,
        &request.state.store,
        request.now(),
    );
    if let Some(url) = request
        .input
        .find_text(URL_FIELD)
        .filter(|_| request.input.find_text(&["id"]).is_none())
    {
        let id = endpoint_id(app, &url);
        let times = retained_since(now)..=now;
        let newest = SortOrder::Descending;
        if store.load_endpoint_health(id).await?.version > 0
            || !store
                .list_deliveries(id, times, None, newest, 1)
                .await?
                .is_empty()
        {
            return Ok(endpoint_for_data_sync(app, url));
        }
    }
    let wanted = match request.input.parse_id(&["id"])? {
        Some(id) => id,
        None => endpoint_id(app, &request.input.require_text(URL_FIELD)?),
    };
    let heads = scope::load_app_records(request).await?;
    for heads in heads.chunks(CONCURRENCY) {
        let subscriptions = heads
            .iter()
            .map(|head| store.list_subscriptions(head.record));
        for subscription in try_join_all(subscriptions).await?.concat() {
            if let Some(url) = subscription.webhook_url
                && endpoint_id(app, &url) == wanted
            {
                return Ok(endpoint_for_data_sync(app, url));
            }
        }
    }
    Err(refused)
}

/// The URL of a data sync, as an endpoint.
fn endpoint_for_data_sync(app: AppId, url: String) -> Endpoint {
    Endpoint {
        id: endpoint_id(app, &url),
        app,
        url,
        sealed_secrets: Vec::new(),
        sealed_bearer: None,
        previous_secret_until: None,
        products: Vec::new(),
        events: Vec::new(),
        payload_mode: PayloadMode::default(),
        body_version: BodyVersion::default(),
        ordered_since: None,
        events_per_second: None,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

/// The app's endpoint that a call names by its id or URL.
async fn load_own_endpoint(request: &ApiRequest) -> Result<Endpoint, ApiError> {
    let app = request.require_app()?.id;
    let id = match request.input.parse_id(&["id"])? {
        Some(id) => id,
        None => endpoint_id(app, &request.input.require_text(URL_FIELD)?),
    };
    let endpoint = request.state.store.find_endpoint(app, id).await?;
    endpoint.ok_or_else(|| ApiError::not_found("webhook"))
}

/// Sets an endpoint: `{url, token?, payload?, version?, products?, events?, rate?, ordered?,
/// secret?, rotate?, overlap_hours?}`. An empty `token` takes the token away, `rate: null` the rate.
///
/// Answers the secret that signs where the endpoint is new or `rotate` is set; after a rotation the
/// secret before signs too, for the overlap. Set again, an endpoint keeps what is not given. A new one
/// is sent a signed ping, of which `health.ping` tells.
pub(crate) async fn set_webhook(request: &ApiRequest) -> ApiResponse {
    let (app, state, input) = (request.require_app()?.id, &request.state, &request.input);
    let url = input.require_text(URL_FIELD)?;
    check_endpoint_url(
        &url,
        state.address_policy,
        state.event_bus.as_ref(),
        &state.public_url,
    )
    .map_err(|rule| rejected_url_error("url", rule))?;
    let (events, rate, given) = (
        parse_event_filters(request)?,
        parse_event_rate(request)?,
        parse_own_secret(request)?,
    );
    let payload = match input.find_text(&["payload"]).as_deref() {
        None => None,
        Some("full") => Some(PayloadMode::Full),
        Some("reference") => Some(PayloadMode::Reference),
        Some(_) => return Err(ApiError::invalid_field("payload", "is full or reference")),
    };
    let (products, version) = (input.parse_products()?, parse_body_version(request)?);
    let (no_bearer, no_rate) = (input.is_emptied("token"), input.is_cleared("rate"));
    let bearer = input
        .find_text(&["token"])
        .map(|token| {
            BearerToken::new(&token).map_err(|error| ApiError::invalid_field("token", error))
        })
        .transpose()?;

    let id = endpoint_id(app, &url);
    let bearer = bearer
        .map(|bearer| state.keyring.seal_bearer(id, &bearer))
        .transpose()?;
    let known = state.store.list_endpoints(app).await?;
    let count = known.len();
    let known = known.into_iter().find(|it| it.id == id);
    let is_new = known.is_none();
    let (endpoint, made) = match known {
        Some(mut endpoint) => {
            let made = if input.is_true("rotate") || given.is_some() {
                let known = state.keyring.open_secrets(&endpoint)?;
                let rotated = match &given {
                    Some(given) => known.with_replacement(given),
                    None => known.with_new_secret(&state.random_bytes()?),
                };
                endpoint.previous_secret_until = Some(parse_overlap_end(request)?);
                endpoint.sealed_secrets = state.keyring.seal_secrets(id, &rotated)?;
                Some(rotated)
            } else {
                None
            };
            endpoint.sealed_bearer =
                bearer.or_else(|| endpoint.sealed_bearer.filter(|_| !no_bearer));
            let products = products.unwrap_or_else(|| endpoint.products.clone());
            let events = events.unwrap_or_else(|| endpoint.events.clone());
            let changed = products != endpoint.products || events != endpoint.events;
            endpoint.ordered_since = find_ordering_start(request, endpoint.ordered_since, changed);
            (endpoint.products, endpoint.events) = (products, events);
            endpoint.payload_mode = payload.unwrap_or(endpoint.payload_mode);
            endpoint.body_version = version.unwrap_or(endpoint.body_version);
            endpoint.events_per_second =
                rate.or_else(|| endpoint.events_per_second.filter(|_| !no_rate));
            (endpoint, made)
        }
        // One more than can be read would stop every delivery of the app.
        None if count >= MAX_ENDPOINTS_PER_APP => {
            let problem = format!("is one too many: an app has at most {MAX_ENDPOINTS_PER_APP}");
            return Err(ApiError::invalid_field("url", problem));
        }
        None => {
            let made = match given {
                Some(given) => given,
                None => SigningSecrets::from_entropy(&state.random_bytes()?),
            };
            let endpoint = Endpoint {
                id,
                app,
                url,
                sealed_secrets: state.keyring.seal_secrets(id, &made)?,
                sealed_bearer: bearer,
                previous_secret_until: None,
                products: products.unwrap_or_else(|| Product::ALL.to_vec()),
                events: events.unwrap_or_default(),
                events_per_second: rate,
                payload_mode: payload.unwrap_or_default(),
                body_version: version.unwrap_or(BodyVersion::LATEST),
                ordered_since: find_ordering_start(request, None, false),
                created_at: request.now(),
            };
            (endpoint, Some(made))
        }
    };
    if is_new {
        // Its URL may have been an endpoint before.
        reset_health(request, &endpoint).await?;
    }
    state.store.put_endpoint(&endpoint).await?;
    if is_new {
        state.queues.send_ping(build_ping(&endpoint)).await?;
    }
    success_response(
        "Webhook set successfully",
        WebhookSummary::new(request, endpoint, made.as_ref()).await?,
    )
}

fn build_ping(endpoint: &Endpoint) -> EndpointPing {
    EndpointPing {
        app: endpoint.app,
        endpoint: endpoint.id,
        url: endpoint
            .sealed_secrets
            .is_empty()
            .then(|| endpoint.url.clone()),
    }
}

/// Sends a signed ping to an endpoint; `health.ping` of the list tells what came of it.
pub(crate) async fn test_webhook(request: &ApiRequest) -> ApiResponse {
    let endpoint = load_endpoint_or_data_sync(request).await?;
    request
        .state
        .queues
        .send_ping(build_ping(&endpoint))
        .await?;
    success_response(
        "Ping enqueued successfully",
        WebhookSummary::new(request, endpoint, None).await?,
    )
}

/// Enables an endpoint: what was parked for it is sent.
pub(crate) async fn enable_webhook(request: &ApiRequest) -> ApiResponse {
    let endpoint = load_endpoint_or_data_sync(request).await?;
    let tend = EndpointMaintenance {
        app: endpoint.app,
        endpoint: endpoint.id,
    };
    update_health(request, &endpoint, EndpointHealth::enable_by_app).await?;
    // Also where nothing changed: a call that failed half way is made again.
    request.state.queues.send_maintenances(&[(tend, 0)]).await?;
    success_response(
        "Webhook enabled successfully",
        WebhookSummary::new(request, endpoint, None).await?,
    )
}

/// Disables an endpoint: what is for it is parked until it is enabled, and nothing of it is lost.
pub(crate) async fn disable_webhook(request: &ApiRequest) -> ApiResponse {
    let (endpoint, now) = (load_endpoint_or_data_sync(request).await?, request.now());
    update_health(request, &endpoint, |health| health.disable_by_app(now)).await?;
    success_response(
        "Webhook disabled successfully",
        WebhookSummary::new(request, endpoint, None).await?,
    )
}

/// Forgets that an endpoint ever failed, and sees to what is parked for it.
async fn reset_health(request: &ApiRequest, endpoint: &Endpoint) -> Result<(), ApiError> {
    let stored = request
        .state
        .store
        .load_endpoint_health(endpoint.id)
        .await?;
    if stored.version == 0 {
        return Ok(());
    }
    update_health(request, endpoint, |health| {
        *health = EndpointHealth::default()
    })
    .await?;
    let tend = EndpointMaintenance {
        app: endpoint.app,
        endpoint: endpoint.id,
    };
    Ok(request.state.queues.send_maintenances(&[(tend, 0)]).await?)
}

async fn update_health(
    request: &ApiRequest,
    endpoint: &Endpoint,
    change: impl Fn(&mut EndpointHealth),
) -> Result<(), ApiError> {
    let store = &request.state.store;
    for _ in 0..MAX_UPDATE_ATTEMPTS {
        let mut stored = store.load_endpoint_health(endpoint.id).await?;
        let before = stored.health.clone();
        change(&mut stored.health);
        if stored.health == before {
            return Ok(());
        }
        let put = store.put_endpoint_health(endpoint.app, endpoint.id, &stored, &[], request.now());
        if put.await?.is_some() {
            return Ok(());
        }
    }
    Err(ApiError::retry_later())
}

/// The endpoints, without their secrets; the one named, which may be the URL of a data sync.
pub(crate) async fn list_webhooks(request: &ApiRequest) -> ApiResponse {
    let names = [&["id"], URL_FIELD].concat();
    let endpoints = match request.input.find_text(&names) {
        Some(_) => vec![load_endpoint_or_data_sync(request).await?],
        None => {
            request
                .state
                .store
                .list_endpoints(request.require_app()?.id)
                .await?
        }
    };
    let mut webhooks = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        webhooks.push(WebhookSummary::new(request, endpoint, None).await?);
    }
    success_response(
        "Webhooks retrieved successfully",
        WebhooksResponse { webhooks },
    )
}

/// Removes an endpoint by its id or its URL. What was parked for it is cancelled, and the same URL set
/// again begins as if it had never failed.
pub(crate) async fn remove_webhook(request: &ApiRequest) -> ApiResponse {
    let endpoint = load_own_endpoint(request).await?;
    let shown = WebhookSummary::new(request, endpoint.clone(), None).await?;
    let store = &request.state.store;
    store.delete_endpoint(endpoint.app, endpoint.id).await?;
    reset_health(request, &endpoint).await?;
    success_response("Webhook removed successfully", shown)
}

/// The secret that signs for the URLs of data sync, which have none of their own; a new one with
/// `{rotate: true}`.
pub(crate) async fn get_signing_secret(request: &ApiRequest) -> ApiResponse {
    let (app, state) = (request.require_app()?.id, &request.state);
    let mut secrets = state
        .keyring
        .load_or_create_app_secrets(app, request.now())
        .await?;
    if request.input.is_true("rotate") {
        secrets = secrets.with_new_secret(&state.random_bytes()?);
        let until = parse_overlap_end(request)?;
        state.keyring.put_app_secrets(app, &secrets, until).await?;
    }
    success_response(
        "Signing secret retrieved successfully",
        SigningSecretResponse {
            secret: secrets.current_secret().to_owned(),
        },
    )
}

documented! {
    set_webhook(URL, TOKEN, PAYLOAD, PRODUCTS, WEBHOOK, ROTATE, SECRET_OVERLAP) -> WebhookSummary: "Sets an endpoint, and pings it where it is new.";
    test_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary: "Sends a signed ping to an endpoint.";
    enable_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary: "Enables an endpoint: what was parked for it is sent.";
    disable_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary: "Disables an endpoint: what is for it is parked, and nothing of it is lost.";
    list_webhooks(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhooksResponse: "The endpoints, without their secrets; or one, which may be the URL of a data sync.";
    remove_webhook(make_optional(ID), make_optional(URL)) -> WebhookSummary: "Removes an endpoint by its id or its URL.";
    get_signing_secret(ROTATE, SECRET_OVERLAP) -> SigningSecretResponse: "The secret that signs for the URLs of data sync.";
}
