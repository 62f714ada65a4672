//! The app's side of webhooks: [`WebhookReceiver`] verifies signatures, counts each event once, and stores the events.
//!
//! Rule: an event is on disk before it is acknowledged.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::{Deserialize, Serialize};
use standardwebhooks::Webhook;

/// One event as the receiver stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReceivedEvent {
    /// The `webhook-id`.
    pub(crate) id: String,
    /// The record it is about.
    pub(crate) record: String,
    /// Its number in the record's feed.
    pub(crate) seq: u64,
    /// Okra's family: `BALANCE`, `TRANSACTIONS`.
    pub(crate) method: String,
    /// Transactions announced as new.
    pub(crate) added: Vec<String>,
}

/// What the receiver calls for each webhook, after it is stored.
pub(crate) type ReceivedCallback =
    Arc<dyn Fn(&ReceivedEvent, &serde_json::Value, EventArrival) + Send + Sync>;

/// Whether an event is received for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventArrival {
    First,
    Duplicate,
}

/// The receiver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WebhookReceiver(Arc<WebhookReceiverInner>);

struct WebhookReceiverInner {
    verifier: RwLock<Option<Webhook>>,
    ledger: Mutex<ReceivedLedger>,
    on_received: ReceivedCallback,
}

#[derive(Default)]
struct ReceivedLedger {
    events: HashMap<String, ReceivedEvent>,
    file: Option<File>,
    rejected_count: u64,
    duplicate_count: u64,
}

impl WebhookReceiver {
    /// A receiver that appends each event to a file before it acknowledges it, and knows the events of earlier runs. A
    /// last line that a crash cut off is dropped: it was never acknowledged.
    pub(crate) fn open_durable(path: &Path, on_received: ReceivedCallback) -> anyhow::Result<Self> {
        let mut ledger = ReceivedLedger::default();
        let mut complete_bytes = 0;
        if path.exists() {
            let mut lines = BufReader::new(File::open(path)?);
            let mut line = String::new();
            while lines.read_line(&mut line)? > 0 {
                let Ok(received) = serde_json::from_str::<ReceivedEvent>(&line) else {
                    break;
                };
                complete_bytes += line.len() as u64;
                ledger.events.insert(received.id.clone(), received);
                line.clear();
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(complete_bytes)?;
        ledger.file = Some(file);
        Ok(Self::with_ledger(ledger, on_received))
    }

    fn with_ledger(ledger: ReceivedLedger, on_received: ReceivedCallback) -> Self {
        Self(Arc::new(WebhookReceiverInner {
            verifier: RwLock::new(None),
            ledger: Mutex::new(ledger),
            on_received,
        }))
    }

    /// Sets the secret that the app received when it set its webhook. Until then every webhook is rejected.
    pub(crate) fn set_signing_secret(&self, secret: &str) -> anyhow::Result<()> {
        let webhook = Webhook::new(secret).context("the signing secret is not usable")?;
        *self
            .0
            .verifier
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(webhook);
        Ok(())
    }

    /// The receiver's one route, `POST /hook`.
    pub(crate) fn webhook_router(&self) -> Router {
        Router::new()
            .route("/hook", post(receive_webhook))
            .with_state(self.clone())
    }

    /// Events received, each once.
    pub(crate) fn received_events(&self) -> Vec<ReceivedEvent> {
        self.lock_ledger().events.values().cloned().collect()
    }

    /// How many events were received, each once.
    pub(crate) fn len(&self) -> usize {
        self.lock_ledger().events.len()
    }

    /// Webhooks rejected for their signature.
    pub(crate) fn rejected_count(&self) -> u64 {
        self.lock_ledger().rejected_count
    }

    /// Webhooks of events that were received before.
    pub(crate) fn duplicate_count(&self) -> u64 {
        self.lock_ledger().duplicate_count
    }

    fn lock_ledger(&self) -> std::sync::MutexGuard<'_, ReceivedLedger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_verified(&self, body: &[u8], headers: &HeaderMap) -> bool {
        let verifier = self
            .0
            .verifier
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        verifier
            .as_ref()
            .is_some_and(|verifier| verifier.verify(body, headers).is_ok())
    }

    fn store_event(&self, received: &ReceivedEvent) -> anyhow::Result<EventArrival> {
        let mut ledger = self.lock_ledger();
        if ledger.events.contains_key(&received.id) {
            ledger.duplicate_count += 1;
            return Ok(EventArrival::Duplicate);
        }
        if let Some(file) = &mut ledger.file {
            let mut line = serde_json::to_vec(received)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        ledger.events.insert(received.id.clone(), received.clone());
        Ok(EventArrival::First)
    }
}

async fn receive_webhook(
    State(receiver): State<WebhookReceiver>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if !receiver.is_verified(&body, &headers) {
        receiver.lock_ledger().rejected_count += 1;
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    // A ping only checks that the endpoint responds.
    if event["event"] == "webhook.ping" {
        return StatusCode::OK;
    }
    let Some(received) = parse_event(&event) else {
        return StatusCode::BAD_REQUEST;
    };
    match receiver.store_event(&received) {
        Ok(arrival) => {
            (receiver.0.on_received)(&received, &event, arrival);
            StatusCode::OK
        }
        // An event that is not stored is not acknowledged, so it is sent again.
        Err(error) => {
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                "the receiver could not store an event"
            );
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// What the receiver stores of an event; `None` where a member is missing.
fn parse_event(event: &serde_json::Value) -> Option<ReceivedEvent> {
    let modified: HashSet<&str> = event
        .get("modified_transactions")
        .and_then(|rows| rows.as_array())
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("_id").or_else(|| row.get("id"))?.as_str())
        .collect();
    let added = event
        .get("transactions")
        .and_then(|rows| rows.as_array())
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("_id")?.as_str())
        .filter(|id| !modified.contains(id))
        .map(str::to_owned)
        .collect();
    Some(ReceivedEvent {
        id: event["event_id"].as_str()?.to_owned(),
        record: event["record"].as_str()?.to_owned(),
        seq: event["sequence"].as_u64()?,
        method: event["method"].as_str()?.to_owned(),
        added,
    })
}
