//! HTTP to banks: a deadline for each call that covers the body, a cap while reading it, no redirects,
//! no proxies from the environment, and one class of fault for each way it can go wrong.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use okra_core::{
    bank::BankLimits,
    fault::{BankFault, FaultClass},
    retry::retry_after_within,
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
const MAX_IDLE_PER_BANK: usize = 32;

/// How long an idle connection is kept: less than servers and load balancers keep theirs, so that a
/// request rarely meets one that is being closed.
const IDLE: Duration = Duration::from_secs(20);

/// How long a bank may take to be reached.
const CONNECT: Duration = Duration::from_secs(5);

/// Seconds that a bank can ask us to wait at most: a day, as long as any quota lasts.
const MAX_WAIT_S: u32 = 24 * 3_600;

/// Bytes of a refusal's body at most; a longer one is not looked at.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// Why no answer came. Says nothing of the URL, which names an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The request could not be built: our own fault.
    #[error("the request could not be built")]
    Unbuilt,
    /// No connection within its time.
    #[error("the bank could not be reached in time")]
    Late,
    /// No connection.
    #[error("the bank could not be reached")]
    Refused,
    /// The connection broke before the answer was whole.
    #[error("the connection to the bank broke")]
    Broken,
}

impl From<&reqwest::Error> for Unreached {
    fn from(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            Self::Unbuilt
        } else if error.is_timeout() {
            Self::Late
        } else if error.is_connect() {
            Self::Refused
        } else {
            Self::Broken
        }
    }
}

impl From<Unreached> for BankFault {
    fn from(unreached: Unreached) -> Self {
        let class = match unreached {
            Unreached::Unbuilt => FaultClass::Internal,
            Unreached::Late | Unreached::Refused | Unreached::Broken => FaultClass::BankUnavailable,
        };
        Self::new(class, unreached.to_string())
    }
}

/// What [`Http::execute`] comes to.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response, Unreached>> + Send + 'a>>;

/// What carries a request to a bank and brings the answer back: an HTTP client or, in a simulation, a
/// bank in the same process. Deadlines, caps, classes of fault and parsing are above it.
pub trait Http: Send + Sync {
    /// Sends a request and answers with the head of the response; its body may still be on its way.
    fn execute(&self, request: Request) -> Answering<'_>;
}

impl Http for Client {
    fn execute(&self, request: Request) -> Answering<'_> {
        Box::pin(async move {
            let answer = Self::execute(self, request).await;
            answer.map_err(|error| Unreached::from(&error))
        })
    }
}

#[derive(Clone)]
pub(crate) struct Transport {
    /// Builds requests.
    client: Client,
    http: Arc<dyn Http>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// What a bank replied in time.
pub(crate) enum Reply {
    /// Status 200 or 201, 204 where something was to be deleted; and the whole body.
    Body(Vec<u8>),
    /// Another status. The body is empty where the standard has none or it could not be read.
    Refused { fault: BankFault, body: Vec<u8> },
}

impl Transport {
    pub(crate) fn new(tls: rustls::ClientConfig) -> Result<Self, ConnectorError> {
        Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE_PER_BANK)
            .user_agent(concat!("okra-sync/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(|client| Self {
                http: Arc::new(client.clone()),
                client,
            })
            .map_err(ConnectorError)
    }

    /// The same transport over another carrier.
    pub(crate) fn over(self, http: Arc<dyn Http>) -> Self {
        Self { http, ..self }
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.client.post(url)
    }

    pub(crate) fn delete(&self, url: Url) -> RequestBuilder {
        self.client.delete(url)
    }

    /// Sends a request and reads the reply, all within the bank's deadline. `now` is what a date in
    /// `Retry-After` counts from.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        limits: &BankLimits,
        now: Timestamp,
    ) -> Result<Reply, BankFault> {
        let deadline = Instant::now() + Duration::from_millis(u64::from(limits.deadline_ms));
        let late = |_| {
            let detail = format!("no whole answer within {} ms", limits.deadline_ms);
            BankFault::new(FaultClass::BankUnavailable, detail)
        };
        let request = request.build().map_err(|error| Unreached::from(&error))?;
        let deletes = request.method() == Method::DELETE;
        let response = timeout_at(deadline, self.http.execute(request))
            .await
            .map_err(late)??;
        let status = response.status();
        let good = matches!(status, StatusCode::OK | StatusCode::CREATED);
        if good || (deletes && status == StatusCode::NO_CONTENT) {
            let cap = usize::try_from(limits.max_body_bytes).unwrap_or(usize::MAX);
            let body = timeout_at(deadline, capped(response, cap))
                .await
                .map_err(late)??;
            return Ok(Reply::Body(body));
        }
        let fault = refused(&response, status, now);
        let explained = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::TOO_MANY_REQUESTS
        );
        let body = if explained {
            let read = timeout_at(deadline, capped(response, MAX_REFUSAL_BYTES)).await;
            read.ok().and_then(Result::ok).unwrap_or_default()
        } else {
            Vec::new()
        };
        Ok(Reply::Refused { fault, body })
    }
}

async fn capped(mut response: Response, cap: usize) -> Result<Vec<u8>, BankFault> {
    let too_large = || {
        let detail = format!("the answer has more than {cap} bytes");
        BankFault::new(FaultClass::Nonsense, detail)
    };
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > cap {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| Unreached::from(&error))?
    {
        if body.len() + part.len() > cap {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn refused(response: &Response, status: StatusCode, now: Timestamp) -> BankFault {
    let class = match status.as_u16() {
        401 | 403 => FaultClass::ConsentRefused,
        429 => FaultClass::RateLimited,
        408 | 500..=599 => FaultClass::BankUnavailable,
        _ => FaultClass::Nonsense,
    };
    let header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    BankFault {
        class,
        detail: format!("status {}", status.as_u16()),
        retry_after_s: header.and_then(|header| retry_after_within(header, now, MAX_WAIT_S)),
        status: Some(status.as_u16()),
    }
}
