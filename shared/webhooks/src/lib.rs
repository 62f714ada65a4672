//! Webhooks: render, sign, send, record the outcome, retry.
//!
//! [`Deliverer`] takes what was dispatched to every endpoint that wants it, at least once. It stands
//! on [`Sender`], which makes one attempt at one URL and turns whatever the receiver does into an
//! [`okra_core::delivery::retry::Outcome`]; on [`Keyring`], which opens what an endpoint shares with us; and on
//! [`okra_core::delivery::retry`], which says when a failed delivery is tried again.
//!
//! No attempt reaches an address that is not public: [`check_url`] refuses URLs that name one, the
//! sender's resolver refuses names that lead to one, and redirects are not followed.

mod address;
mod cache;
mod deliver;
mod http;
mod keyring;
mod metered;
mod random;
mod report;
mod resolver;
mod secret;
mod sender;
mod sink;
mod target;
mod transport;

pub use self::{
    address::{AddressClass, AddressPolicy, classify_address},
    deliver::{DeliverConfig, DeliverError, Deliverer, RETENTION_S, render_bodies, retained_since},
    keyring::{Keyring, KeyringError},
    random::JitterRandom,
    report::{
        AttemptReport, DeliveryObserver, DeliveryOutcome, DispatchReport, MaintenanceOutcome,
        ReplayStepReport, SilentDeliveryObserver, SweepReport,
    },
    resolver::HostLookup,
    secret::{
        BearerToken, MAX_BEARER_BYTES, MAX_SECRETS, SECRET_BYTES, SecretError, SigningSecrets,
    },
    sender::{
        AttemptError, AttemptLimits, AttemptResponse, ReceiverControl, SenderError, WebhookMessage,
        WebhookSender,
    },
    target::{
        BUS_SCHEME, MAX_URL_BYTES, UrlError, check_endpoint_url, check_url, check_webhook_url,
        endpoint_id,
    },
    transport::{TransportError, TransportReply, TransportRequest, WebhookTransport},
};
