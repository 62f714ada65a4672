//! Sending: one signed POST to one URL, which may be hostile.
//!
//! [`sender`] makes an attempt of a message, over a [`transport`]: [`http`], with its own [`resolver`] and [`metered`]
//! connections, or an event bus ([`bus_sink`]). The rule: no attempt reaches an [`address`] that is not public, nothing
//! that a receiver does is an error, and everything that is read of it is bounded.

mod address;
mod bus_sink;
mod http;
mod metered;
mod resolver;
mod sender;
mod transport;

pub use self::{
    address::{AddressClass, AddressPolicy, classify_address},
    resolver::HostLookup,
    sender::{AttemptError, WebhookMessage, WebhookSender},
    transport::{
        AttemptLimits, SenderError, TransportError, TransportReply, TransportRequest,
        WebhookTransport,
    },
};
