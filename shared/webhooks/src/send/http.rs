//! HTTP/1.1 over TCP and TLS, to receivers that may be hostile.
//!
//! [`HttpTransport`] is a client whose connections are opened by a [`DeadlineConnector`] over a [`GuardedDialler`]. The
//! rule: the address that is dialled, and the peer that is connected, are checked and not only the name.

use std::{error::Error, io, net::IpAddr, sync::Arc, task, task::Poll, time::Duration};

use ::http::{HeaderValue, Method, Uri, header::USER_AGENT};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpStream, time::timeout};
use tower::Service;

use super::{
    address::AddressPolicy,
    metered::{MeteredStream, ReadLimitError},
    resolver::{BlockedAddressError, GuardedResolver, HostLookup, UnresolvedHostError},
    transport::{
        AttemptLimits, SenderError, TransportError, TransportReply, TransportRequest,
        WebhookTransport,
    },
};

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("okra-sync/", env!("CARGO_PKG_VERSION")));

/// How long an idle connection is kept for the next event to the same host: shorter than what servers usually grant, so
/// that few attempts use a connection that is closing.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Idle connections that are kept for one host at most.
const POOL_IDLE_PER_HOST: usize = 32;

/// Bytes of a response's head at most, and of what is buffered of its body.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long one address of a name is tried before another family is tried beside it.
const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(300);

type BoxError = Box<dyn Error + Send + Sync>;

/// Opens connections within a deadline.
#[derive(Clone)]
struct DeadlineConnector {
    https: HttpsConnector<GuardedDialler>,
    deadline: Duration,
}

/// Opens TCP connections to addresses that may be called.
#[derive(Clone)]
struct GuardedDialler {
    tcp: HttpConnector<GuardedHyperResolver>,
    policy: AddressPolicy,
}

#[derive(Clone)]
struct GuardedHyperResolver(Arc<GuardedResolver>);

/// A connection was not opened within the time that [`AttemptLimits`] allow for its parts.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection within the deadline")]
struct ConnectTimeoutError;

pub(crate) struct HttpTransport {
    client: Client<DeadlineConnector, Full<Bytes>>,
    limits: AttemptLimits,
}

impl HttpTransport {
    pub(crate) fn new(
        lookup: Arc<dyn HostLookup>,
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: AttemptLimits,
    ) -> Result<Self, SenderError> {
        if !tls.alpn_protocols.is_empty() {
            return Err(SenderError);
        }
        let guarded = GuardedResolver {
            lookup,
            policy,
            deadline: limits.resolve,
        };
        let mut tcp = HttpConnector::new_with_resolver(GuardedHyperResolver(Arc::new(guarded)));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits.connect));
        tcp.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS_DELAY));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(GuardedDialler { tcp, policy });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_ignore_invalid_headers_in_responses(true)
            .build(DeadlineConnector {
                https,
                deadline: limits.resolve + limits.connect + limits.tls,
            });
        Ok(Self { client, limits })
    }

    async fn exchange_request(
        &self,
        request: TransportRequest,
    ) -> Result<TransportReply, TransportError> {
        let uri = Uri::try_from(request.url.as_str()).map_err(|_| TransportError::Blocked)?;
        let mut post = ::http::Request::new(Full::new(request.body));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = uri;
        *post.headers_mut() = request.headers;
        post.headers_mut().insert(USER_AGENT, USER_AGENT_VALUE);
        let started = tokio::time::Instant::now();
        let deadline = started + self.limits.exchange;
        let responded = tokio::time::timeout_at(deadline, self.client.request(post)).await;
        let response = responded
            .map_err(|_| TransportError::Timeout)?
            .map_err(|error| classify_failure(&error))?;
        let (head, mut body) = response.into_parts();
        let read = read_body(&mut body, self.limits.response_bytes);
        let body = tokio::time::timeout_at(deadline, read).await;
        Ok(TransportReply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.unwrap_or(Err(TransportError::Timeout)),
        })
    }
}

impl WebhookTransport for HttpTransport {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        Box::pin(self.exchange_request(request))
    }
}

/// Reads the response to its end, so that the connection can be used again, or to the limit.
async fn read_body(body: &mut Incoming, cap: usize) -> Result<Bytes, TransportError> {
    let mut read = BytesMut::new();
    while read.len() <= cap {
        match body.frame().await {
            Some(Ok(frame)) => {
                // A frame of trailers has no data.
                let part = frame.into_data().unwrap_or_default();
                read.extend_from_slice(&part[..part.len().min(cap + 1 - read.len())]);
            }
            // As long as the longest response in the smallest of chunks: cut as well.
            Some(Err(error)) if has_cause::<ReadLimitError>(&error) => {
                break;
            }
            Some(Err(error)) => return Err(classify_failure(&error)),
            None => break,
        }
    }
    read.truncate(cap);
    Ok(read.freeze())
}

/// The class of a failure, by the most specific of its causes.
fn classify_failure(error: &(dyn Error + 'static)) -> TransportError {
    if error_causes(error).any(|cause| cause.downcast_ref().is_some_and(is_resource_exhaustion)) {
        TransportError::Exhausted
    } else if has_cause::<BlockedAddressError>(error) {
        TransportError::Blocked
    } else if has_cause::<UnresolvedHostError>(error) {
        TransportError::Dns
    } else if has_cause::<rustls::Error>(error) {
        TransportError::Tls
    } else {
        TransportError::Connect
    }
}

fn has_cause<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error_causes(error).any(<dyn Error>::is::<T>)
}

/// True where the system has run out of something that we need.
fn is_resource_exhaustion(error: &io::Error) -> bool {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| ours.contains(&code))
}

/// The causes of an error, also those that an [`io::Error`] wraps, which its `source` skips.
fn error_causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        wrapped.or_else(|| error.source())
    })
}

impl Service<Uri> for DeadlineConnector {
    type Response = MaybeHttpsStream<TokioIo<MeteredStream<TcpStream>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connected, deadline) = (self.https.call(uri), self.deadline);
        Box::pin(async move {
            match timeout(deadline, connected).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectTimeoutError.into()),
            }
        })
    }
}

impl Service<Uri> for GuardedDialler {
    type Response = TokioIo<MeteredStream<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The resolver does not see a host that is an address.
        let literal = uri.host().and_then(parse_literal_address);
        if literal.is_some_and(|address| !self.policy.permits_address(address)) {
            return Box::pin(async { Err(BlockedAddressError.into()) });
        }
        let (dialled, policy) = (self.tcp.call(uri), self.policy);
        Box::pin(async move {
            let connection = dialled.await?.into_inner();
            // What counts in the end is the peer.
            if !policy.permits_address(connection.peer_addr()?.ip()) {
                return Err(BlockedAddressError.into());
            }
            Ok(TokioIo::new(MeteredStream::new(connection)))
        })
    }
}

/// The address that a URI's host is, if it is one.
fn parse_literal_address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl Service<Name> for GuardedHyperResolver {
    type Response = std::vec::IntoIter<std::net::SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guarded = Arc::clone(&self.0);
        Box::pin(async move { Ok(guarded.resolve_host(name.as_str()).await?.into_iter()) })
    }
}
