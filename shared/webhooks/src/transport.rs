//! How a request gets to a receiver: over HTTP, or in tests and simulations over nothing at all.

use ::http::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use okra_core::delivery::retry::AttemptOutcome;
use url::Url;

/// A signed POST, ready to go.
#[derive(Clone, Debug)]
pub struct TransportRequest {
    /// Where to; it passed [`check_url`](crate::check_url).
    pub url: Url,
    /// The headers that are ours, with the signature.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Bytes,
}

/// What the receiver said.
#[derive(Clone, Debug)]
pub struct TransportReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's first bytes, as many as the transport's cap allows, or what went wrong after the
    /// headers.
    pub body: Result<Bytes, TransportError>,
}

/// What went wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The host has an address that must not be called. Nothing was sent.
    Blocked,
    /// The host name has no address.
    Dns,
    /// The TLS handshake failed, or the connection was not kept secret after it.
    Tls,
    /// No complete answer within the deadline.
    Timeout,
    /// No connection, one that broke, or one on which nobody speaks HTTP.
    Connect,
    /// This machine has no file, port or memory left for a connection: our own fault.
    Exhausted,
}

impl TransportError {
    /// The class that an attempt ends in for it; none where it is our own.
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

/// Carries one request to its receiver and the answer back. It follows no redirect, repeats nothing,
/// and keeps to deadlines and caps of its own.
pub trait WebhookTransport: Send + Sync {
    /// Makes the exchange. Whatever the receiver does is a [`Reply`] or a [`Fault`].
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>>;
}
