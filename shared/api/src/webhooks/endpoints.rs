//! The calls on an app's webhook endpoints: extensions; Okra had them in its dashboard. What they do is in
//! [`okra_app::endpoints`] and [`okra_app::endpoint_health`].

use axum::http::StatusCode;
use okra_app::{
    endpoint_health::EndpointHealthDetails,
    endpoint_lookup::EndpointSelector,
    endpoints::{EndpointDetails, FieldUpdate, SecretUpdate, SetEndpointRequest, check_event_rate},
};
use okra_core::{
    delivery::retry::AttemptOutcome,
    model::{
        ids::{CustomerId, EndpointId},
        snapshot::Product,
    },
    resilience::rate_limiter::SendRate,
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_webhooks::{BearerToken, SigningSecrets};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    input::{CUSTOMER, FieldNames},
    request::ApiRequest,
};

const URL_FIELD: FieldNames<'_> = &["url", "webhook_url"];

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Webhook))]
#[derive(Serialize)]
struct WebhookSummary {
    id: EndpointId,
    url: String,
    /// `endpoint`, or `data_sync`: the URL of a data sync that is not a registered endpoint. It receives the products
    /// that `data-sync/list` names, signed with the app's own secret.
    of: &'static str,
    payload: PayloadMode,
    /// The version of its bodies: the latest when it was registered, unless it was set to another.
    version: BodyVersion,
    products: Vec<Product>,
    /// Whether a bearer token is sent along.
    token: bool,
    /// The names of the events it receives, or `family.*`; empty: all events of records.
    events: Vec<String>,
    /// Events a second at most.
    rate: u32,
    /// Whether the events of a record are delivered one after another.
    ordered: bool,
    /// Null for the URL of a data sync.
    created_at: Option<IsoInstant>,
    /// Until when the secret before the last rotation signs too.
    previous_secret_until: Option<IsoInstant>,
    health: WebhookHealthSummary,
    /// The signing secret, where it was just created.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebhookHealth))]
#[derive(Serialize)]
pub(crate) struct WebhookHealthSummary {
    /// `healthy`, `failing`, `parked` (down: events are parked, and a probe is sent now and then) or `disabled`
    /// (events are parked until it is enabled).
    status: &'static str,
    failing_since: Option<IsoInstant>,
    last_failure: Option<&'static str>,
    next_probe_at: Option<IsoInstant>,
    paused_until: Option<IsoInstant>,
    /// `gone`, `receiver`, `failing` or `app`.
    disabled_by: Option<&'static str>,
    /// Events parked for it; above 1000 an estimate.
    parked: u64,
    /// Events that could not be parked; a replay delivers them.
    gap: Option<WebhookGapSummary>,
    /// The outcome of the last ping; null before the first.
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

impl From<EndpointHealthDetails> for WebhookHealthSummary {
    fn from(details: EndpointHealthDetails) -> Self {
        let health = details.health;
        Self {
            status: health.status().as_str(),
            failing_since: health.failing_since().map(IsoInstant),
            last_failure: health.last_outcome.map(AttemptOutcome::as_str),
            next_probe_at: health.next_probe_at().map(IsoInstant),
            paused_until: health.paused_until.map(IsoInstant),
            disabled_by: health.disabled.map(|disabled| disabled.reason.as_str()),
            parked: details.parked_count,
            gap: health.gap.map(|gap| WebhookGapSummary {
                from: IsoInstant(gap.from),
                until: IsoInstant(gap.until),
                events: gap.events,
            }),
            ping: details.last_ping.map(|ping| WebhookPingSummary {
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
    fn new(
        request: &ApiRequest,
        details: EndpointDetails,
        new_secrets: Option<&SigningSecrets>,
    ) -> Self {
        let EndpointDetails { endpoint, health } = details;
        let is_sync_url = endpoint.sealed_secrets.is_empty();
        let previous_secret_until = endpoint
            .previous_secret_until
            .filter(|until| *until > request.now());
        Self {
            id: endpoint.id,
            url: endpoint.url,
            of: match is_sync_url {
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
            created_at: (!is_sync_url).then_some(IsoInstant(endpoint.created_at)),
            previous_secret_until: previous_secret_until.map(IsoInstant),
            health: health.into(),
            secret: new_secrets.map(|secrets| secrets.current_secret().to_owned()),
        }
    }
}

/// The endpoint that a request names by its id or, without one, by its URL.
pub(crate) fn parse_endpoint_selector(request: &ApiRequest) -> Result<EndpointSelector, ApiError> {
    match request.input.parse_id(&["id"])? {
        Some(id) => Ok(EndpointSelector::Id(id)),
        None => Ok(EndpointSelector::Url(
            request.input.require_text(URL_FIELD)?,
        )),
    }
}

/// The endpoint that a request names by its URL or, without one, by its id.
pub(crate) fn parse_log_selector(request: &ApiRequest) -> Result<EndpointSelector, ApiError> {
    match request.input.find_text(URL_FIELD) {
        Some(url) => Ok(EndpointSelector::Url(url)),
        None => parse_endpoint_selector(request),
    }
}

/// The customer whose data syncs are searched for a URL, where the request names one.
pub(crate) fn find_sync_customer(request: &ApiRequest) -> Result<Option<CustomerId>, ApiError> {
    match request.input.is_given(CUSTOMER) {
        true => request.input.require_id(CUSTOMER).map(Some),
        false => Ok(None),
    }
}

/// Events a second, where the request names them.
pub(crate) fn parse_event_rate(request: &ApiRequest) -> Result<Option<u16>, ApiError> {
    let rate = request.input.parse_number("rate")?;
    Ok(rate.map(check_event_rate).transpose()?)
}

fn parse_payload_mode(request: &ApiRequest) -> Result<Option<PayloadMode>, ApiError> {
    match request.input.find_text(&["payload"]).as_deref() {
        None => Ok(None),
        Some("full") => Ok(Some(PayloadMode::Full)),
        Some("reference") => Ok(Some(PayloadMode::Reference)),
        Some(_) => Err(ApiError::invalid_field(
            "payload",
            "must be full or reference",
        )),
    }
}

fn parse_body_version(request: &ApiRequest) -> Result<Option<BodyVersion>, ApiError> {
    let Some(name) = request.input.find_text(&["version"]) else {
        return Ok(None);
    };
    BodyVersion::from_name(&name).map(Some).ok_or_else(|| {
        let known = BodyVersion::ALL.map(BodyVersion::as_str).join(", ");
        let message = format!("version {name} is unknown; known are {known}");
        ApiError::new(StatusCode::BAD_REQUEST, "UNKNOWN_VERSION", message)
    })
}

/// The bearer token: an empty text takes it away.
fn parse_bearer_update(request: &ApiRequest) -> Result<FieldUpdate<BearerToken>, ApiError> {
    match request.input.find_text(&["token"]) {
        Some(token) => BearerToken::new(&token)
            .map(FieldUpdate::Set)
            .map_err(|error| ApiError::invalid_field("token", error)),
        None if request.input.is_emptied("token") => Ok(FieldUpdate::Clear),
        None => Ok(FieldUpdate::Keep),
    }
}

/// Events a second: null takes the limit away.
fn parse_rate_update(request: &ApiRequest) -> Result<FieldUpdate<u16>, ApiError> {
    match parse_event_rate(request)? {
        Some(rate) => Ok(FieldUpdate::Set(rate)),
        None if request.input.is_cleared("rate") => Ok(FieldUpdate::Clear),
        None => Ok(FieldUpdate::Keep),
    }
}

/// The secret: one that the app's receivers have already, or a new one with `rotate`.
fn parse_secret_update(request: &ApiRequest) -> Result<SecretUpdate, ApiError> {
    match request.input.find_text(&["secret"]) {
        Some(secret) => SigningSecrets::from_imported_text(&secret)
            .map(SecretUpdate::Import)
            .map_err(|_| {
                let message = "secret must be whsec_ and base64 of 24 to 64 random bytes";
                ApiError::new(StatusCode::BAD_REQUEST, "INVALID_SECRET", message)
            }),
        None if request.input.is_true("rotate") => Ok(SecretUpdate::Rotate),
        None => Ok(SecretUpdate::Keep),
    }
}

/// `{url, token?, payload?, version?, products?, events?, rate?, ordered?, secret?, rotate?, overlap_hours?}`.
fn parse_set_endpoint_request(request: &ApiRequest) -> Result<SetEndpointRequest, ApiError> {
    let input = &request.input;
    let is_ordered = match (input.is_true("ordered"), input.is_false("ordered")) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    Ok(SetEndpointRequest {
        url: input.require_text(URL_FIELD)?,
        bearer: parse_bearer_update(request)?,
        payload_mode: parse_payload_mode(request)?,
        body_version: parse_body_version(request)?,
        products: input.parse_products()?,
        events: input.find_texts("events"),
        events_per_second: parse_rate_update(request)?,
        is_ordered,
        secret: parse_secret_update(request)?,
        overlap_hours: input.parse_number("overlap_hours")?,
    })
}

pub(crate) async fn set_webhook(request: &ApiRequest) -> ApiResponse {
    let wanted = parse_set_endpoint_request(request)?;
    let update = request.scope()?.set_endpoint(wanted).await?;
    success_response(
        "Webhook set successfully",
        WebhookSummary::new(request, update.details, update.new_secrets.as_ref()),
    )
}

pub(crate) async fn test_webhook(request: &ApiRequest) -> ApiResponse {
    let (selector, scope) = (parse_endpoint_selector(request)?, request.scope()?);
    let customer = find_sync_customer(request)?;
    let endpoint = scope.ping_endpoint(&selector, customer).await?;
    let details = scope.describe_endpoint(endpoint).await?;
    let summary = WebhookSummary::new(request, details, None);
    success_response("Ping enqueued successfully", summary)
}

pub(crate) async fn enable_webhook(request: &ApiRequest) -> ApiResponse {
    let (selector, scope) = (parse_endpoint_selector(request)?, request.scope()?);
    let customer = find_sync_customer(request)?;
    let endpoint = scope.enable_endpoint(&selector, customer).await?;
    let details = scope.describe_endpoint(endpoint).await?;
    let summary = WebhookSummary::new(request, details, None);
    success_response("Webhook enabled successfully", summary)
}

pub(crate) async fn disable_webhook(request: &ApiRequest) -> ApiResponse {
    let (selector, scope) = (parse_endpoint_selector(request)?, request.scope()?);
    let customer = find_sync_customer(request)?;
    let endpoint = scope.disable_endpoint(&selector, customer).await?;
    let details = scope.describe_endpoint(endpoint).await?;
    let summary = WebhookSummary::new(request, details, None);
    success_response("Webhook disabled successfully", summary)
}

pub(crate) async fn list_webhooks(request: &ApiRequest) -> ApiResponse {
    let names = [&["id"], URL_FIELD].concat();
    let scope = request.scope()?;
    let endpoints = match request.input.find_text(&names) {
        Some(_) => {
            let selector = parse_endpoint_selector(request)?;
            let customer = find_sync_customer(request)?;
            let endpoint = scope.load_endpoint_or_sync_url(&selector, customer).await?;
            vec![scope.describe_endpoint(endpoint).await?]
        }
        None => scope.list_endpoints().await?,
    };
    let webhooks = endpoints
        .into_iter()
        .map(|details| WebhookSummary::new(request, details, None));
    let webhooks = webhooks.collect();
    success_response(
        "Webhooks retrieved successfully",
        WebhooksResponse { webhooks },
    )
}

pub(crate) async fn remove_webhook(request: &ApiRequest) -> ApiResponse {
    let selector = parse_endpoint_selector(request)?;
    let details = request.scope()?.remove_endpoint(&selector).await?;
    let summary = WebhookSummary::new(request, details, None);
    success_response("Webhook removed successfully", summary)
}

pub(crate) async fn get_signing_secret(request: &ApiRequest) -> ApiResponse {
    let scope = request.scope()?;
    let secrets = match request.input.is_true("rotate") {
        true => {
            let overlap_hours = request.input.parse_number("overlap_hours")?;
            scope.rotate_sync_secret(overlap_hours).await?
        }
        false => scope.load_sync_secrets().await?,
    };
    let secret = secrets.current_secret().to_owned();
    success_response(
        "Signing secret retrieved successfully",
        SigningSecretResponse { secret },
    )
}

routes! {
    Change Key [Ours "webhooks/set"] => set_webhook(URL, TOKEN, PAYLOAD, PRODUCTS, WEBHOOK, ROTATE, SECRET_OVERLAP) -> WebhookSummary:
        "Registers a webhook endpoint or changes one, and returns it; a new one is pinged, and its signing secret is returned.";
    Change Key [Ours "webhooks/test"] => test_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary:
        "Sends a signed ping to an endpoint; its outcome appears in health.ping.";
    Change Key [Ours "webhooks/enable"] => enable_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary:
        "Enables an endpoint and delivers the events that are parked for it.";
    Change Key [Ours "webhooks/disable"] => disable_webhook(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhookSummary:
        "Disables an endpoint; its events are parked until it is enabled.";
    Post Key [Ours "webhooks/list"] => list_webhooks(make_optional(ID), make_optional(URL), make_optional(CUSTOMER)) -> WebhooksResponse:
        "Lists the endpoints without their secrets, or returns the one that is named, which may be the URL of a data sync.";
    Change Key [Ours "webhooks/remove"] => remove_webhook(make_optional(ID), make_optional(URL)) -> WebhookSummary:
        "Removes an endpoint and cancels the events that are parked for it.";
    Change Key [Ours "webhooks/secret"] => get_signing_secret(ROTATE, SECRET_OVERLAP) -> SigningSecretResponse:
        "Returns the secret that signs webhooks to the URLs of data sync, or replaces it.";
}
