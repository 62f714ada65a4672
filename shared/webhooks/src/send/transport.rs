//! How a request reaches a receiver: over HTTP, or in tests and simulations without a network.
//!
//! [`WebhookTransport`] carries a [`TransportRequest`] and returns a [`TransportReply`] or a [`TransportError`], within
//! its [`AttemptLimits`].

use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use okra_core::delivery::retry::AttemptOutcome;
use url::Url;

/// The limits of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// The whole exchange, from resolving the name to the last byte that is read.
    pub exchange: Duration,
    /// Resolving the name.
    pub resolve: Duration,
    /// Connecting to one of its addresses.
    pub connect: Duration,
    /// The TLS handshake, besides what the two before left of their time.
    pub tls: Duration,
    /// Bytes of the response body that are read. A longer one is cut, which is no failure.
    pub response_bytes: usize,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self {
            exchange: Duration::from_secs(15),
            resolve: Duration::from_secs(2),
            connect: Duration::from_secs(3),
            tls: Duration::from_secs(5),
            response_bytes: 16 * 1024,
        }
    }
}

/// A sender cannot be built, because its TLS configuration names application protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TLS configuration must not name application protocols")]
pub struct SenderError;

/// A signed POST.
#[derive(Clone, Debug)]
pub struct TransportRequest {
    /// Where to; it passed [`check_url`](crate::check_url).
    pub url: Url,
    /// The headers, with the signature.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Bytes,
}

/// A receiver's response.
#[derive(Clone, Debug)]
pub struct TransportReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's first bytes, as many as the transport's limit allows, or what failed after the headers.
    pub body: Result<Bytes, TransportError>,
}

/// Why there is no complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The host has an address that must not be called. Nothing was sent.
    Blocked,
    /// The host name has no address.
    Dns,
    /// The TLS handshake failed, or the encrypted connection broke after it.
    Tls,
    /// There was no complete response within the deadline.
    Timeout,
    /// There was no connection, it broke, or nobody spoke HTTP on it.
    Connect,
    /// This machine has no file, port or memory left for a connection: our own fault.
    Exhausted,
}

impl TransportError {
    /// The class of an attempt that ends so; `None` where the fault is our own.
    pub const fn attempt_outcome(self) -> Option<AttemptOutcome> {
        match self {
            Self::Blocked => Some(AttemptOutcome::Blocked),
            Self::Dns => Some(AttemptOutcome::Dns),
            Self::Tls => Some(AttemptOutcome::Tls),
            Self::Timeout => Some(AttemptOutcome::Timeout),
            Self::Connect => Some(AttemptOutcome::Connect),
            Self::Exhausted => None,
        }
    }
}

/// Carries one request to its receiver and the response back. It follows no redirect, repeats nothing, and keeps
/// deadlines and limits of its own.
pub trait WebhookTransport: Send + Sync {
    /// Makes the exchange. Whatever the receiver does is a [`TransportReply`] or a [`TransportError`].
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>>;
}
