//! The app's webhook endpoints: extensions; Okra had them in its dashboard.

use okra_core::{feed::PayloadMode, ids::EndpointId, model::Product};
use okra_store::{Endpoint, MAX_ENDPOINTS_PER_APP};
use okra_webhooks::{Bearer, SigningSecrets, check_url, endpoint_id};
use okra_wire::scalar::Instant;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::Names,
};

const URL: Names<'_> = &["url", "webhook_url"];

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Webhook))]
#[derive(Serialize)]
struct Shown {
    id: EndpointId,
    url: String,
    payload: PayloadMode,
    products: Vec<Product>,
    /// Whether a bearer token is sent along.
    token: bool,
    created_at: Instant,
    /// What signs, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
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
    fn new(endpoint: Endpoint, secret: Option<&SigningSecrets>) -> Self {
        Self {
            id: endpoint.id,
            url: endpoint.url,
            payload: endpoint.payload,
            products: endpoint.products,
            token: endpoint.bearer.is_some(),
            created_at: Instant(endpoint.created_at),
            secret: secret.map(|secret| secret.current().to_owned()),
        }
    }
}

/// Sets an endpoint that is told of everything: `{url, token?, payload?, products?, rotate?}`.
///
/// Answers the secret that signs where the endpoint is new or `rotate` is set; after a rotation the
/// secret before signs too. Set again, an endpoint keeps what is not given.
pub(crate) async fn set(call: &Call) -> Answer {
    let (app, state, input) = (call.app()?.id, &call.state, &call.input);
    let url = input.needed_text(URL)?;
    check_url(&url, state.addresses)
        .map_err(|refused| Refusal::field("url", format!("is refused: {refused}")))?;
    let payload = match input.text(&["payload"]).as_deref() {
        None => None,
        Some("full") => Some(PayloadMode::Full),
        Some("reference") => Some(PayloadMode::Reference),
        Some(_) => return Err(Refusal::field("payload", "is full or reference")),
    };
    let products = input.products()?;
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
    let (endpoint, made) = match known {
        Some(mut endpoint) => {
            let made = if input.flag("rotate") {
                let rotated = state.keyring.secrets(&endpoint)?.rotated(&state.random()?);
                endpoint.secrets = state.keyring.seal_secrets(id, &rotated)?;
                Some(rotated)
            } else {
                None
            };
            endpoint.bearer = bearer.or(endpoint.bearer);
            endpoint.products = products.unwrap_or(endpoint.products);
            endpoint.payload = payload.unwrap_or(endpoint.payload);
            (endpoint, made)
        }
        // One more than can be read would stop every delivery of the app.
        None if count >= MAX_ENDPOINTS_PER_APP => {
            let problem = format!("is one too many: an app has at most {MAX_ENDPOINTS_PER_APP}");
            return Err(Refusal::field("url", problem));
        }
        None => {
            let made = SigningSecrets::fresh(&state.random()?);
            let endpoint = Endpoint {
                id,
                app,
                url,
                secrets: state.keyring.seal_secrets(id, &made)?,
                bearer,
                previous_until: None,
                products: products.unwrap_or_else(|| Product::ALL.to_vec()),
                events: Vec::new(),
                rate: None,
                payload: payload.unwrap_or_default(),
                created_at: call.now(),
            };
            (endpoint, Some(made))
        }
    };
    state.store.put_endpoint(&endpoint).await?;
    success(
        "Webhook set successfully",
        Shown::new(endpoint, made.as_ref()),
    )
}

/// The endpoints, without their secrets.
pub(crate) async fn list(call: &Call) -> Answer {
    let endpoints = call.state.store.endpoints(call.app()?.id).await?;
    let webhooks: Vec<Shown> = endpoints
        .into_iter()
        .map(|endpoint| Shown::new(endpoint, None))
        .collect();
    success("Webhooks retrieved successfully", Webhooks { webhooks })
}

/// Removes an endpoint by its id or its URL.
pub(crate) async fn remove(call: &Call) -> Answer {
    let app = call.app()?.id;
    let id = match call.input.id(&["id"])? {
        Some(id) => id,
        None => endpoint_id(app, &call.input.needed_text(URL)?),
    };
    let store = &call.state.store;
    let endpoint = store.endpoint(app, id).await?;
    let endpoint = endpoint.ok_or_else(|| Refusal::not_found("webhook"))?;
    store.delete_endpoint(app, id).await?;
    success("Webhook removed successfully", Shown::new(endpoint, None))
}

/// The secret that signs for the URLs of data sync, which have none of their own; a new one with
/// `{rotate: true}`.
pub(crate) async fn secret(call: &Call) -> Answer {
    let (app, state) = (call.app()?.id, &call.state);
    let mut secrets = state.keyring.app_secrets(app, call.now()).await?;
    if call.input.flag("rotate") {
        secrets = secrets.rotated(&state.random()?);
        state.keyring.put_app_secrets(app, &secrets).await?;
    }
    success(
        "Signing secret retrieved successfully",
        Secret {
            secret: secrets.current().to_owned(),
        },
    )
}

documented! {
    set(URL, TOKEN, PAYLOAD, PRODUCTS, ROTATE) -> Shown: "Sets an endpoint that is told of everything.";
    list() -> Webhooks: "The endpoints, without their secrets.";
    remove(optional(ID), optional(URL)) -> Shown: "Removes an endpoint by its id or its URL.";
    secret(ROTATE) -> Secret: "The secret that signs for the URLs of data sync.";
}
