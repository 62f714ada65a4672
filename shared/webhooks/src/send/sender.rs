//! One attempt: a message is signed, sent, and what the receiver did is classified.
//!
//! [`WebhookSender`] sends a [`WebhookMessage`]. The rule: whatever the receiver does is an [`AttemptResponse`]; an
//! [`AttemptError`] is our own fault.

use std::{fmt, sync::Arc};

use ::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use bytes::Bytes;
use jiff::Timestamp;
use okra_aws::bus::{BusEvent, EventBus, EventBusError};
use okra_core::{
    delivery::{
        attempt::{AttemptResponse, ReceiverControl},
        retry::{AttemptOutcome, parse_retry_after_s},
    },
    model::ids::{EventId, Seq},
};
use okra_store::MAX_EXCERPT_BYTES;
use tokio::time::Instant;
use url::Url;

use super::{
    address::AddressPolicy,
    bus_sink::{self, BusSink},
    http::HttpTransport,
    resolver::{HostLookup, SystemHostLookup},
    transport::{
        AttemptLimits, SenderError, TransportError, TransportReply, TransportRequest,
        WebhookTransport,
    },
};
use crate::{
    endpoint_url::{BUS_SCHEME, check_url},
    signing_secrets::{BearerToken, SecretError, SigningSecrets},
};

/// The header by which a receiver controls further deliveries.
const CONTROL_HEADER: HeaderName = HeaderName::from_static("webhook-delivery");

/// Bytes of a host name at most, as in the DNS.
const MAX_HOST_BYTES: usize = 253;

/// An attempt could not be made for a fault of our own. It does not count as one of the event's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The message could not be signed.
    #[error("the message cannot be signed")]
    Sign(#[from] SecretError),
    /// This machine has no file, port or memory left for a connection.
    #[error("this machine has no file, port or memory left for a connection")]
    ResourcesExhausted,
}

/// An event as it is sent.
#[derive(Clone, Debug)]
pub struct WebhookMessage<'a> {
    /// Where to: a URL, or [`BUS_SCHEME`] and a bus.
    pub url: &'a str,
    /// The event; sent as `webhook-id`.
    pub event_id: &'a EventId,
    /// Its place in the record's feed; sent as `okra-event-sequence`.
    pub seq: Seq,
    /// Which attempt this is, from 1; sent as `okra-attempt`.
    pub attempt: u32,
    /// Somebody requested it again; then sent as `okra-replay`.
    pub is_replay: bool,
    /// Events of its record that should have been delivered before it and were not; sent as `okra-event-gap`.
    pub missing_seqs: &'a [Seq],
    /// The body, JSON; the same bytes in each attempt.
    pub body: Bytes,
    /// What it is signed with.
    pub secrets: &'a SigningSecrets,
    /// Sent as `authorization`.
    pub bearer: Option<&'a BearerToken>,
    /// The time of the signature: verifiers reject one older than five minutes.
    pub sent_at: Timestamp,
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

    /// A sender over another transport than HTTP. URLs are checked and messages signed as over HTTP.
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

    /// Makes one attempt. Whatever the receiver does is an [`AttemptResponse`].
    ///
    /// # Errors
    ///
    /// [`AttemptError`]: our own fault.
    pub async fn send_message(
        &self,
        message: &WebhookMessage<'_>,
    ) -> Result<AttemptResponse, AttemptError> {
        let started = Instant::now();
        if let Some(bus) = message.url.strip_prefix(BUS_SCHEME) {
            return Ok(self.put_on_bus(bus, message, started).await);
        }
        // The resolver checks names, but nobody resolves an IP address.
        let Ok(url) = check_url(message.url, self.policy) else {
            return Ok(response_without_status(AttemptOutcome::Blocked, started));
        };
        let headers = message_headers(message)?;
        let body = message.body.clone();
        let request = TransportRequest { url, headers, body };
        let base = request.url.clone();
        match self.transport.post_request(request).await {
            Ok(reply) => interpret_reply(&reply, &base, message, started),
            Err(error) => Ok(response_without_status(receiver_outcome(error)?, started)),
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
            return response_without_status(AttemptOutcome::Blocked, started);
        };
        let event = BusEvent {
            detail_type: event,
            detail: text.to_owned(),
            occurred_at: message.sent_at,
        };
        let result = sink.put_event(event).await;
        AttemptResponse {
            excerpt: result.as_ref().err().map(bus_error_excerpt),
            ..response_without_status(bus_sink::put_outcome(&result), started)
        }
    }
}

/// The error of EventBridge, as much as is stored of a response.
fn bus_error_excerpt(error: &EventBusError) -> String {
    let mut text = error.to_string();
    while text.len() > MAX_EXCERPT_BYTES {
        text.pop();
    }
    text
}

impl fmt::Debug for WebhookSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sender = f.debug_struct("WebhookSender");
        sender.field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The end of an attempt without an HTTP response.
fn response_without_status(outcome: AttemptOutcome, started: Instant) -> AttemptResponse {
    AttemptResponse {
        outcome,
        status: None,
        retry_after_s: None,
        control: None,
        location_host: None,
        excerpt: None,
        latency_ms: elapsed_ms(started),
    }
}

/// The headers of a message. An app can set none of them.
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
        let missing: Vec<String> = message
            .missing_seqs
            .iter()
            .map(|seq| seq.0.to_string())
            .collect();
        let missing = HeaderValue::try_from(missing.join(",")).map_err(|_| SecretError::Signing)?;
        headers.insert("okra-event-gap", missing);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(bearer) = message.bearer {
        headers.insert(AUTHORIZATION, bearer.to_header_value()?);
    }
    Ok(headers)
}

/// The class of an error that is the receiver's.
fn receiver_outcome(error: TransportError) -> Result<AttemptOutcome, AttemptError> {
    error
        .attempt_outcome()
        .ok_or(AttemptError::ResourcesExhausted)
}

/// Classifies the reply to a message.
fn interpret_reply(
    reply: &TransportReply,
    url: &Url,
    message: &WebhookMessage<'_>,
    started: Instant,
) -> Result<AttemptResponse, AttemptError> {
    let outcome = match (AttemptOutcome::from_status(reply.status), &reply.body) {
        // A receiver that breaks off within a successful response may not have processed the event.
        (AttemptOutcome::Ok, &Err(error)) => receiver_outcome(error)?,
        (outcome, _) => outcome,
    };
    let location_host = match outcome {
        AttemptOutcome::Redirect => {
            header_text(reply, &LOCATION).and_then(|location| redirect_host(url, location))
        }
        _ => None,
    };
    let excerpt = match &reply.body {
        Ok(body) if !outcome.is_ok() => body_excerpt(body),
        _ => None,
    };
    Ok(AttemptResponse {
        outcome,
        status: Some(reply.status),
        retry_after_s: header_text(reply, &RETRY_AFTER)
            .and_then(|value| parse_retry_after_s(value, message.sent_at)),
        control: header_text(reply, &CONTROL_HEADER).and_then(ReceiverControl::from_header),
        location_host,
        excerpt,
        latency_ms: elapsed_ms(started),
    })
}

/// A header's value; `None` where it is missing or is not visible ASCII.
fn header_text<'a>(reply: &'a TransportReply, name: &HeaderName) -> Option<&'a str> {
    reply.headers.get(name)?.to_str().ok()
}

/// The beginning of a body as text that can be shown, without control characters and invalid bytes.
fn body_excerpt(body: &Bytes) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_EXCERPT_BYTES)]);
    let text: String = text
        .chars()
        .filter(|&c| c == '\n' || !c.is_control() && c != '\u{fffd}')
        .collect();
    (!text.trim().is_empty()).then_some(text)
}

/// The host alone: paths and queries of URLs carry tokens.
fn redirect_host(base: &Url, location: &str) -> Option<String> {
    let host = base.join(location).ok()?.host_str()?.to_owned();
    (host.len() <= MAX_HOST_BYTES).then_some(host)
}

/// Milliseconds since then. An attempt takes seconds at most, so the conversion never saturates.
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
}
