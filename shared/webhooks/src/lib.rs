//! Webhooks: render, sign, send, record the outcome, retry.
//!
//! [`Deliverer`] delivers what was dispatched to every endpoint that wants it, at least once. It stands on
//! [`WebhookSender`], which makes one attempt at one URL and classifies whatever the receiver does as an
//! [`AttemptOutcome`](okra_core::delivery::retry::AttemptOutcome); on [`Keyring`], which opens the secrets that an
//! endpoint shares with us; and on [`okra_core::delivery`], which decides what is done about a delivery.
//!
//! The rule: no attempt reaches an address that is not public. [`check_url`] rejects URLs that name one, the sender's
//! resolver rejects names that lead to one, and redirects are not followed.

mod cache;
mod deliver;
mod endpoint_url;
mod keyring;
mod random;
mod report;
mod send;
mod signing_secrets;

pub use okra_core::delivery::attempt::{AttemptResponse, ReceiverControl};

pub use self::{
    deliver::{
        BodyFormat, DeliverConfig, DeliverError, Deliverer, RETENTION_S, render_bodies,
        retained_since,
    },
    endpoint_url::{
        BUS_SCHEME, MAX_URL_BYTES, UrlError, check_endpoint_url, check_url, check_webhook_url,
        endpoint_id,
    },
    keyring::{Keyring, KeyringError},
    random::JitterRandom,
    report::{
        AttemptReport, DeliveryObserver, DeliveryOutcome, DispatchReport, MaintenanceOutcome,
        ReplayStepReport, SilentDeliveryObserver, SweepReport,
    },
    send::{
        AddressClass, AddressPolicy, AttemptError, AttemptLimits, HostLookup, SenderError,
        TransportError, TransportReply, TransportRequest, WebhookMessage, WebhookSender,
        WebhookTransport, classify_address,
    },
    signing_secrets::{
        BearerToken, MAX_BEARER_BYTES, MAX_SECRETS, SECRET_BYTES, SecretError, SigningSecrets,
    },
};
