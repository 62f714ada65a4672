//! An app's webhook endpoints: set ([`SetEndpointRequest`]), listed ([`EndpointDetails`]), removed; and the secret that
//! signs for the URLs of data sync, which have none of their own.
//!
//! The rule: an endpoint that is set again keeps what the request does not mention. A secret is returned only where it
//! was just made; after a rotation the one before signs too, for the overlap.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{ids::EndpointId, snapshot::Product},
    resilience::rate_limiter::SEND_RATE_RANGE,
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_store::Endpoint;
use okra_webhooks::{BearerToken, SigningSecrets, check_endpoint_url, endpoint_id};
use okra_wire::webhook::{EVENT_NAMES, is_event_filter};

use crate::{
    app_scope::AppScope, endpoint_health::EndpointHealthDetails, endpoint_lookup::EndpointSelector,
    error::AppError,
};

/// Hours for which the secret before a rotation signs too, unless the request says otherwise.
const DEFAULT_OVERLAP_H: u64 = 24;

/// Most hours for which the secret before a rotation signs too.
const MAX_OVERLAP_H: u64 = 7 * 24;

/// What a request does with an optional field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldUpdate<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is removed.
    Clear,
    /// It is set to this.
    Set(T),
}

impl<T> FieldUpdate<T> {
    /// The field after the request.
    pub fn apply_to(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// What a request does with the secret of an endpoint.
#[derive(Default)]
pub enum SecretUpdate {
    /// It stays; a new endpoint gets a random one.
    #[default]
    Keep,
    /// It is replaced by a random one.
    Rotate,
    /// It is replaced by one that the app's receivers have already.
    Import(SigningSecrets),
}

/// An endpoint as an app wants it; absent fields stay as they are, or get their default on a new endpoint.
#[derive(Default)]
pub struct SetEndpointRequest {
    /// The URL, which is what identifies an endpoint.
    pub url: String,
    /// The token that is sent along.
    pub bearer: FieldUpdate<BearerToken>,
    /// Whether bodies carry the resource or its id; by default the resource.
    pub payload_mode: Option<PayloadMode>,
    /// The version of bodies; by default the latest.
    pub body_version: Option<BodyVersion>,
    /// The products; by default all.
    pub products: Option<Vec<Product>>,
    /// Names of events, or `family.*`; none: all that records bring. By default none.
    pub events: Option<Vec<String>>,
    /// Events a second at most.
    pub events_per_second: FieldUpdate<u16>,
    /// Whether the events of a record are delivered one after another; by default not.
    pub is_ordered: Option<bool>,
    /// The secret that signs.
    pub secret: SecretUpdate,
    /// Hours for which the secret before signs too, 0 to 168; by default 24.
    pub overlap_hours: Option<u64>,
}

/// An endpoint, and how it does.
pub struct EndpointDetails {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// How it does.
    pub health: EndpointHealthDetails,
}

/// An endpoint that was set.
pub struct EndpointUpdate {
    /// The endpoint, and how it does.
    pub details: EndpointDetails,
    /// What signs, where it was just made.
    pub new_secrets: Option<SigningSecrets>,
}

impl AppScope {
    /// The endpoints of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn list_endpoints(&self) -> Result<Vec<EndpointDetails>, AppError> {
        let endpoints = self.store().list_endpoints(self.app().id).await?;
        let mut details = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            details.push(self.describe_endpoint(endpoint).await?);
        }
        Ok(details)
    }

    /// An endpoint of the app, with its health.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn describe_endpoint(&self, endpoint: Endpoint) -> Result<EndpointDetails, AppError> {
        let health = self.load_endpoint_health(endpoint.id).await?;
        Ok(EndpointDetails { endpoint, health })
    }

    /// Sets an endpoint, and pings it where it is new.
    ///
    /// # Errors
    ///
    /// [`AppError::RejectedUrl`], [`AppError::UnknownEvent`], [`AppError::Invalid`] for an overlap out of range,
    /// [`AppError::LimitReached`] for one endpoint too many.
    pub async fn set_endpoint(
        &self,
        mut request: SetEndpointRequest,
    ) -> Result<EndpointUpdate, AppError> {
        // Check the request before anything is written.
        let services = self.services();
        check_endpoint_url(
            &request.url,
            services.address_policy,
            services.event_bus.as_ref(),
            &services.public_url,
        )
        .map_err(|rule| AppError::RejectedUrl { field: "url", rule })?;
        request.events = request.events.map(normalise_event_filters).transpose()?;
        // Change the endpoint with that URL, or make one.
        let id = endpoint_id(self.app().id, &request.url);
        let endpoints = self.store().list_endpoints(self.app().id).await?;
        let existing = endpoints.into_iter().find(|it| it.id == id);
        let is_new = existing.is_none();
        let (endpoint, new_secrets) = match existing {
            Some(endpoint) => self.change_endpoint(endpoint, request)?,
            None => self.build_endpoint(id, request)?,
        };
        // Store it; a new one is pinged.
        if is_new {
            // Its URL may have been an endpoint before.
            self.reset_endpoint_health(&endpoint).await?;
        }
        self.store().put_endpoint(&endpoint).await?;
        if is_new {
            self.send_ping(&endpoint).await?;
        }
        Ok(EndpointUpdate {
            details: self.describe_endpoint(endpoint).await?,
            new_secrets,
        })
    }

    /// An endpoint after a request, and its secrets where they were replaced.
    fn change_endpoint(
        &self,
        mut endpoint: Endpoint,
        request: SetEndpointRequest,
    ) -> Result<(Endpoint, Option<SigningSecrets>), AppError> {
        let keyring = self.services().keyring();
        let secrets = match request.secret {
            SecretUpdate::Keep => None,
            SecretUpdate::Rotate => {
                let before = keyring.open_secrets(&endpoint)?;
                Some(before.with_new_secret(&self.services().random_bytes()?))
            }
            SecretUpdate::Import(secrets) => {
                let before = keyring.open_secrets(&endpoint)?;
                Some(before.with_replacement(&secrets))
            }
        };
        if let Some(secrets) = &secrets {
            endpoint.previous_secret_until = Some(self.find_overlap_end(request.overlap_hours)?);
            endpoint.sealed_secrets = keyring.seal_secrets(endpoint.id, secrets)?;
        }
        endpoint.sealed_bearer = match request.bearer {
            FieldUpdate::Keep => endpoint.sealed_bearer,
            FieldUpdate::Clear => None,
            FieldUpdate::Set(bearer) => Some(keyring.seal_bearer(endpoint.id, &bearer)?),
        };
        let products = request
            .products
            .unwrap_or_else(|| endpoint.products.clone());
        let events = request.events.unwrap_or_else(|| endpoint.events.clone());
        let has_new_events = products != endpoint.products || events != endpoint.events;
        endpoint.ordered_since =
            self.find_ordering_start(request.is_ordered, endpoint.ordered_since, has_new_events);
        (endpoint.products, endpoint.events) = (products, events);
        endpoint.payload_mode = request.payload_mode.unwrap_or(endpoint.payload_mode);
        endpoint.body_version = request.body_version.unwrap_or(endpoint.body_version);
        endpoint.events_per_second = request
            .events_per_second
            .apply_to(endpoint.events_per_second);
        Ok((endpoint, secrets))
    }

    /// A new endpoint, and its secrets.
    fn build_endpoint(
        &self,
        id: EndpointId,
        request: SetEndpointRequest,
    ) -> Result<(Endpoint, Option<SigningSecrets>), AppError> {
        let keyring = self.services().keyring();
        let secrets = match request.secret {
            SecretUpdate::Import(secrets) => secrets,
            SecretUpdate::Keep | SecretUpdate::Rotate => {
                SigningSecrets::from_entropy(&self.services().random_bytes()?)
            }
        };
        let bearer = match request.bearer {
            FieldUpdate::Set(bearer) => Some(keyring.seal_bearer(id, &bearer)?),
            FieldUpdate::Keep | FieldUpdate::Clear => None,
        };
        let endpoint = Endpoint {
            id,
            app: self.app().id,
            url: request.url,
            sealed_secrets: keyring.seal_secrets(id, &secrets)?,
            sealed_bearer: bearer,
            previous_secret_until: None,
            products: request.products.unwrap_or_else(|| Product::ALL.to_vec()),
            events: request.events.unwrap_or_default(),
            events_per_second: request.events_per_second.apply_to(None),
            payload_mode: request.payload_mode.unwrap_or_default(),
            body_version: request.body_version.unwrap_or(BodyVersion::LATEST),
            ordered_since: self.find_ordering_start(request.is_ordered, None, false),
            created_at: self.now(),
        };
        Ok((endpoint, Some(secrets)))
    }

    /// Since when the events of a record are delivered in order to an endpoint that had them in order since `since`.
    /// Events that it did not receive before cannot hold up others, so with new filters the order begins anew.
    fn find_ordering_start(
        &self,
        is_ordered: Option<bool>,
        since: Option<Timestamp>,
        has_new_events: bool,
    ) -> Option<Timestamp> {
        match is_ordered.unwrap_or_else(|| since.is_some()) {
            false => None,
            true => since
                .filter(|_| !has_new_events)
                .or_else(|| Some(self.now())),
        }
    }

    /// Removes an endpoint; what is parked for it is cancelled. Returns it as it was.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has no endpoint with that id or URL.
    pub async fn remove_endpoint(
        &self,
        selector: &EndpointSelector,
    ) -> Result<EndpointDetails, AppError> {
        let endpoint = self.load_own_endpoint(selector).await?;
        let details = self.describe_endpoint(endpoint).await?;
        let endpoint = &details.endpoint;
        let store = self.store();
        store.delete_endpoint(endpoint.app, endpoint.id).await?;
        // The same URL, set again, begins as if it had never failed.
        self.reset_endpoint_health(endpoint).await?;
        Ok(details)
    }

    /// The secrets that sign for the URLs of data sync.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where they cannot be read or made.
    pub async fn load_sync_secrets(&self) -> Result<SigningSecrets, AppError> {
        let keyring = self.services().keyring();
        let secrets = keyring.load_or_create_app_secrets(self.app().id, self.now());
        Ok(secrets.await?)
    }

    /// Replaces the secret that signs for the URLs of data sync; the one before signs too, for the overlap of 0 to 168
    /// hours, by default 24.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] for an overlap out of range.
    pub async fn rotate_sync_secret(
        &self,
        overlap_hours: Option<u64>,
    ) -> Result<SigningSecrets, AppError> {
        let secrets = self.load_sync_secrets().await?;
        let secrets = secrets.with_new_secret(&self.services().random_bytes()?);
        let until = self.find_overlap_end(overlap_hours)?;
        let keyring = self.services().keyring();
        keyring
            .put_app_secrets(self.app().id, &secrets, until)
            .await?;
        Ok(secrets)
    }

    /// When the secret before a rotation ceases to sign.
    fn find_overlap_end(&self, overlap_hours: Option<u64>) -> Result<Timestamp, AppError> {
        let hours = overlap_hours.unwrap_or(DEFAULT_OVERLAP_H);
        let overlap = i64::try_from(hours).ok().filter(|_| hours <= MAX_OVERLAP_H);
        let overlap = overlap.map(SignedDuration::from_hours).ok_or_else(|| {
            AppError::invalid_field("overlap_hours", format!("must be 0 to {MAX_OVERLAP_H}"))
        })?;
        self.now().checked_add(overlap).map_err(AppError::internal)
    }
}

/// Event filters, each once and in order; one that names no event is refused.
fn normalise_event_filters(mut names: Vec<String>) -> Result<Vec<String>, AppError> {
    names.retain(|name| !name.is_empty());
    if let Some(unknown) = names.iter().find(|name| !is_event_filter(name)) {
        return Err(AppError::UnknownEvent {
            name: unknown.clone(),
            known: EVENT_NAMES.join(", "),
        });
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A number of events a second, where it is allowed.
///
/// # Errors
///
/// [`AppError::Invalid`] where it is not.
pub fn check_event_rate(events_per_second: u64) -> Result<u16, AppError> {
    let rate = u16::try_from(events_per_second).ok();
    rate.filter(|rate| SEND_RATE_RANGE.contains(rate))
        .ok_or_else(|| {
            let (least, most) = (SEND_RATE_RANGE.start(), SEND_RATE_RANGE.end());
            let problem = format!("must be {least} to {most} events a second");
            AppError::invalid_field("rate", problem)
        })
}
