//! HTTP to banks: a deadline for each call that covers the body, a cap while reading it, no redirects,
//! no proxies from the environment, and one class of fault for each way it can go wrong.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use okra_core::{
    delivery::retry::parse_retry_after_within,
    model::{
        bank::BankLimits,
        fault::{BankFault, FaultClass},
    },
};
use reqwest::{
    Client, Method, Request, RequestBuilder, Response, StatusCode, header::RETRY_AFTER,
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built")]
pub struct ConnectorError(#[source] reqwest::Error);

/// Idle connections kept for a bank.
const MAX_IDLE_CONNECTIONS_PER_BANK: usize = 32;

/// How long an idle connection is kept: less than servers and load balancers keep theirs, so that a
/// request rarely meets one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a bank may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds that a bank can ask us to wait at most: a day, as long as any quota lasts.
const MAX_RETRY_AFTER_S: u32 = 24 * 3_600;

/// Bytes of a refusal's body at most; a longer one is not looked at.
const MAX_ERROR_BODY_BYTES: usize = 16 * 1024;

/// Why no answer came. Says nothing of the URL, which names an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BankTransportError {
    /// The request could not be built: our own fault.
    #[error("the request could not be built")]
    InvalidRequest,
    /// No connection within its time.
    #[error("the bank could not be reached in time")]
    ConnectTimeout,
    /// No connection.
    #[error("the bank could not be reached")]
    ConnectFailed,
    /// The connection broke before the answer was whole.
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
    fn from(unreached: BankTransportError) -> Self {
        let class = match unreached {
            BankTransportError::InvalidRequest => FaultClass::Internal,
            BankTransportError::ConnectTimeout
            | BankTransportError::ConnectFailed
            | BankTransportError::ConnectionLost => FaultClass::BankUnavailable,
        };
        Self::new(class, unreached.to_string())
    }
}

/// What [`Http::execute`] comes to.
pub type HttpResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, BankTransportError>> + Send + 'a>>;

/// What carries a request to a bank and brings the answer back: an HTTP client or, in a simulation, a
/// bank in the same process. Deadlines, caps, classes of fault and parsing are above it.
pub trait HttpClient: Send + Sync {
    /// Sends a request and answers with the head of the response; its body may still be on its way.
    fn execute_request(&self, request: Request) -> HttpResponseFuture<'_>;
}

impl HttpClient for Client {
    fn execute_request(&self, request: Request) -> HttpResponseFuture<'_> {
        Box::pin(async move {
            let answer = Self::execute(self, request).await;
            answer.map_err(|error| BankTransportError::from(&error))
        })
    }
}

#[derive(Clone)]
pub(crate) struct BankTransport {
    /// Builds requests.
    request_builder: Client,
    http: Arc<dyn HttpClient>,
}

impl fmt::Debug for BankTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// What a bank replied in time.
pub(crate) enum BankResponse {
    /// Status 200 or 201, 204 where something was to be deleted; and the whole body.
    Success(Vec<u8>),
    /// Another status. The body is empty where the standard has none or it could not be read.
    Rejected { fault: BankFault, body: Vec<u8> },
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

    /// The same transport over another carrier.
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

    /// Sends a request and reads the reply, all within the bank's deadline. `now` is what a date in
    /// `Retry-After` counts from.
    pub(crate) async fn send_request(
        &self,
        request: RequestBuilder,
        limits: &BankLimits,
        now: Timestamp,
    ) -> Result<BankResponse, BankFault> {
        let deadline = Instant::now() + Duration::from_millis(u64::from(limits.deadline_ms));
        let late = |_| {
            let detail = format!("no whole answer within {} ms", limits.deadline_ms);
            BankFault::new(FaultClass::BankUnavailable, detail)
        };
        let request = request
            .build()
            .map_err(|error| BankTransportError::from(&error))?;
        let deletes = request.method() == Method::DELETE;
        let response = timeout_at(deadline, self.http.execute_request(request))
            .await
            .map_err(late)??;
        let status = response.status();
        let good = matches!(status, StatusCode::OK | StatusCode::CREATED);
        if good || (deletes && status == StatusCode::NO_CONTENT) {
            let cap = usize::try_from(limits.max_body_bytes).unwrap_or(usize::MAX);
            let body = timeout_at(deadline, read_capped_body(response, cap))
                .await
                .map_err(late)??;
            return Ok(BankResponse::Success(body));
        }
        let fault = fault_from_status(&response, status, now);
        let explained = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::TOO_MANY_REQUESTS
        );
        let body = if explained {
            let read = timeout_at(deadline, read_capped_body(response, MAX_ERROR_BODY_BYTES)).await;
            read.ok().and_then(Result::ok).unwrap_or_default()
        } else {
            Vec::new()
        };
        Ok(BankResponse::Rejected { fault, body })
    }
}

async fn read_capped_body(mut response: Response, cap: usize) -> Result<Vec<u8>, BankFault> {
    let too_large = || {
        let detail = format!("the answer has more than {cap} bytes");
        BankFault::new(FaultClass::MalformedResponse, detail)
    };
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > cap {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| BankTransportError::from(&error))?
    {
        if body.len() + part.len() > cap {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn fault_from_status(response: &Response, status: StatusCode, now: Timestamp) -> BankFault {
    let class = match status.as_u16() {
        401 | 403 => FaultClass::ConsentRejected,
        429 => FaultClass::RateLimited,
        408 | 500..=599 => FaultClass::BankUnavailable,
        _ => FaultClass::MalformedResponse,
    };
    let header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    BankFault {
        class,
        detail: format!("status {}", status.as_u16()),
        retry_after_s: header
            .and_then(|header| parse_retry_after_within(header, now, MAX_RETRY_AFTER_S)),
        status: Some(status.as_u16()),
    }
}
