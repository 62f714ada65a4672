//! Webhooks: render, sign, send, record the outcome, retry.
//!
//! [`Deliverer`] takes what was dispatched to every endpoint that wants it, at least once. It stands
//! on [`Sender`], which makes one attempt at one URL and turns whatever the receiver does into an
//! [`okra_core::retry::Outcome`]; on [`Keyring`], which opens what an endpoint shares with us; and on
//! [`okra_core::retry`], which says when a failed delivery is tried again.
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
    address::{AddressClass, AddressPolicy, classify},
    deliver::{DeliverConfig, DeliverError, Deliverer, RETENTION_S, bodies, retained_since},
    keyring::{Keyring, KeyringError},
    random::Random,
    report::{Attempted, DispatchReport, Observer, Replayed, Silent, SweepReport, Tended, Told},
    resolver::Lookup,
    secret::{Bearer, MAX_BEARER_BYTES, MAX_SECRETS, SECRET_BYTES, SecretError, SigningSecrets},
    sender::{Answer, Control, Limits, Message, SendFault, Sender, SenderError},
    target::{
        BUS_SCHEME, MAX_URL_BYTES, UrlRefused, check_endpoint, check_url, check_webhook,
        endpoint_id,
    },
    transport::{Fault, Reply, Request, Transport},
};
