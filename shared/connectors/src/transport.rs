//! HTTP to banks: one deadline for each call that covers the body, a cap on the body, no redirects, no proxies
//! from the environment, and one class of fault for each way a call can go wrong.
//!
//! [`HttpClient`] carries requests; `BankTransport` sends them under a `CallContext` and returns a
//! `BankResponse`. No URL is ever part of a fault, a log or a span: URLs name accounts.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use okra_core::{
    delivery::retry::parse_retry_after_within,
    model::{
        bank::BankConfig,
        fault::{BankFault, FaultClass},
    },
};
use reqwest::{
    Client, Request, RequestBuilder, Response, StatusCode, header::RETRY_AFTER, redirect::Policy,
};
use tokio::time::{Instant, timeout_at};
use tracing::Span;
use url::Url;

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built")]
pub struct ConnectorError(#[source] reqwest::Error);

/// Idle connections kept open to a bank.
const MAX_IDLE_CONNECTIONS_PER_BANK: usize = 32;

/// How long an idle connection stays open: less than servers and load balancers keep theirs, so that a request
/// rarely uses one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a bank may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds that a bank can make us wait at most: a day, as long as any quota lasts.
const MAX_RETRY_AFTER_S: u32 = 24 * 3_600;

/// Bytes of an error body at most; a longer one is ignored.
const MAX_ERROR_BODY_BYTES: u32 = 16 * 1024;

/// Why there is no response. Its text does not hold the URL, which names an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BankTransportError {
    /// The request could not be built: our own fault.
    #[error("the request could not be built")]
    InvalidRequest,
    /// No connection within 5 s.
    #[error("the bank could not be reached in time")]
    ConnectTimeout,
    /// The connection was rejected, or its TLS handshake failed.
    #[error("the bank could not be reached")]
    ConnectFailed,
    /// The connection broke before the response was complete.
    #[error("the connection to the bank broke")]
    ConnectionLost,
}

impl From<&reqwest::Error> for BankTransportError {
    fn from(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            Self::InvalidRequest
        } else if error.is_timeout() {
            Self::ConnectTimeout
        } else if error.is_connect() {
            Self::ConnectFailed
        } else {
            Self::ConnectionLost
        }
    }
}

impl From<BankTransportError> for BankFault {
    fn from(error: BankTransportError) -> Self {
        let class = match error {
            BankTransportError::InvalidRequest => FaultClass::Internal,
            BankTransportError::ConnectTimeout
            | BankTransportError::ConnectFailed
            | BankTransportError::ConnectionLost => FaultClass::BankUnavailable,
        };
        Self::new(class, error.to_string())
    }
}

/// What [`HttpClient::execute_request`] returns.
pub type HttpResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, BankTransportError>> + Send + 'a>>;

/// Carries a request to a bank and brings the response back: an HTTP client or, in a simulation, a bank in the
/// same process. Deadlines, caps, fault classes and parsing are above it.
pub trait HttpClient: Send + Sync {
    /// Sends a request and returns the head of the response; its body may still be in transit.
    fn execute_request(&self, request: Request) -> HttpResponseFuture<'_>;
}

impl HttpClient for Client {
    fn execute_request(&self, request: Request) -> HttpResponseFuture<'_> {
        Box::pin(async move {
            Self::execute(self, request)
                .await
                .map_err(|error| BankTransportError::from(&error))
        })
    }
}

/// Sends requests to banks.
#[derive(Clone)]
pub(crate) struct BankTransport {
    /// Builds requests; sends none where `http` is another client.
    request_builder: Client,
    http: Arc<dyn HttpClient>,
}

impl fmt::Debug for BankTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BankTransport")
    }
}

/// What one call is held to, and how its span is labelled.
#[derive(Clone, Copy)]
pub(crate) struct CallContext<'a> {
    pub(crate) bank: &'a BankConfig,
    /// What the call is for, e.g. `transactions`. Names no account.
    pub(crate) operation: &'static str,
    /// Bytes of the body at most.
    pub(crate) max_body_bytes: u32,
    /// What a date in `Retry-After` counts from.
    pub(crate) now: Timestamp,
}

impl<'a> CallContext<'a> {
    /// A call within the bank's configured limits.
    pub(crate) const fn for_bank(
        bank: &'a BankConfig,
        operation: &'static str,
        now: Timestamp,
    ) -> Self {
        Self {
            bank,
            operation,
            max_body_bytes: bank.limits.max_body_bytes,
            now,
        }
    }
}

/// A response that came in time.
pub(crate) enum BankResponse {
    /// Status 200, 201, or 204 without a body; and the whole body.
    Success(Vec<u8>),
    /// Another status, with the fault that it means by itself. The body is empty where no explanation is expected
    /// or it could not be read.
    Rejected {
        status: u16,
        fault: BankFault,
        body: Vec<u8>,
    },
}

impl BankTransport {
    pub(crate) fn new(tls: rustls::ClientConfig) -> Result<Self, ConnectorError> {
        Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS_PER_BANK)
            .user_agent(concat!("okra-sync/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(|client| Self {
                http: Arc::new(client.clone()),
                request_builder: client,
            })
            .map_err(ConnectorError)
    }

    /// The same transport over another HTTP client.
    pub(crate) fn with_http_client(self, http: Arc<dyn HttpClient>) -> Self {
        Self { http, ..self }
    }

    pub(crate) fn get_request(&self, url: Url) -> RequestBuilder {
        self.request_builder.get(url)
    }

    pub(crate) fn post_request(&self, url: Url) -> RequestBuilder {
        self.request_builder.post(url)
    }

    pub(crate) fn delete_request(&self, url: Url) -> RequestBuilder {
        self.request_builder.delete(url)
    }

    /// Sends a request and reads the response, all within the bank's deadline.
    #[tracing::instrument(
        name = "bank_call",
        level = "debug",
        skip_all,
        fields(
            bank.id = %context.bank.id,
            operation = context.operation,
            http.response.status_code = tracing::field::Empty,
        )
    )]
    pub(crate) async fn send_request(
        &self,
        request: RequestBuilder,
        context: CallContext<'_>,
    ) -> Result<BankResponse, BankFault> {
        let deadline_ms = context.bank.limits.deadline_ms;
        let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
        let request = request
            .build()
            .map_err(|error| BankTransportError::from(&error))?;

        let response = timeout_at(deadline, self.http.execute_request(request))
            .await
            .map_err(|_| deadline_fault(deadline_ms))??;
        let status = response.status();
        Span::current().record("http.response.status_code", status.as_u16());

        let is_success = matches!(
            status,
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT
        );
        if is_success {
            let body = timeout_at(deadline, read_capped_body(response, context.max_body_bytes))
                .await
                .map_err(|_| deadline_fault(deadline_ms))??;
            return Ok(BankResponse::Success(body));
        }
        Ok(BankResponse::Rejected {
            status: status.as_u16(),
            fault: fault_from_status(&response, context.now),
            body: read_error_body(response, deadline).await,
        })
    }
}

fn deadline_fault(deadline_ms: u32) -> BankFault {
    let detail = format!("no complete response within {deadline_ms} ms");
    BankFault::new(FaultClass::BankUnavailable, detail)
}

async fn read_capped_body(
    mut response: Response,
    max_body_bytes: u32,
) -> Result<Vec<u8>, BankFault> {
    let cap = u64::from(max_body_bytes);
    let announced = response.content_length().unwrap_or(0);
    let capacity = match usize::try_from(announced) {
        Ok(capacity) if announced <= cap => capacity,
        _ => return Err(body_too_large_fault(max_body_bytes)),
    };
    let mut body = Vec::with_capacity(capacity);
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| BankTransportError::from(&error))?
    {
        if (body.len() + part.len()) as u64 > cap {
            return Err(body_too_large_fault(max_body_bytes));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn body_too_large_fault(max_body_bytes: u32) -> BankFault {
    let detail = format!("the response has more than {max_body_bytes} bytes");
    BankFault::new(FaultClass::MalformedResponse, detail)
}

/// The body of an error response. It only refines the fault that the status means already, so one that cannot be
/// read in time counts as empty.
async fn read_error_body(response: Response, deadline: Instant) -> Vec<u8> {
    let is_explained = matches!(
        response.status(),
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
    );
    if !is_explained {
        return Vec::new();
    }
    match timeout_at(deadline, read_capped_body(response, MAX_ERROR_BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn fault_from_status(response: &Response, now: Timestamp) -> BankFault {
    let status = response.status().as_u16();
    let class = match status {
        401 | 403 => FaultClass::ConsentRejected,
        429 => FaultClass::RateLimited,
        408 | 500..=599 => FaultClass::BankUnavailable,
        _ => FaultClass::MalformedResponse,
    };
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    BankFault {
        class,
        detail: format!("status {status}"),
        retry_after_s: retry_after
            .and_then(|text| parse_retry_after_within(text, now, MAX_RETRY_AFTER_S)),
        status: Some(status),
    }
}
