//! One attempt: a signed POST, and what came of it.

use std::{fmt, sync::Arc, time::Duration};

use ::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use bytes::Bytes;
use jiff::Timestamp;
use okra_aws::bus::{BusEvent, EventBus, EventBusError};
use okra_core::{
    delivery::retry::{AttemptOutcome, parse_retry_after_s},
    model::ids::{EventId, Seq},
};
use okra_store::MAX_EXCERPT_BYTES;
use tokio::time::Instant;
use url::Url;

use crate::{
    address::AddressPolicy,
    http::HttpTransport,
    resolver::{HostLookup, SystemHostLookup},
    secret::{BearerToken, SecretError, SigningSecrets},
    sink::{self, BusSink},
    target::BUS_SCHEME,
    target::check_url,
    transport::{TransportError, TransportReply, TransportRequest, WebhookTransport},
};

/// The header by which a receiver says what it wants of us.
const CONTROL_HEADER: HeaderName = HeaderName::from_static("webhook-delivery");

/// Bytes of a host name at most, as in the DNS.
const MAX_HOST_BYTES: usize = 253;

/// What one attempt may take.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// The whole exchange, from resolving the name to the last byte that is read.
    pub exchange: Duration,
    /// Resolving the name.
    pub resolve: Duration,
    /// Connecting to one of its addresses.
    pub connect: Duration,
    /// The TLS handshake, and what the two before left of their time.
    pub tls: Duration,
    /// Bytes of the answer that are read. A longer one is cut, which is no failure.
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

/// A sender cannot be built: its TLS configuration offers protocols of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TLS configuration must not name application protocols")]
pub struct SenderError;

/// An attempt could not be made, for a fault of our own; the receiver is not charged for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The message cannot be signed.
    #[error("the message cannot be signed")]
    Sign(#[from] SecretError),
    /// This machine has no file, port or memory left for a connection.
    #[error("this machine has nothing left to open a connection with")]
    ResourcesExhausted,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct WebhookMessage<'a> {
    /// Where to: a URL, or [`BUS_SCHEME`] and a bus.
    pub url: &'a str,
    /// What it tells of; sent as `webhook-id`.
    pub event_id: &'a EventId,
    /// Its place in the record's feed; sent as `okra-event-sequence`.
    pub seq: Seq,
    /// Which attempt this is, from 1; sent as `okra-attempt`.
    pub attempt: u32,
    /// Somebody asked for it again; then sent as `okra-replay`.
    pub is_replay: bool,
    /// Those of its record that did not come before it, though they should have; sent as
    /// `okra-event-gap`.
    pub missing_seqs: &'a [Seq],
    /// The body, JSON; the same bytes in each attempt.
    pub body: Bytes,
    /// Sign it.
    pub secrets: &'a SigningSecrets,
    /// Sent as `authorization`.
    pub bearer: Option<&'a BearerToken>,
    /// The time of the signature: verifiers refuse one older than five minutes.
    pub sent_at: Timestamp,
}

/// What a receiver asks of us by the header `webhook-delivery`, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverControl {
    /// Never send this event again.
    AbortMessage,
    /// Send nothing any more.
    DisableEndpoint,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResponse {
    /// The class.
    pub outcome: AttemptOutcome,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// Seconds the receiver asked us to wait, bounded.
    pub retry_after_s: Option<u32>,
    /// What else it asked of us.
    pub control: Option<ReceiverControl>,
    /// The host that a redirect leads to, which is not followed: what its owner has to know.
    pub location_host: Option<String>,
    /// The beginning of an answer that is no success, at most [`MAX_EXCERPT_BYTES`].
    pub excerpt: Option<String>,
    /// Milliseconds from the start of the attempt to the end of what was read.
    pub latency_ms: u32,
}

/// Sends webhooks. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct WebhookSender {
    transport: Arc<dyn WebhookTransport>,
    policy: AddressPolicy,
    bus_sink: Option<Arc<BusSink>>,
}

impl WebhookSender {
    /// A sender that trusts as `tls` does, resolves as the system does and calls what `policy` permits.
    ///
    /// # Errors
    ///
    /// [`SenderError`] where the TLS configuration does not fit.
    pub fn new(
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: AttemptLimits,
    ) -> Result<Self, SenderError> {
        Self::with_lookup(Arc::new(SystemHostLookup), tls, policy, limits)
    }

    /// The same with another resolver. Its answers are checked as the system's are.
    ///
    /// # Errors
    ///
    /// [`SenderError`] where the TLS configuration does not fit.
    pub fn with_lookup(
        lookup: Arc<dyn HostLookup>,
        tls: rustls::ClientConfig,
        policy: AddressPolicy,
        limits: AttemptLimits,
    ) -> Result<Self, SenderError> {
        let transport = HttpTransport::new(lookup, tls, policy, limits)?;
        Ok(Self::with_transport(Arc::new(transport), policy))
    }

    /// A sender over another transport than HTTP; URLs are checked and messages signed all the same.
    pub fn with_transport(transport: Arc<dyn WebhookTransport>, policy: AddressPolicy) -> Self {
        Self {
            transport,
            policy,
            bus_sink: None,
        }
    }

    /// The same sender, which also puts events on a bus where that is the endpoint.
    #[must_use]
    pub fn with_bus(mut self, bus: EventBus) -> Self {
        self.bus_sink = Some(Arc::new(BusSink::new(bus)));
        self
    }

    /// Makes one attempt. Whatever the receiver does is an [`Answer`].
    ///
    /// # Errors
    ///
    /// [`SendFault`]: our own fault.
    pub async fn send_message(
        &self,
        message: &WebhookMessage<'_>,
    ) -> Result<AttemptResponse, AttemptError> {
        let started = Instant::now();
        if let Some(bus) = message.url.strip_prefix(BUS_SCHEME) {
            return Ok(self.put_on_bus(bus, message, started).await);
        }
        // Names are checked by the resolver, but nobody resolves an address.
        let Ok(url) = check_url(message.url, self.policy) else {
            return Ok(AttemptResponse::without_status(
                AttemptOutcome::Blocked,
                started,
            ));
        };
        let headers = message_headers(message)?;
        let body = message.body.clone();
        let request = TransportRequest { url, headers, body };
        let base = request.url.clone();
        match self.transport.post_request(request).await {
            Ok(reply) => interpret_reply(&reply, &base, message, started),
            Err(fault) => Ok(AttemptResponse::without_status(
                receiver_outcome(fault)?,
                started,
            )),
        }
    }
}

impl WebhookSender {
    /// Puts a message on the bus of this name, where it is the deployment's.
    async fn put_on_bus(
        &self,
        bus_name: &str,
        message: &WebhookMessage<'_>,
        started: Instant,
    ) -> AttemptResponse {
        #[derive(serde::Deserialize)]
        struct EventNameOnly {
            event: String,
        }
        let sink = self.bus_sink.as_ref().filter(|sink| sink.is_bus(bus_name));
        let text = str::from_utf8(&message.body).ok();
        let named = serde_json::from_slice(&message.body).ok();
        let (Some(sink), Some(text), Some(EventNameOnly { event })) = (sink, text, named) else {
            return AttemptResponse::without_status(AttemptOutcome::Blocked, started);
        };
        let event = BusEvent {
            detail_type: event,
            detail: text.to_owned(),
            occurred_at: message.sent_at,
        };
        let result = sink.put_event(event).await;
        AttemptResponse {
            excerpt: result.as_ref().err().map(bus_fault_excerpt),
            ..AttemptResponse::without_status(sink::outcome_of_put(&result), started)
        }
    }
}

/// What EventBridge said, as much as is kept of an answer.
fn bus_fault_excerpt(fault: &EventBusError) -> String {
    let mut text = fault.to_string();
    while text.len() > MAX_EXCERPT_BYTES {
        text.pop();
    }
    text
}

impl fmt::Debug for WebhookSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sender = f.debug_struct("Sender");
        sender.field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl AttemptResponse {
    fn without_status(outcome: AttemptOutcome, started: Instant) -> Self {
        Self {
            outcome,
            status: None,
            retry_after_s: None,
            control: None,
            location_host: None,
            excerpt: None,
            latency_ms: elapsed_ms(started),
        }
    }
}

/// The headers that are ours. None of them can be set by a customer.
fn message_headers(message: &WebhookMessage<'_>) -> Result<HeaderMap, SecretError> {
    let secrets = message.secrets;
    let signature = secrets.sign_body(message.event_id, message.sent_at, &message.body)?;
    let id = HeaderValue::try_from(message.event_id.as_str()).map_err(|_| SecretError::Signing)?;
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert("webhook-id", id);
    headers.insert("webhook-timestamp", message.sent_at.as_second().into());
    headers.insert("webhook-signature", signature);
    headers.insert("okra-event-sequence", message.seq.0.into());
    headers.insert("okra-attempt", message.attempt.into());
    if message.is_replay {
        headers.insert("okra-replay", HeaderValue::from_static("true"));
    }
    if !message.missing_seqs.is_empty() {
        let gap: Vec<String> = message
            .missing_seqs
            .iter()
            .map(|seq| seq.0.to_string())
            .collect();
        let gap = HeaderValue::try_from(gap.join(",")).map_err(|_| SecretError::Signing)?;
        headers.insert("okra-event-gap", gap);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(bearer) = message.bearer {
        headers.insert(AUTHORIZATION, bearer.to_header_value()?);
    }
    Ok(headers)
}

/// The class of a fault that is the receiver's.
fn receiver_outcome(fault: TransportError) -> Result<AttemptOutcome, AttemptError> {
    fault
        .attempt_outcome()
        .ok_or(AttemptError::ResourcesExhausted)
}

/// What a reply to a message means.
fn interpret_reply(
    reply: &TransportReply,
    url: &Url,
    message: &WebhookMessage<'_>,
    started: Instant,
) -> Result<AttemptResponse, AttemptError> {
    let outcome = match (AttemptOutcome::from_status(reply.status), &reply.body) {
        // A receiver that breaks off while it says yes may not have meant it.
        (AttemptOutcome::Ok, &Err(fault)) => receiver_outcome(fault)?,
        (outcome, _) => outcome,
    };
    let header = |name: HeaderName| reply.headers.get(name)?.to_str().ok();
    let location_host = (outcome == AttemptOutcome::Redirect)
        .then(|| header(LOCATION).and_then(|location| redirect_host(url, location)))
        .flatten();
    Ok(AttemptResponse {
        outcome,
        status: Some(reply.status),
        retry_after_s: header(RETRY_AFTER)
            .and_then(|value| parse_retry_after_s(value, message.sent_at)),
        control: header(CONTROL_HEADER).and_then(ReceiverControl::from_header),
        location_host,
        excerpt: reply
            .body
            .as_ref()
            .ok()
            .filter(|_| !outcome.is_ok())
            .and_then(body_excerpt),
        latency_ms: elapsed_ms(started),
    })
}

impl ReceiverControl {
    fn from_header(value: &str) -> Option<Self> {
        match value.trim() {
            "abort-message" => Some(Self::AbortMessage),
            "disable" => Some(Self::DisableEndpoint),
            _ => None,
        }
    }
}

/// The beginning of a body as text that can be shown: what is no text is left out.
fn body_excerpt(body: &Bytes) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_EXCERPT_BYTES)]);
    let shown = |c: &char| !c.is_control() || *c == '\n';
    let text: String = text
        .chars()
        .filter(shown)
        .filter(|&c| c != '\u{fffd}')
        .collect();
    (!text.trim().is_empty()).then_some(text)
}

/// The host alone: paths and queries of URLs carry tokens.
fn redirect_host(base: &Url, location: &str) -> Option<String> {
    let host = base.join(location).ok()?.host_str()?.to_owned();
    (host.len() <= MAX_HOST_BYTES).then_some(host)
}

fn elapsed_ms(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_its_host_and_nothing_more() {
        let base = Url::parse("https://app.example/hook?token=t0ken").unwrap();
        for (location, expected) in [
            (
                "https://Other.example:8443/x?secret=1",
                Some("other.example"),
            ),
            ("//other.example/", Some("other.example")),
            ("/elsewhere", Some("app.example")),
            ("", Some("app.example")),
            ("http://user:pass@10.0.0.1/", Some("10.0.0.1")),
            ("https://", None),
            ("mailto:a@b.example", None),
        ] {
            assert_eq!(
                redirect_host(&base, location).as_deref(),
                expected,
                "{location}"
            );
        }
        assert_eq!(
            redirect_host(&base, &format!("https://{}/", "a.".repeat(200))),
            None
        );
    }

    #[test]
    fn a_receiver_asks_in_two_words() {
        for (value, expected) in [
            ("disable", Some(ReceiverControl::DisableEndpoint)),
            (" abort-message ", Some(ReceiverControl::AbortMessage)),
            ("Disable", None),
            ("disable, abort-message", None),
            ("", None),
        ] {
            assert_eq!(ReceiverControl::from_header(value), expected, "{value:?}");
        }
    }
}
