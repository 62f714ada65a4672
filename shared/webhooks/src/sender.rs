//! One attempt: a signed POST, and what came of it.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use okra_core::{
    ids::{EventId, Seq},
    retry::{Outcome, retry_after_s},
};
use reqwest::{
    Client, Response,
    dns::Resolve,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect, retry,
};

use crate::{
    address::AddressPolicy,
    resolver::{Blocked, Guarded, SystemResolver},
    secret::{Bearer, SecretError, SigningSecrets},
    target::check_url,
};

const USER_AGENT: &str = concat!("okra-sync/", env!("CARGO_PKG_VERSION"));

/// How long a connection is kept for the next event to the same host: shorter than what servers
/// usually grant, so that few attempts meet a connection that is closing.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Idle connections that are kept for one host at most.
const POOL_IDLE_PER_HOST: usize = 32;

/// What one attempt may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole exchange, from resolving the name to the last byte that is read.
    pub exchange: Duration,
    /// Resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// Resolving alone.
    pub resolve: Duration,
    /// Bytes of the answer that are read. A longer one is cut, which is no failure.
    pub response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exchange: Duration::from_secs(15),
            connect: Duration::from_secs(3),
            resolve: Duration::from_secs(2),
            response_bytes: 16 * 1024,
        }
    }
}

/// Why a sender cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for webhooks could not be built")]
pub struct SenderError(#[source] reqwest::Error);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Where to.
    pub url: &'a str,
    /// What it tells of; sent as `webhook-id`.
    pub event: &'a EventId,
    /// Its place in the record's feed; sent as `okra-event-sequence`.
    pub seq: Seq,
    /// Which attempt this is, from 1; sent as `okra-attempt`.
    pub attempt: u32,
    /// The body, JSON; the same bytes in each attempt.
    pub body: Bytes,
    /// Sign it.
    pub secrets: &'a SigningSecrets,
    /// Sent as `authorization`.
    pub bearer: Option<&'a Bearer>,
    /// The time of the signature: verifiers refuse one older than five minutes.
    pub sent_at: Timestamp,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The class.
    pub outcome: Outcome,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// Seconds the receiver asked us to wait, bounded.
    pub retry_after_s: Option<u32>,
    /// Milliseconds from the start of the attempt to the end of what was read.
    pub latency_ms: u32,
}

/// Sends webhooks. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Sender {
    client: Client,
    policy: AddressPolicy,
    response_bytes: usize,
}

impl Sender {
    /// A sender that trusts as `tls` does and calls what `policy` permits.
    ///
    /// # Errors
    ///
    /// [`SenderError`] where the TLS configuration does not fit.
    pub fn new(
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: Limits,
    ) -> Result<Self, SenderError> {
        Self::resolving(SystemResolver, tls, policy, limits)
    }

    fn resolving(
        resolver: impl Resolve + 'static,
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: Limits,
    ) -> Result<Self, SenderError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Guarded {
                inner: Arc::new(resolver),
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
            policy,
            response_bytes: limits.response_bytes,
        })
    }

    /// Makes one attempt. Whatever the receiver does is an [`Answer`].
    ///
    /// # Errors
    ///
    /// Where the message cannot be signed, which is our own fault.
    pub async fn send(&self, message: &Message<'_>) -> Result<Answer, SecretError> {
        let started = Instant::now();
        // Names are checked by the resolver, but nobody resolves an address.
        let Ok(url) = check_url(message.url, self.policy) else {
            return Ok(Answer::without_status(Outcome::Blocked, started));
        };
        let signature = message
            .secrets
            .sign(message.event, message.sent_at, &message.body)?;
        let mut request = self
            .client
            .post(url)
            .header("webhook-id", message.event.as_str())
            .header("webhook-timestamp", message.sent_at.as_second())
            .header("webhook-signature", signature)
            .header("okra-event-sequence", message.seq.0)
            .header("okra-attempt", message.attempt)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .body(message.body.clone());
        if let Some(bearer) = message.bearer {
            request = request.header(AUTHORIZATION, bearer.header()?);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Answer::without_status(outcome_of(&error), started)),
        };
        let status = response.status().as_u16();
        let retry_after_s = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after_s(value, message.sent_at));
        let read = read(&mut response, self.response_bytes).await;
        let outcome = match (Outcome::of_status(status), read) {
            // A receiver that breaks off while it says yes may not have meant it.
            (Outcome::Ok, Err(error)) => outcome_of(&error),
            (outcome, _) => outcome,
        };
        Ok(Answer {
            outcome,
            status: Some(status),
            retry_after_s,
            latency_ms: elapsed_ms(started),
        })
    }
}

impl Answer {
    fn without_status(outcome: Outcome, started: Instant) -> Self {
        Self {
            outcome,
            status: None,
            retry_after_s: None,
            latency_ms: elapsed_ms(started),
        }
    }
}

/// Reads the answer to its end, so that the connection can be used again, or to the cap.
async fn read(response: &mut Response, cap: usize) -> Result<(), reqwest::Error> {
    let mut seen = 0;
    while seen <= cap {
        match response.chunk().await? {
            Some(chunk) => seen += chunk.len(),
            None => break,
        }
    }
    Ok(())
}

fn elapsed_ms(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// The class of a failure, from the most telling of its causes.
fn outcome_of(error: &reqwest::Error) -> Outcome {
    if causes(error).any(<dyn Error>::is::<Blocked>) {
        Outcome::Blocked
    } else if error.is_dns() {
        Outcome::Dns
    } else if causes(error).any(<dyn Error>::is::<rustls::Error>) {
        Outcome::Tls
    } else if error.is_timeout() && !error.is_connect() {
        Outcome::Timeout
    } else {
        Outcome::Connect
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use okra_core::ids::RecordId;
    use reqwest::dns::{Addrs, Name, Resolving};

    use super::*;

    /// Answers every name with the same addresses.
    struct Answers(Vec<IpAddr>);

    impl Resolve for Answers {
        fn resolve(&self, _: Name) -> Resolving {
            let addresses: Vec<_> = self
                .0
                .iter()
                .map(|&address| SocketAddr::new(address, 0))
                .collect();
            Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
        }
    }

    /// Never answers.
    struct Hangs;

    impl Resolve for Hangs {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(std::future::pending())
        }
    }

    async fn outcome(resolver: impl Resolve + 'static, policy: AddressPolicy) -> Outcome {
        let tls = okra_aws::rustls_client_config();
        let limits = Limits {
            resolve: Duration::from_millis(50),
            ..Limits::default()
        };
        let sender = Sender::resolving(resolver, tls, policy, limits).unwrap();
        let message = Message {
            url: "https://rebinding.example/hook",
            event: &EventId::of(RecordId::from_bytes([1; 12]), Seq(1)),
            seq: Seq(1),
            attempt: 1,
            body: Bytes::from_static(b"{}"),
            secrets: &SigningSecrets::fresh(&[0; 24]),
            bearer: None,
            sent_at: Timestamp::UNIX_EPOCH,
        };
        sender.send(&message).await.unwrap().outcome
    }

    async fn check(addresses: &[&str], expected: Outcome) {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let answers = Answers(addresses.clone());
        let outcome = outcome(answers, AddressPolicy::PublicOnly).await;
        assert_eq!(outcome, expected, "{addresses:?}");
    }

    #[tokio::test]
    async fn one_bad_address_among_good_ones_blocks_the_name() {
        check(&["127.0.0.1"], Outcome::Blocked).await;
        check(&["169.254.169.254"], Outcome::Blocked).await;
        check(&["8.8.8.8", "127.0.0.1"], Outcome::Blocked).await;
        check(
            &["2606:4700::1111", "8.8.8.8", "::ffff:10.0.0.1"],
            Outcome::Blocked,
        )
        .await;
        check(&["64:ff9b::7f00:1"], Outcome::Blocked).await;
    }

    #[tokio::test]
    async fn a_local_run_still_calls_no_private_address() {
        let private = || Answers(vec!["10.0.0.1".parse().unwrap()]);
        let outcome = outcome(private(), AddressPolicy::AllowLoopback).await;
        assert_eq!(outcome, Outcome::Blocked);
    }

    #[tokio::test]
    async fn a_name_without_an_answer_is_a_fault_of_dns() {
        check(&[], Outcome::Dns).await;
        assert_eq!(
            outcome(Hangs, AddressPolicy::PublicOnly).await,
            Outcome::Dns
        );
    }

    #[tokio::test]
    async fn a_name_with_endless_addresses_is_blocked() {
        let many = (0..=255).map(|n| IpAddr::from([8, 8, 8, n])).collect();
        let outcome = outcome(Answers(many), AddressPolicy::PublicOnly).await;
        assert_eq!(outcome, Outcome::Blocked);
    }
}
