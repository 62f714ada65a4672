//! How a request gets to a receiver: over HTTP, or in tests and simulations over nothing at all.

use std::{error::Error, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::HeaderMap;
use okra_core::retry::Outcome;
use reqwest::{Client, Response, redirect, retry};
use std::time::Duration;
use url::Url;

use crate::{
    address::AddressPolicy,
    resolver::{Blocked, Guarded, Lookup},
    sender::{Limits, SenderError},
};

const USER_AGENT: &str = concat!("okra-sync/", env!("CARGO_PKG_VERSION"));

/// How long a connection is kept for the next event to the same host: shorter than what servers
/// usually grant, so that few attempts meet a connection that is closing.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Idle connections that are kept for one host at most.
const POOL_IDLE_PER_HOST: usize = 32;

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
}

impl Fault {
    /// The class that an attempt ends in for it.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Blocked => Outcome::Blocked,
            Self::Dns => Outcome::Dns,
            Self::Tls => Outcome::Tls,
            Self::Timeout => Outcome::Timeout,
            Self::Connect => Outcome::Connect,
        }
    }
}

/// Carries one request to its receiver and the answer back. It follows no redirect, repeats nothing,
/// and keeps to deadlines and caps of its own.
pub trait Transport: Send + Sync {
    /// Makes the exchange. Whatever the receiver does is a [`Reply`] or a [`Fault`].
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>>;
}

/// HTTP/1.1 over TCP and TLS.
pub(crate) struct HttpTransport {
    client: Client,
    response_bytes: usize,
}

impl HttpTransport {
    pub(crate) fn new(
        lookup: Arc<dyn Lookup>,
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: Limits,
    ) -> Result<Self, SenderError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Guarded {
                lookup,
                policy,
                deadline: limits.resolve,
            })
            .timeout(limits.exchange)
            .connect_timeout(limits.connect)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .http1_ignore_invalid_headers_in_responses(true)
            .user_agent(USER_AGENT)
            .build()
            .map_err(SenderError)?;
        Ok(Self {
            client,
            response_bytes: limits.response_bytes,
        })
    }

    async fn exchange(&self, request: Request) -> Result<Reply, Fault> {
        let post = self.client.post(request.url).headers(request.headers);
        let sent = post.body(request.body).send().await;
        let mut response = sent.map_err(|error| fault_of(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let body = read(&mut response, self.response_bytes).await;
        Ok(Reply {
            status,
            headers,
            body: body.map_err(|error| fault_of(&error)),
        })
    }
}

impl Transport for HttpTransport {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        Box::pin(self.exchange(request))
    }
}

/// Reads the answer to its end, so that the connection can be used again, or to the cap.
async fn read(response: &mut Response, cap: usize) -> Result<Bytes, reqwest::Error> {
    let mut seen = BytesMut::new();
    while seen.len() <= cap {
        match response.chunk().await? {
            Some(chunk) => seen.extend_from_slice(&chunk[..chunk.len().min(cap + 1 - seen.len())]),
            None => break,
        }
    }
    seen.truncate(cap);
    Ok(seen.freeze())
}

/// What a failure was, by the most telling of its causes.
fn fault_of(error: &reqwest::Error) -> Fault {
    if causes(error).any(<dyn Error>::is::<Blocked>) {
        Fault::Blocked
    } else if error.is_dns() {
        Fault::Dns
    } else if causes(error).any(<dyn Error>::is::<rustls::Error>) {
        Fault::Tls
    } else if error.is_timeout() && !error.is_connect() {
        Fault::Timeout
    } else {
        Fault::Connect
    }
}

/// The causes of an error, also those that an [`io::Error`] wraps, which its `source` skips.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        wrapped.or_else(|| error.source())
    })
}
