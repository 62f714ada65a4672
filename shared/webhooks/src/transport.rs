//! How a request gets to a receiver: over HTTP, or in tests and simulations over nothing at all.

use ::http::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use okra_core::retry::Outcome;
use url::Url;

/// A signed POST, ready to go.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to; it passed [`check_url`](crate::check_url).
    pub url: Url,
    /// The headers that are ours, with the signature.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Bytes,
}

/// What the receiver said.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's first bytes, as many as the transport's cap allows, or what went wrong after the
    /// headers.
    pub body: Result<Bytes, Fault>,
}

/// What went wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
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

impl Fault {
    /// The class that an attempt ends in for it; none where it is our own.
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Blocked => Some(Outcome::Blocked),
            Self::Dns => Some(Outcome::Dns),
            Self::Tls => Some(Outcome::Tls),
            Self::Timeout => Some(Outcome::Timeout),
            Self::Connect => Some(Outcome::Connect),
            Self::Exhausted => None,
        }
    }
}

/// Carries one request to its receiver and the answer back. It follows no redirect, repeats nothing,
/// and keeps to deadlines and caps of its own.
pub trait Transport: Send + Sync {
    /// Makes the exchange. Whatever the receiver does is a [`Reply`] or a [`Fault`].
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>>;
}
